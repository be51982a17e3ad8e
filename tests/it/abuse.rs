//! What a caller can do to the daemon: hostile requests, slow clients, floods. The table of hostile
//! inputs is also the one in `deploy/SECURITY.md`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use contactd::clock::{self, Stopwatch};
use contactd::pb::v1::invalidate_contacts_request::Scope;
use contactd::pb::v1::{
    FindContactRequest, InvalidateContactsRequest, PhoneNumbers, PrefetchContactsRequest,
};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::{Code, Status};

use crate::support::daemon::{Changed as _, details};
use crate::support::program::Program;
use crate::support::wire::{FIND, HELLO, PING, call, connect, connect_from, frame, head, stall};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

const PREFETCH: &str = "/contactd.v1.ContactService/PrefetchContacts";
const INVALIDATE: &str = "/contactd.v1.ContactService/InvalidateContacts";

fn nested(levels: usize) -> Value {
    let leaf = Value {
        kind: Some(Kind::BoolValue(true)),
    };
    (1..levels).fold(leaf, |value, _| Value {
        kind: Some(Kind::ListValue(ListValue {
            values: vec![value],
        })),
    })
}

fn with_settings(value: Value) -> FindContactRequest {
    let mut request = find();
    let fields = [("x".to_owned(), value)].into_iter().collect();
    request.user.as_mut().unwrap().settings = Some(Struct { fields });
    request
}

fn text(length: usize) -> Value {
    Value {
        kind: Some(Kind::StringValue("x".repeat(length))),
    }
}

fn list(length: usize) -> Value {
    Value {
        kind: Some(Kind::ListValue(ListValue {
            values: vec![Value { kind: None }; length],
        })),
    }
}

fn additional() -> FindContactRequest {
    let mut request = with_settings(nested(17));
    let user = request.user.as_mut().unwrap();
    user.platform_additional_info = user.settings.take();
    request
}

fn raw(flag: u8, announced: u32, bytes: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u8(flag);
    body.put_u32(announced);
    body.put_slice(bytes);
    body.freeze()
}

fn prefetch(numbers: usize, length: usize) -> Bytes {
    let FindContactRequest {
        user, auth_header, ..
    } = find();
    let phone_numbers = vec!["1".repeat(length); numbers];
    frame(&PrefetchContactsRequest {
        user,
        auth_header,
        phone_numbers,
        overriding_formats: Vec::new(),
    })
}

/// What is sent, to which method, and what it gets.
fn inputs() -> Vec<(&'static str, &'static str, Bytes, &'static str)> {
    let id = |id: &str| frame(&find().user(id));
    let mut account = find();
    account.user.as_mut().unwrap().account_id = "x".repeat(513);
    let numbers = Some(Scope::Numbers(PhoneNumbers {
        phone_numbers: vec!["+16505551234".to_owned(); 10_001],
    }));
    let half = frame(&find());
    let twice = [frame(&find()), frame(&find())].concat();
    vec![
        (
            "a look-up of more than 64 KiB",
            FIND,
            frame(&find().auth(&"x".repeat(65 << 10))),
            "INVALID_ARGUMENT: request",
        ),
        (
            "a batch of more than 1 MiB",
            PREFETCH,
            prefetch(100, 11_000),
            "INVALID_ARGUMENT: request",
        ),
        (
            "a message that announces 4 GiB and ends",
            FIND,
            raw(0, u32::MAX, b"x"),
            "INVALID_ARGUMENT: request",
        ),
        (
            "a message that is cut off",
            FIND,
            half.slice(..half.len() - 3),
            "INVALID_ARGUMENT: request",
        ),
        (
            "two messages where one belongs",
            FIND,
            twice.into(),
            "INVALID_ARGUMENT: request",
        ),
        (
            "no message at all",
            FIND,
            Bytes::new(),
            "INVALID_ARGUMENT: request",
        ),
        (
            "bytes that are no protobuf",
            FIND,
            raw(0, 4, &[0xff; 4]),
            "INVALID_ARGUMENT: request",
        ),
        (
            "text that is not UTF-8",
            FIND,
            raw(0, 4, &[0x1a, 0x02, 0xff, 0xff]),
            "INVALID_ARGUMENT: request",
        ),
        (
            "a compressed message, bomb or not",
            FIND,
            raw(1, 4, b"bomb"),
            "UNIMPLEMENTED",
        ),
        (
            "settings nested 17 levels",
            FIND,
            frame(&with_settings(nested(17))),
            "INVALID_ARGUMENT: user.settings",
        ),
        (
            "settings nested 200 levels",
            FIND,
            frame(&with_settings(nested(200))),
            "INVALID_ARGUMENT: request",
        ),
        (
            "settings of more than 16 KiB",
            FIND,
            frame(&with_settings(text(17 << 10))),
            "INVALID_ARGUMENT: user.settings",
        ),
        (
            "settings of more than 1,000 values",
            FIND,
            frame(&with_settings(list(1001))),
            "INVALID_ARGUMENT: user.settings",
        ),
        (
            "the same in platform_additional_info",
            FIND,
            frame(&additional()),
            "INVALID_ARGUMENT: user.platform_additional_info",
        ),
        (
            "user.id of 513 bytes",
            FIND,
            id(&"x".repeat(513)),
            "INVALID_ARGUMENT: user.id",
        ),
        (
            "user.account_id of 513 bytes",
            FIND,
            frame(&account),
            "INVALID_ARGUMENT: user.account_id",
        ),
        (
            "user.platform of 60,000 bytes",
            FIND,
            frame(&find().platform(&"x".repeat(60_000))),
            "INVALID_ARGUMENT: user.platform",
        ),
        (
            "user.region of 60,000 bytes",
            FIND,
            frame(&find().region(&"x".repeat(60_000))),
            "INVALID_ARGUMENT: user.region",
        ),
        (
            "auth_header of 8,193 bytes",
            FIND,
            frame(&find().auth(&"x".repeat(8193))),
            "INVALID_ARGUMENT: auth_header",
        ),
        (
            "auth_header with a line break",
            FIND,
            frame(&find().auth("a\r\nb: c")),
            "INVALID_ARGUMENT: auth_header",
        ),
        (
            "phone_number of 60,000 digits",
            FIND,
            frame(&find().number(&"1".repeat(60_000))),
            "INVALID_ARGUMENT: phone_number",
        ),
        (
            "17 overriding_formats",
            FIND,
            frame(&find().formats(&["###"; 17])),
            "INVALID_ARGUMENT: overriding_formats",
        ),
        (
            "10,001 numbers to look up",
            PREFETCH,
            prefetch(10_001, 3),
            "INVALID_ARGUMENT: phone_numbers",
        ),
        (
            "10,001 numbers to invalidate",
            INVALIDATE,
            frame(&InvalidateContactsRequest {
                user: find().user,
                scope: numbers,
            }),
            "INVALID_ARGUMENT: numbers.phone_numbers",
        ),
        (
            "a method that is not there",
            "/contactd.v1.ContactService/Nothing",
            half,
            "UNIMPLEMENTED",
        ),
    ]
}

fn told(status: &Status) -> String {
    match status.code() {
        Code::InvalidArgument => {
            let details = details(status);
            assert_eq!(details.reason, "INVALID_REQUEST");
            format!("INVALID_ARGUMENT: {}", details.fields.join(", "))
        }
        Code::Unimplemented => "UNIMPLEMENTED".to_owned(),
        other => format!("{other:?}: {}", status.message()),
    }
}

#[tokio::test]
async fn each_hostile_input_gets_what_the_security_page_says() {
    let page = include_str!("../../deploy/SECURITY.md");
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    for (what, path, body, got) in inputs() {
        let status = call(&connect(daemon.grpc).await, head(daemon.grpc, path), body)
            .await
            .expect_err(what);
        assert_eq!(told(&status), got, "{what}");
        let row = format!("| {what} | {got} |");
        assert!(page.contains(&row), "deploy/SECURITY.md has no row\n{row}");
    }
    assert!(crm.seen().is_empty(), "none of them reached the CRM");
    assert!(daemon.find(find()).await.is_ok());
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let mut sender = connect(daemon.grpc).await.ready().await.unwrap();
    let mut request = head(daemon.grpc, FIND);
    for n in 0..20 {
        let name = format!("x-{n}").parse::<http::HeaderName>().unwrap();
        request
            .headers_mut()
            .insert(name, "x".repeat(1000).parse().unwrap());
    }
    let refused = match sender.send_request(request, true) {
        Ok((response, _)) => response.await.map(|response| response.status().as_u16()),
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(_) | Ok(431)), "{refused:?}");
    assert!(daemon.find(find()).await.is_ok());
}

#[tokio::test]
async fn half_a_request_holds_no_place_and_is_ended() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_in_flight = 2\n").await;
    let mut sender = connect(daemon.grpc).await.ready().await.unwrap();
    let mut half = || {
        let (response, mut upload) = sender.send_request(head(daemon.grpc, FIND), false).unwrap();
        upload.send_data(frame(&find()).slice(..20), false).unwrap();
        (response, upload)
    };
    let told = |response: http::Response<h2::RecvStream>| {
        let status = Status::from_header_map(response.headers()).unwrap();
        (status.code(), details(&status).reason)
    };
    let (oldest, _oldest) = half();
    let (_older, _upload) = half();
    let (newest, _newest) = half();
    let oldest = clock::timeout(Duration::from_secs(5), oldest)
        .await
        .expect("another one needs its room")
        .unwrap();
    assert_eq!(
        told(oldest),
        (Code::ResourceExhausted, "OVERLOADED".to_owned())
    );
    for _ in 0..20 {
        assert!(
            daemon.find(find()).await.is_ok(),
            "whole requests have places of their own"
        );
    }
    let newest = clock::timeout(Duration::from_secs(60), newest)
        .await
        .expect("it is ended")
        .unwrap();
    assert_eq!(
        told(newest),
        (Code::DeadlineExceeded, "REQUEST_TOO_SLOW".to_owned())
    );
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let mut silent = TcpStream::connect(daemon.grpc).await.unwrap();
    let mut bytes = Vec::new();
    let closed = clock::timeout(Duration::from_secs(60), silent.read_to_end(&mut bytes)).await;
    assert!(closed.is_some(), "it is closed, in good order or not");
}

#[tokio::test]
async fn who_takes_nothing_or_gives_no_sign_of_life_is_closed() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::over(&crm).await;
    let takes_nothing = async {
        let mut stream = TcpStream::connect(daemon.grpc).await.unwrap();
        stall(&mut stream).await;
        // On a busy machine the daemon may still be reading what it was sent.
        let mut taken = Stopwatch::start();
        let closed = async {
            while stream.write(PING).await.is_ok() {
                taken = Stopwatch::start();
            }
        };
        clock::timeout(Duration::from_secs(120), closed)
            .await
            .expect("it is closed");
        taken.elapsed().as_secs()
    };
    let says_nothing_more = async {
        let mut stream = TcpStream::connect(daemon.grpc).await.unwrap();
        stream.write_all(HELLO).await.unwrap();
        let watch = Stopwatch::start();
        let mut bytes = Vec::new();
        let closed = clock::timeout(Duration::from_secs(120), stream.read_to_end(&mut bytes)).await;
        assert!(closed.is_some(), "it is closed, in good order or not");
        watch.elapsed().as_secs()
    };
    let (stalled, silent) = tokio::join!(takes_nothing, says_nothing_more);
    // The lower bounds matter. The upper ones only exclude that the other limit has closed the
    // connection, which it would do later.
    assert!(
        (20..45).contains(&stalled),
        "closed {stalled} s after nothing was taken for 5 s"
    );
    assert!(
        (49..100).contains(&silent),
        "closed after {silent} s of silence"
    );
    assert!(daemon.find(find()).await.is_ok());
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed_at_once_and_places_come_back() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_connections = 2\n").await;
    let answered =
        |sender| async move { call(&sender, head(daemon.grpc, FIND), frame(&find())).await };
    let (one, two) = (connect(daemon.grpc).await, connect(daemon.grpc).await);
    assert!(answered(one.clone()).await.is_ok() && answered(two.clone()).await.is_ok());
    let mut third = TcpStream::connect(daemon.grpc).await.unwrap();
    let mut bytes = Vec::new();
    let closed = clock::timeout(Duration::from_secs(8), third.read_to_end(&mut bytes)).await;
    assert!(
        closed.is_some() && bytes.is_empty(),
        "it is closed long before a silent one would be"
    );
    drop((one, two));
    let again = async {
        loop {
            let stream = TcpStream::connect(daemon.grpc).await.unwrap();
            if h2::client::handshake(stream).await.is_ok() && daemon.find(find()).await.is_ok() {
                break;
            }
        }
    };
    clock::timeout(Duration::from_secs(30), again)
        .await
        .expect("places come back");
}

#[tokio::test]
async fn one_address_cannot_keep_the_others_out() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_connections = 20\n").await;
    let (mut idle, mut others) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        idle.push(connect(daemon.grpc).await);
    }
    // Each new address takes the place of one idle connection, which is then opened again.
    for n in 2..8 {
        let sender = connect_from(&format!("127.0.0.{n}"), daemon.grpc).await;
        let answered = clock::timeout(
            Duration::from_secs(5),
            call(&sender, head(daemon.grpc, FIND), frame(&find())),
        );
        assert!(answered.await.expect("it is not closed").is_ok());
        others.push(sender.clone());
        let mut again = TcpStream::connect(daemon.grpc).await.unwrap();
        let mut bytes = Vec::new();
        let closed = clock::timeout(Duration::from_secs(5), again.read_to_end(&mut bytes)).await;
        assert!(
            closed.is_some() && bytes.is_empty(),
            "who has most takes nobody else's place"
        );
    }
    drop((idle, others));
}

#[tokio::test]
async fn a_connection_is_told_to_end_at_its_age_and_cut_off_after_its_grace() {
    let crm = FakeCrm::start(|_| Reply::status(200).after(Duration::from_secs(600))).await;
    let more = "[grpc]\nmax_connection_age = \"1s\"\nmax_connection_age_grace = \"1s\"\n[lookup]\ntimeout = \"600s\"\n";
    let daemon = TestDaemon::with(
        &crm,
        "example",
        &more.replace("[lookup]", "[lookup]\ncall_timeout = \"600s\""),
    )
    .await;
    let sender = connect(daemon.grpc).await;
    let (addr, request) = (daemon.grpc, frame(&find()));
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    let held = tokio::spawn(async move { call(&sender, head(addr, FIND), request).await });
    let ended = clock::timeout(Duration::from_secs(60), held)
        .await
        .expect("it is cut off");
    let broken = ended
        .unwrap()
        .expect_err("the call that was held open breaks off");
    assert_eq!(broken.code(), Code::Aborted, "{broken}");
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_at_once_end_their_own_connection_only() {
    let crm = FakeCrm::with(vec![contact(1, "Ada", "+16505551234")]).await;
    let daemon = TestDaemon::over(&crm).await;
    let sender = connect(daemon.grpc).await;
    let flood = async {
        for _ in 0..100_000 {
            let Ok(mut sender) = sender.clone().ready().await else {
                return true;
            };
            let Ok((_, mut upload)) = sender.send_request(head(daemon.grpc, FIND), false) else {
                return true;
            };
            upload.send_reset(h2::Reason::CANCEL);
        }
        false
    };
    // Whether h2 sees a flood depends on who is faster; that others are answered meanwhile does
    // not.
    let (_, answer) = tokio::join!(
        clock::timeout(Duration::from_secs(20), flood),
        daemon.find(find())
    );
    assert!(answer.is_ok());
    assert!(daemon.find(find()).await.is_ok());
}

#[tokio::test]
async fn callers_with_tiny_deadlines_pile_up_no_loads() {
    let crm = FakeCrm::with(vec![]).await;
    let more = "[grpc]\nmax_in_flight = 2\n[lookup]\ntimeout = \"60s\"\ncall_timeout = \"60s\"\n";
    let daemon = TestDaemon::with(&crm, "example", more).await;
    for user in ["user", "other"] {
        daemon
            .find(find().user(user))
            .await
            .expect("the CRM accepts the credential");
    }
    crm.becomes(|seen| crate::support::crm::example(seen, &[]).after(Duration::from_secs(30)));
    let ask = |user: &str, n: u32| {
        let request = find()
            .user(user)
            .number(&format!("+1650555{n:04}"))
            .within(Duration::from_millis(200));
        let mut client = daemon.client.clone();
        async move { client.find_contact(request).await }
    };
    let overloaded = |status: Status| {
        let details = details(&status);
        assert_eq!(
            (status.code(), details.reason.as_str()),
            (Code::ResourceExhausted, "OVERLOADED")
        );
        assert!(details.retry_after.is_some());
    };
    for n in 0..2 {
        assert_eq!(
            ask("user", n).await.unwrap_err().code(),
            Code::DeadlineExceeded
        );
        eventually("its load runs on", || crm.searches() == n as usize + 3).await;
    }
    for n in 2..50 {
        overloaded(ask("user", n).await.unwrap_err());
    }
    assert_eq!(
        ask("user", 0).await.unwrap_err().code(),
        Code::DeadlineExceeded,
        "a load under way is joined"
    );
    assert_eq!(
        ask("other", 0).await.unwrap_err().code(),
        Code::DeadlineExceeded,
        "another user has places"
    );
    eventually("and a load", || crm.searches() == 5).await;
}

#[tokio::test]
async fn prefetch_jobs_beyond_the_limit_are_refused_until_one_ends() {
    let slow = Reply::json(serde_json::json!({"contacts": [], "next_page": null}))
        .after(Duration::from_secs(30));
    let crm = FakeCrm::start(move |_| slow.clone()).await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_prefetch_jobs = 1\n").await;
    let request = || {
        let FindContactRequest {
            user,
            auth_header,
            phone_number,
            ..
        } = find();
        let phone_numbers = vec![phone_number];
        PrefetchContactsRequest {
            user,
            auth_header,
            phone_numbers,
            ..Default::default()
        }
    };
    let mut client = daemon.client.clone();
    let first = client.prefetch_contacts(request()).await.unwrap();
    let status = client.prefetch_contacts(request()).await.unwrap_err();
    assert_eq!(
        (status.code(), details(&status).reason.as_str()),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    drop(first);
    let again = async {
        while client.prefetch_contacts(request()).await.is_err() {
            clock::sleep(Duration::from_millis(20)).await;
        }
    };
    clock::timeout(Duration::from_secs(10), again)
        .await
        .expect("the place comes back");
}

/// Kibibytes of a line of `/proc/PID/status`.
fn memory(pid: u32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|text| text.strip_prefix(line))
        .unwrap();
    line.trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_under_its_ceiling_in_a_flood_of_large_requests_and_answers() {
    const CACHE: u64 = 8 << 10;
    const CALLS: u64 = 16;
    const REPLY: u64 = 256;
    const DEALS: u64 = 200;
    const TITLE: usize = 500;
    let deals: Vec<_> = (0..DEALS)
        .map(|id| serde_json::json!({"id": id, "title": "x".repeat(TITLE)}))
        .collect();
    // The number comes back in the record, so that it is verified and kept, with as many deals as
    // an answer takes.
    let crm = FakeCrm::start(move |seen| match seen.param("phone") {
        Some(phone) => crate::support::crm::example(seen, &[contact(1, "Ada", phone)]),
        None => Reply::json(serde_json::json!({"deals": deals, "next_page": null})),
    })
    .await;
    let program = Program::start(&format!(
        "[grpc]\nmax_in_flight = {CALLS}\n[cache]\nmemory = \"{CACHE}KiB\"\n[lookup]\nmax_reply = \"{REPLY}KiB\"\n\
         [connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n\
         quota = {{ rate = 10000, per = \"1s\", burst = 10000, scope = \"user\", prefetch_share = 0.5 }}\n",
        crm.url()
    ))
    .await;
    let addr: SocketAddr = program.grpc.trim_start_matches("http://").parse().unwrap();
    let sender = connect(addr).await;
    call(&sender, head(addr, FIND), frame(&find()))
        .await
        .unwrap();
    let (pid, before) = (program.pid(), memory(program.pid(), "VmRSS"));
    // The cache with its overhead; for each load (two a call) the reply as bytes, as JSON and as an
    // answer; for each call its request and its answer; and what the allocator keeps for itself.
    let ceiling = before + CACHE * 2 + 2 * CALLS * REPLY * 6 + CALLS * 64 * 4 + (48 << 10);

    let mut moved = 0_u64;
    let large = "x".repeat(40 << 10);
    for round in 0..1000_u32 {
        if moved > ceiling {
            break;
        }
        let calls = (0..40_u32).map(|n| {
            let sender = sender.clone();
            let mut request = find().number(&format!("+1650{:07}", 2_000_000 + round * 40 + n));
            if n % 4 == 3 {
                request.overriding_formats = vec![large.clone()];
            }
            async move { call(&sender, head(addr, FIND), frame(&request)).await }
        });
        let answers = futures_util::future::join_all(calls).await;
        moved += answers
            .iter()
            .flatten()
            .map(|answer| answer.len() as u64)
            .sum::<u64>()
            / 1024;
        // And requests that never end, which hold a few bytes each.
        for _ in 0..4 {
            let Ok(mut sender) = connect(addr).await.ready().await else {
                continue;
            };
            let Ok((_, mut upload)) = sender.send_request(head(addr, FIND), false) else {
                continue;
            };
            let _ = upload.send_data(Bytes::from(vec![0; 16 << 10]), false);
        }
    }
    let peak = memory(pid, "VmHWM");
    assert!(
        peak < ceiling,
        "{peak} KiB at most, where {ceiling} are the ceiling; {before} before"
    );
    assert!(
        moved > ceiling,
        "{moved} KiB: a daemon that keeps what it answers would be above {ceiling} by now"
    );
    let again = async {
        while call(&connect(addr).await, head(addr, FIND), frame(&find()))
            .await
            .is_err()
        {
            clock::sleep(Duration::from_millis(100)).await;
        }
    };
    clock::timeout(Duration::from_secs(30), again)
        .await
        .expect("it still answers");
}

#[tokio::test]
async fn calls_that_are_taken_keep_their_time_while_others_are_refused() {
    let crm = FakeCrm::start(|seen| {
        crate::support::crm::example(seen, &[]).after(Duration::from_millis(300))
    })
    .await;
    let daemon = TestDaemon::with(&crm, "example", "[grpc]\nmax_in_flight = 8\n").await;
    let calls = (0..400).map(|n| {
        let daemon = &daemon;
        async move {
            let stopwatch = Stopwatch::start();
            let answer = daemon
                .find(find().number(&format!("+1650{:07}", 2_000_000 + n)))
                .await;
            (answer.is_ok(), stopwatch.elapsed())
        }
    });
    let (taken, refused): (Vec<_>, Vec<_>) = futures_util::future::join_all(calls)
        .await
        .into_iter()
        .partition(|(answered, _)| *answered);
    assert!(
        taken.len() >= 8 && refused.len() > 100,
        "{} taken, {} refused",
        taken.len(),
        refused.len()
    );
    // In a queue before eight places the last of four hundred would wait for fifteen seconds.
    assert!(
        taken
            .iter()
            .chain(&refused)
            .all(|(_, took)| *took < Duration::from_secs(5))
    );
}
