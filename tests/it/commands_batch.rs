//! `contactd prefetch` and `contactd invalidate` against a scripted service, and the demo as a
//! whole.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use contactd::clock;
use contactd::grpc::server::{ContactService, ContactServiceServer};
use contactd::grpc::{FindReply, WatchReply};
use contactd::pb::v1::invalidate_contacts_request::Scope;
use contactd::pb::v1::prefetch_contacts_response::Event;
use contactd::pb::v1::{
    ExplainContactRequest, ExplainContactResponse, FindContactRequest, InvalidateContactsRequest,
    InvalidateContactsResponse, PhoneNumbers, PrefetchContactsRequest, PrefetchContactsResponse,
    PrefetchFinished, PrefetchOutcome, PrefetchResult, PrefetchStarted,
};
use futures_util::{Stream, StreamExt as _, stream};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::commands::{contactd, run, text};
use crate::support::chaos::ChaosProxy;
use crate::support::eventually;

/// How a scripted batch goes on after its results.
#[derive(Debug, Clone, Copy)]
enum End {
    Finished,
    /// The stream ends without a summary.
    Nothing,
    Status(tonic::Code),
    /// Nothing more comes.
    Silence,
}

/// The service: each number of a batch ends as its last digit says, 0 not found, 8 failed, 9
/// invalid, else found.
#[derive(Clone)]
struct Scripted {
    end: End,
    /// Results before the end; all where there is no limit.
    results: usize,
    batches: Arc<Mutex<Vec<Batch>>>,
    forgotten: Arc<Mutex<Vec<InvalidateContactsRequest>>>,
}

#[derive(Debug, Clone)]
struct Batch {
    request: PrefetchContactsRequest,
    has_deadline: bool,
}

type Events = Pin<Box<dyn Stream<Item = Result<PrefetchContactsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ContactService for Scripted {
    type WatchContactStream = Pin<Box<dyn Stream<Item = Result<WatchReply, Status>> + Send>>;
    type PrefetchContactsStream = Events;

    async fn find_contact(
        &self,
        _: Request<FindContactRequest>,
    ) -> Result<Response<FindReply>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn watch_contact(
        &self,
        _: Request<FindContactRequest>,
    ) -> Result<Response<Self::WatchContactStream>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn prefetch_contacts(
        &self,
        request: Request<PrefetchContactsRequest>,
    ) -> Result<Response<Events>, Status> {
        let has_deadline = request.metadata().contains_key("grpc-timeout");
        let request = request.into_inner();
        let numbers = request.phone_numbers.clone();
        self.batches.lock().push(Batch {
            request,
            has_deadline,
        });
        if let (0, End::Status(code)) = (self.results, self.end) {
            return Err(Status::new(code, "scripted"));
        }
        Ok(Response::new(self.script(&numbers)))
    }

    async fn invalidate_contacts(
        &self,
        request: Request<InvalidateContactsRequest>,
    ) -> Result<Response<InvalidateContactsResponse>, Status> {
        if let End::Status(code) = self.end {
            return Err(Status::new(code, "scripted"));
        }
        self.forgotten.lock().push(request.into_inner());
        Ok(Response::new(InvalidateContactsResponse {}))
    }

    async fn explain_contact(
        &self,
        _: Request<ExplainContactRequest>,
    ) -> Result<Response<ExplainContactResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

impl Scripted {
    fn script(&self, numbers: &[String]) -> Events {
        let total = u32::try_from(numbers.len()).unwrap();
        let mut finished = PrefetchFinished {
            crm_requests: total * 2,
            elapsed: Some(prost_types::Duration {
                seconds: 4,
                nanos: 200_000_000,
            }),
            ..Default::default()
        };
        let mut events = vec![Event::Started(PrefetchStarted {
            requested: total + 5,
            distinct: total,
            already_cached: 0,
        })];
        for (number, done) in numbers.iter().take(self.results).zip(1..) {
            let (outcome, count, reason) = match number.chars().last() {
                Some('0') => (PrefetchOutcome::NotFound, &mut finished.not_found, ""),
                Some('8') => (
                    PrefetchOutcome::Failed,
                    &mut finished.failed,
                    "CRM_UNAVAILABLE",
                ),
                Some('9') => (
                    PrefetchOutcome::InvalidNumber,
                    &mut finished.invalid,
                    "too short",
                ),
                _ => (PrefetchOutcome::Found, &mut finished.found, ""),
            };
            *count += 1;
            events.push(Event::Result(PrefetchResult {
                phone_number: number.clone(),
                outcome: outcome.into(),
                match_count: 1,
                reason: reason.to_owned(),
                done,
                total,
            }));
        }
        let last = match self.end {
            End::Finished => stream::iter([Ok(of(Event::Finished(finished)))]).boxed(),
            End::Nothing => stream::empty().boxed(),
            End::Status(code) => stream::iter([Err(Status::new(code, "scripted"))]).boxed(),
            End::Silence => stream::pending().boxed(),
        };
        stream::iter(events.into_iter().map(|event| Ok(of(event))))
            .chain(last)
            .boxed()
    }
}

fn of(event: Event) -> PrefetchContactsResponse {
    PrefetchContactsResponse { event: Some(event) }
}

/// The service on a free port.
struct Service {
    addr: SocketAddr,
    url: String,
    script: Scripted,
    task: JoinHandle<()>,
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    async fn start(end: End, results: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let script = Scripted {
            end,
            results,
            batches: Arc::default(),
            forgotten: Arc::default(),
        };
        let routes = Server::builder().add_service(ContactServiceServer::new(script.clone()));
        #[expect(clippy::disallowed_methods, reason = "ends with the test")]
        let task = tokio::spawn(async move {
            routes
                .serve_with_incoming(TcpIncoming::from(listener))
                .await
                .unwrap()
        });
        Self {
            addr,
            url: format!("http://{addr}"),
            script,
            task,
        }
    }

    /// A service that answers everything.
    async fn willing() -> Self {
        Self::start(End::Finished, usize::MAX).await
    }

    /// `contactd prefetch` with a list on standard input.
    async fn prefetch(&self, numbers: &str, more: &[&str]) -> Output {
        let mut args = vec!["prefetch", "--server", &self.url];
        args.extend(more);
        fed(contactd(&args), numbers).await
    }

    /// The numbers of the one batch that came.
    fn numbers(&self) -> Vec<String> {
        let batches = self.script.batches.lock();
        assert_eq!(batches.len(), 1);
        batches[0].request.phone_numbers.clone()
    }
}

fn begin(mut command: Command, input: &str) -> Child {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child
}

async fn end(child: Child) -> Output {
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    clock::timeout(Duration::from_secs(30), ended)
        .await
        .expect("the command ends")
        .unwrap()
}

async fn fed(command: Command, input: &str) -> Output {
    end(begin(command, input)).await
}

fn told(output: &Output) -> String {
    text(&output.stdout) + &text(&output.stderr)
}

#[tokio::test]
async fn prefetch_reads_a_list_from_standard_input_and_sends_it_in_order() {
    let service = Service::willing().await;
    let list = "# newest first\r\n+1 650 555 1234\r\n\r\n+16505550000\r\n";
    let common = [
        "--user-id",
        "42",
        "--account-id",
        "7",
        "--region",
        "US",
        "--format",
        "(###) ###-####",
    ];
    let output = service.prefetch(list, &common).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    let batch = service.script.batches.lock()[0].clone();
    assert_eq!(
        batch.request.phone_numbers,
        ["+1 650 555 1234", "+16505550000"]
    );
    assert_eq!(batch.request.auth_header, "Bearer token-1");
    assert_eq!(batch.request.overriding_formats, ["(###) ###-####"]);
    let user = batch.request.user.unwrap();
    assert_eq!(
        (&*user.id, &*user.platform, &*user.account_id, &*user.region),
        ("42", "example", "7", "US")
    );
    assert!(!batch.has_deadline, "a batch takes as long as it needs");

    let table = text(&output.stdout);
    for row in [
        "7 numbers, 2 different",
        "found                1",
        "CRM calls            4",
        "time             4.2 s",
    ] {
        assert!(table.contains(row), "{row:?} in {table}");
    }
    assert!(
        text(&output.stderr).contains("2 of 2 numbers"),
        "{}",
        text(&output.stderr)
    );
}

#[tokio::test]
async fn prefetch_reads_the_column_of_a_csv_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let service = Service::willing().await;
    let csv = file(
        "calls.csv",
        "\u{feff}Name,Phone_Number\r\n\"Doe, Jane\",+16505551234\r\nRoe,\"+1 650 555 1235\"\r\n",
    );
    let output = service.prefetch("", &[&csv]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(service.numbers(), ["+16505551234", "+1 650 555 1235"]);

    let without = file("names.csv", "name,contact\nJane,+16505551234\n");
    let many = file("many.txt", &"+16505551234\n".repeat(10_001));
    for (args, input, words) in [
        (vec![without.as_str()], "", "\"name\", \"contact\""),
        (
            vec![&csv, "--column", "mobile"],
            "",
            "\"Name\", \"Phone_Number\"",
        ),
        (
            vec!["-"],
            "Phone\n1.41556E+10\n",
            "format the column as text",
        ),
        (vec![&many], "", "10001 numbers"),
        (
            vec!["-"],
            "PK\u{3}\u{4}xl/workbook.xml,phone\n",
            "standard input is an Excel workbook; save it as CSV",
        ),
        (vec!["/no/such/file"], "", "/no/such/file"),
        (
            vec!["-"],
            "# nothing yet\n",
            "standard input holds no numbers",
        ),
        (vec![&csv, "--output", "xml"], "", "xml"),
    ] {
        let output = service.prefetch(input, &args).await;
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", told(&output));
        assert!(
            text(&output.stderr).contains(words),
            "{args:?}: {}",
            told(&output)
        );
    }
    assert_eq!(
        service.script.batches.lock().len(),
        1,
        "none of these reached the daemon"
    );
}

#[tokio::test]
async fn prefetch_reads_what_spreadsheets_export_and_says_which_numbers_they_have_spoilt() {
    let service = Service::willing().await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("Calls.txt");
    // "Unicode text" of Excel.
    let table = "Name\tPhone Number\t\r\n\"Doe\n Jane\"\t14155550123.0\t\r\nRoe\t1.4155550124E+10\t\r\n\
                 Poe\t1.41556E+10\t\r\n";
    let units = std::iter::once(0xfeff).chain(table.encode_utf16());
    std::fs::write(&path, units.flat_map(u16::to_le_bytes).collect::<Vec<u8>>()).unwrap();
    let file = path.to_str().unwrap();
    let output = service.prefetch("", &[file]).await;
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    assert_eq!(service.numbers(), ["14155550123", "14155550124"]);
    assert!(
        text(&output.stderr)
            .contains("1.41556E+10 is invalid: has lost its last digits in a spreadsheet"),
        "{}",
        told(&output)
    );
    for row in ["8 numbers, 3 different", "invalid              1"] {
        assert!(
            text(&output.stdout).contains(row),
            "{row:?} in {}",
            told(&output)
        );
    }
    let output = service.prefetch("", &[file, "--output", "json"]).await;
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        summary["problems"][0]["phoneNumber"], "1.41556E+10",
        "{summary}"
    );
    assert_eq!(
        (&summary["invalid"], &summary["distinct"]),
        (&1.into(), &3.into())
    );

    let semicolons = "Anrufer;Dauer\n+16505551234;7\n";
    let output = service.prefetch(semicolons, &["--column", "anrufer"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
}

#[tokio::test]
async fn ten_thousand_numbers_are_one_batch() {
    let service = Service::willing().await;
    let list: String = (0..10_000)
        .map(|number| format!("+1650{number:06}1\n"))
        .collect();
    let output = service.prefetch(&list, &[]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert_eq!(service.numbers().len(), 10_000);
}

#[tokio::test]
async fn numbers_without_an_answer_are_named_and_make_the_exit_code_4() {
    let service = Service::willing().await;
    let list = "+16505551234\n+16505550000\n+16505550008\n+19\n";
    let output = service.prefetch(list, &[]).await;
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    let lines = text(&output.stderr);
    assert!(
        lines.contains("+16505550008 failed: CRM_UNAVAILABLE\n+19 is invalid: too short\n"),
        "{lines}"
    );

    let output = service.prefetch(list, &["--output", "json"]).await;
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        summary,
        json!({
            "found": 1, "notFound": 1, "alreadyCached": 0, "invalid": 1, "failed": 1, "crmRequests": 8,
            "elapsed": "4.200s", "requested": 9, "distinct": 4, "complete": false, "error": null,
            "problems": [
                {"phoneNumber": "+16505550008", "outcome": "PREFETCH_OUTCOME_FAILED", "reason": "CRM_UNAVAILABLE"},
                {"phoneNumber": "+19", "outcome": "PREFETCH_OUTCOME_INVALID_NUMBER", "reason": "too short"},
            ],
        })
    );
}

#[tokio::test]
async fn a_daemon_that_ends_before_each_number_was_reached_is_a_batch_in_part() {
    let service = Service::start(End::Finished, 1).await;
    let output = service
        .prefetch("+16505551234\n+16505551235\n+16505551236\n", &[])
        .await;
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    assert!(
        text(&output.stdout).contains("not reached          2"),
        "{}",
        told(&output)
    );
}

#[tokio::test]
async fn a_batch_that_breaks_off_tells_how_far_it_came() {
    let list = "+16505551234\n+16505550000\n+16505551236\n";
    for (end, results, code, words) in [
        (End::Nothing, 2, 1, "the daemon ended the batch early"),
        (
            End::Status(tonic::Code::Unavailable),
            2,
            1,
            "Unavailable: scripted",
        ),
        (
            End::Status(tonic::Code::Unauthenticated),
            0,
            1,
            "Unauthenticated: scripted",
        ),
        (
            End::Status(tonic::Code::InvalidArgument),
            0,
            2,
            "InvalidArgument: scripted",
        ),
        (End::Silence, 2, 1, "the time limit passed"),
    ] {
        let service = Service::start(end, results).await;
        let limit: &[&str] = if matches!(end, End::Silence) {
            &["--timeout", "1s"]
        } else {
            &[]
        };
        let output = service.prefetch(list, limit).await;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{end:?}: {}",
            told(&output)
        );
        let far = if results == 0 {
            "No number was looked up"
        } else {
            "2 of 3 numbers (1 found, 1 not found)"
        };
        let message = text(&output.stderr);
        assert!(
            message.contains(words) && message.contains(far),
            "{end:?}: {message}"
        );
        assert!(output.stdout.is_empty());

        let output = service
            .prefetch(list, &[limit, &["--output", "json"]].concat())
            .await;
        assert_eq!(
            output.status.code(),
            Some(code),
            "{end:?}: {}",
            told(&output)
        );
        let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(summary["found"], u64::from(results > 0));
        assert_eq!(summary["complete"], false);
        assert!(
            summary["error"].as_str().unwrap().contains(words),
            "{summary}"
        );
        assert!(
            service
                .script
                .batches
                .lock()
                .iter()
                .all(|batch| batch.has_deadline != limit.is_empty())
        );
    }
}

/// A batch that waits in the middle.
async fn waiting(service: &Service, url: &str) -> Child {
    let list = "+16505551234\n+16505550008\n+16505551236\n";
    let child = begin(contactd(&["prefetch", "--server", url]), list);
    eventually("the batch is under way", || {
        !service.script.batches.lock().is_empty()
    })
    .await;
    // The results are on their way; nothing tells that they were read.
    clock::sleep(Duration::from_millis(500)).await;
    child
}

#[tokio::test]
async fn ctrl_c_ends_the_batch_and_a_cut_connection_is_told() {
    let service = Service::start(End::Silence, 2).await;
    let child = waiting(&service, &service.url).await;
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    let message = text(&output.stderr);
    assert!(
        message.contains("stopped")
            && message.contains("2 of 3 numbers (1 found, 0 not found, 1 failed)"),
        "{message}"
    );

    service.script.batches.lock().clear();
    let proxy = ChaosProxy::before(service.addr).await;
    let child = waiting(&service, &format!("http://{}", proxy.addr)).await;
    proxy.hang_up();
    let output = end(child).await;
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        text(&output.stderr).contains("2 of 3 numbers"),
        "{}",
        told(&output)
    );
}

#[tokio::test]
async fn on_a_terminal_there_is_a_bar() {
    let service = Service::willing().await;
    let list = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(list.path(), "+16505551234\n+16505550008\n").unwrap();
    let line = format!(
        "stty cols 120; {} prefetch {} --server {}",
        env!("CARGO_BIN_EXE_contactd"),
        list.path().display(),
        service.url
    );
    let mut command = Command::new("script");
    command
        .args(["-qec", &line, "/dev/null"])
        .env("CONTACTD_AUTH_HEADER", "Bearer token-1")
        .env("TERM", "xterm");
    let output = fed(command, "").await;
    let screen = text(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{screen}");
    assert!(
        screen.contains('\u{2588}') && screen.contains("/2 in 0s"),
        "{screen}"
    );
    assert!(
        screen.contains("+16505550008 failed") && screen.contains("CRM calls"),
        "{screen}"
    );
}

#[tokio::test]
async fn invalidate_forgets_numbers_or_everything_and_needs_no_credential() {
    let service = Service::willing().await;
    let invalidate = |more: &[&str]| {
        let mut command = contactd(&["invalidate", "--server", &service.url, "--user-id", "42"]);
        command.args(more).env_remove("CONTACTD_AUTH_HEADER");
        run(command)
    };
    let output = invalidate(&["+16505551234", "(650) 555-1235", "--region", "US"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        text(&output.stdout).contains("2 numbers of user \"42\" on platform \"example\""),
        "{}",
        told(&output)
    );
    let output = invalidate(&["--everything"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(
        text(&output.stdout).contains("all stored answers of user \"42\""),
        "{}",
        told(&output)
    );

    for wrong in [&[][..], &["--everything", "+16505551234"]] {
        assert_eq!(invalidate(wrong).await.status.code(), Some(2), "{wrong:?}");
    }
    let forgotten = service.script.forgotten.lock();
    let numbers = ["+16505551234", "(650) 555-1235"]
        .map(str::to_owned)
        .to_vec();
    let scopes: Vec<_> = forgotten
        .iter()
        .map(|request| request.scope.clone().unwrap())
        .collect();
    assert_eq!(
        scopes,
        [
            Scope::Numbers(PhoneNumbers {
                phone_numbers: numbers
            }),
            Scope::Everything(true)
        ]
    );
    let user = forgotten[0].user.as_ref().unwrap();
    assert_eq!((&*user.id, &*user.region), ("42", "US"));
}

#[tokio::test]
async fn invalidate_that_fails_says_so() {
    for (status, code) in [
        (tonic::Code::Unavailable, 1),
        (tonic::Code::InvalidArgument, 2),
    ] {
        let service = Service::start(End::Status(status), 0).await;
        let output = run(contactd(&[
            "invalidate",
            "--everything",
            "--server",
            &service.url,
        ]))
        .await;
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        assert!(
            text(&output.stderr).contains("scripted") && output.stdout.is_empty(),
            "{}",
            told(&output)
        );
    }
}

/// Runs what the demo says can be tried in another terminal.
async fn tried(shown: &str, command: &str) -> Output {
    let line = shown.lines().find(|line| line.contains(command));
    let line = line
        .unwrap_or_else(|| panic!("{command} is not in {shown}"))
        .to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", &line]);
    run(shell).await
}

#[tokio::test]
async fn what_the_demo_says_can_be_tried_exists_where_it_says_so() {
    let mut child = contactd(&[
        "demo",
        "--latency",
        "1ms",
        "--rate-limit",
        "1000/1s",
        "--keep-running",
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .unwrap();
    let output = child.stdout.take().unwrap();
    let read = tokio::task::spawn_blocking(move || {
        let mut shown = String::new();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            shown += &format!("{line}\n");
            if line.contains("ctrl-c ends it") {
                break;
            }
        }
        shown
    });
    let shown = clock::timeout(Duration::from_secs(60), read)
        .await
        .expect("it runs")
        .unwrap();
    for (command, words) in [(" find ", "Found "), (" status ", "Look-ups")] {
        let output = tried(&shown, command).await;
        assert!(
            text(&output.stdout).contains(words),
            "{command}: {}",
            told(&output)
        );
    }
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    assert!(child.wait().unwrap().success());
}

#[tokio::test]
async fn demo_shows_the_tour_and_a_batch_and_ends_by_itself() {
    let output = run(contactd(&[
        "demo",
        "--latency",
        "30ms",
        "--rate-limit",
        "200/1s",
    ]))
    .await;
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for words in [
        "from the CRM",
        "from memory",
        "Found 1 contact",
        "contacts\n",
        "Contact not found",
        "refresh contact",
        "250 numbers",
        " allowed; 0 refused",
        "answer stored",
        "CRM asked",
    ] {
        assert!(shown.contains(words), "{words:?} in {shown}");
    }
    assert!(
        text(&output.stderr).contains(" of 186 numbers"),
        "{}",
        text(&output.stderr)
    );
}
