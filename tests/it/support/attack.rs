//! Attackers in a process of their own, which is this test program again, pinned to one core. They
//! have a CRM of their own, which the daemon calls as the platform "evil".

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use contactd::pb::v1::invalidate_contacts_request::Scope;
use contactd::pb::v1::{InvalidateContactsRequest, PhoneNumbers, PrefetchContactsRequest};
use futures_util::future::{join_all, pending};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::daemon::{Changed as _, find};
use super::wire::{FIND, call, connect, frame, head};

const PLAN: &str = "CONTACTD_TEST_ATTACK";

/// Connections that idle attackers hold: more than the daemon takes.
const CONNECTIONS: usize = 300;

/// What the attackers say when they have begun.
const BEGUN: &str = "the attack has begun";

/// What they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Attack {
    /// Requests that never become whole, 256 on each of five connections.
    HalfRequests,
    /// Look-ups under false tokens whose callers leave after 5 ms.
    SmallDeadlines,
    /// 150 look-ups in a CRM that hangs: most of the places that one CRM gets.
    HangingCrm,
    /// Eight look-ups in a CRM that sends early hints without end.
    EarlyHints,
    /// Eight look-ups at once, again and again, in a CRM that answers with 24,000 records without
    /// phones.
    ManyRecords,
    /// Window updates without end on eight connections.
    WindowUpdates,
    /// The same of priorities.
    Priorities,
    /// 10,000 numbers are forgotten, again and again.
    Invalidations,
    /// More connections than there are places, from one address, opened again as often as they are
    /// closed.
    Connections,
    /// Batches of 16 users whose CRM wants them to rest.
    RestingBatches,
}

/// Attackers at work, until they are dropped.
pub(crate) struct Attackers(Child);

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Attackers {
    /// Starts them against a daemon, and waits until they have begun. Their CRM listens at `crm`.
    pub(crate) async fn start(attack: Attack, daemon: SocketAddr, crm: u16) -> Self {
        let plan = serde_json::to_string(&(attack, daemon, crm)).unwrap();
        let mut child = Command::new("taskset")
            .args(["-c", "0"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "fairness::attacks::as_a_process_of_its_own",
                "--ignored",
                "--nocapture",
            ])
            .env(PLAN, plan)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let begun =
            tokio::task::spawn_blocking(move || lines.any(|line| line.unwrap().contains(BEGUN)));
        assert!(begun.await.unwrap(), "the attackers begin");
        Self(child)
    }
}

/// What the attackers' process does.
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "this is how the processes talk"
)]
pub(crate) async fn attack() {
    let Ok(plan) = std::env::var(PLAN) else {
        return;
    };
    let (attack, daemon, crm): (Attack, SocketAddr, u16) = serde_json::from_str(&plan).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", crm)).await.unwrap();
    tokio::join!(serve(attack, listener), async {
        println!("{BEGUN}");
        run(attack, daemon).await;
    });
}

async fn run(attack: Attack, daemon: SocketAddr) {
    match attack {
        Attack::HalfRequests => all((0..5).map(|_| halves(daemon))).await,
        Attack::SmallDeadlines => all((0..4).map(|n| deadlines(daemon, n))).await,
        Attack::HangingCrm => all((0..6).map(|n| many(daemon, n, 25))).await,
        Attack::EarlyHints | Attack::ManyRecords => many(daemon, 0, 8).await,
        Attack::WindowUpdates => {
            all((0..8).map(|_| frames(daemon, b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01"))).await
        }
        Attack::Priorities => {
            all((0..8).map(|_| frames(daemon, b"\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\x10"))).await
        }
        Attack::Connections => all((0..CONNECTIONS).map(|_| idle(daemon))).await,
        Attack::RestingBatches => all((0..16).map(|n| batches(daemon, n))).await,
        Attack::Invalidations => all((0..8).map(|n| invalidations(daemon, n))).await,
    }
}

async fn all(attackers: impl Iterator<Item = impl Future<Output = ()>>) {
    join_all(attackers).await;
}

fn number(n: u32) -> String {
    format!("+1650{:07}", 2_000_000 + n)
}

async fn halves(daemon: SocketAddr) {
    let sender = connect(daemon).await;
    let half = || async {
        loop {
            let Ok(mut ready) = sender.clone().ready().await else {
                return;
            };
            let Ok((response, mut upload)) = ready.send_request(head(daemon, FIND), false) else {
                return;
            };
            let _ = upload.send_data(Bytes::from_static(&[0; 20]), false);
            let _ = response.await;
        }
    };
    all((0..256).map(|_| half())).await;
}

async fn deadlines(daemon: SocketAddr, connection: u32) {
    let sender = connect(daemon).await;
    let leave = |task: u32| {
        let sender = sender.clone();
        async move {
            for n in 0.. {
                let number = number((connection * 16 + task) * 10_000 + n % 10_000);
                let request = find()
                    .platform("evil")
                    .user("victim")
                    .auth(&format!("false {task}"))
                    .number(&number);
                let mut head = head(daemon, FIND);
                head.headers_mut()
                    .insert("grpc-timeout", "5m".parse().unwrap());
                let _ = call(&sender, head, frame(&request)).await;
            }
        }
    };
    all((0..16).map(leave)).await;
}

/// So many look-ups at once, again and again.
async fn many(daemon: SocketAddr, connection: u32, tasks: u32) {
    let sender = connect(daemon).await;
    let ask = |task: u32| {
        let sender = sender.clone();
        async move {
            for n in 0_u32.. {
                let number = number((connection * tasks + task) * 100 + n % 100);
                let request = find()
                    .platform("evil")
                    .user(&format!("evil {task}"))
                    .number(&number);
                let _ = call(&sender, head(daemon, FIND), frame(&request)).await;
            }
        }
    };
    all((0..tasks).map(ask)).await;
}

/// The first words of HTTP/2.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";

async fn frames(daemon: SocketAddr, frame: &[u8]) {
    let many = frame.repeat(1_000);
    loop {
        let Ok(mut stream) = TcpStream::connect(daemon).await else {
            continue;
        };
        let _ = stream.write_all(HELLO).await;
        while stream.write_all(&many).await.is_ok() {}
    }
}

async fn idle(daemon: SocketAddr) {
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        if let Ok(mut stream) = socket.connect(daemon).await {
            let _ = stream.write_all(HELLO).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    }
}

async fn batches(daemon: SocketAddr, user: u32) {
    let sender = connect(daemon).await;
    let (of, phone_numbers) = (
        find().platform("evil").user(&format!("evil {user}")),
        (0..1_000).map(number).collect(),
    );
    let (user, auth_header) = (of.user, of.auth_header);
    let request = frame(&PrefetchContactsRequest {
        user,
        auth_header,
        phone_numbers,
        ..Default::default()
    });
    loop {
        let path = "/contactd.v1.ContactService/PrefetchContacts";
        let _ = call(&sender, head(daemon, path), request.clone()).await;
    }
}

async fn invalidations(daemon: SocketAddr, connection: u32) {
    let sender = connect(daemon).await;
    let phone_numbers = (0..10_000)
        .map(|n| number(connection * 10_000 + n))
        .collect();
    let scope = Some(Scope::Numbers(PhoneNumbers { phone_numbers }));
    let request = frame(&InvalidateContactsRequest {
        user: find().user("noisy").user,
        scope,
    });
    loop {
        let path = "/contactd.v1.ContactService/InvalidateContacts";
        let _ = call(&sender, head(daemon, path), request.clone()).await;
    }
}

const REST: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 600\r\ncontent-length: 0\r\n\r\n";

/// The attackers' CRM.
async fn serve(attack: Attack, listener: TcpListener) {
    let records: Vec<_> = (0..24_000)
        .map(|n| json!({"id": n, "name": "Somebody", "kind": "person", "phones": []}))
        .collect();
    let body = json!({"contacts": records, "next_page": null}).to_string();
    let reply = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply: &'static [u8] = Box::leak(reply.into_bytes().into_boxed_slice());
    let hints: &'static [u8] = Box::leak(
        b"HTTP/1.1 103 Early Hints\r\n\r\n"
            .repeat(4_000)
            .into_boxed_slice(),
    );
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            continue;
        };
        connections.spawn(async move {
            let mut heard = [0; 4096];
            while stream.read(&mut heard).await.is_ok_and(|read| read > 0) {
                match attack {
                    Attack::RestingBatches => drop(stream.write_all(REST).await),
                    Attack::ManyRecords => drop(stream.write_all(reply).await),
                    Attack::EarlyHints => while stream.write_all(hints).await.is_ok() {},
                    _ => pending().await,
                }
            }
        });
    }
}
