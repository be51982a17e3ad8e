//! `contactd plan`: its figures are those of the real daemon, and each fault of a log has a
//! message.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::Duration;

use contactd::clock;
use contactd::pb::v1::{Freshness, Source};
use serde_json::Value;
use tempfile::TempDir;

use crate::commands::{contactd, run, text};
use crate::support::crm::example;
use crate::support::daemon::{Changed as _, find};
use crate::support::{FakeCrm, TestDaemon, contact, eventually};

/// Calls come at multiples of this time. No multiple of it is between nine tenths of an age below
/// and the age, so that the jitter of ages decides nothing.
const STEP: u64 = 6 * 60;
const CACHE: &str = "[cache]\nadmitted = \"61m\"\nfound = { fresh = \"10m\", stale = \"35m\" }\nabsent = { fresh = \"2m\", stale = \"23m\" }\n";
/// 2026-01-05T00:00:00Z
const START: u64 = 1_767_571_200;

#[derive(Debug, Clone, Copy)]
struct Call {
    user: u32,
    number: u32,
}

impl Call {
    /// The CRM knows two of three numbers.
    fn is_known(self) -> bool {
        self.number % 3 != 1
    }

    fn number(self) -> String {
        format!("+1650555{:04}", 1000 + self.number)
    }
}

/// Calls of twenty users. Some users and numbers come often, and half of the calls repeat one of
/// the last.
fn calls() -> Vec<Call> {
    let mut random = fastrand::Rng::with_seed(13);
    let mut calls: Vec<Call> = Vec::new();
    for _ in 0..300 {
        let recent = calls.len().min(6);
        let call = if recent > 0 && random.bool() {
            calls[calls.len() - 1 - random.usize(..recent)]
        } else {
            let mut often = |most| random.u32(..most).min(random.u32(..most));
            let (user, number) = (often(20), often(8));
            Call {
                user,
                number: user * 8 + number,
            }
        };
        calls.push(call);
    }
    calls
}

fn csv(calls: &[Call]) -> String {
    let mut csv = "time,user,phone_number,known\n".to_owned();
    for (n, call) in calls.iter().enumerate() {
        let (at, known) = (
            START + n as u64 * STEP,
            if call.is_known() { "yes" } else { "no" },
        );
        writeln!(csv, "{at},u{},{},{known}", call.user, call.number()).unwrap();
    }
    csv
}

/// What a command prints for a log.
async fn plan(csv: &[u8], settings: &str, args: &[&str]) -> Output {
    let dir = TempDir::new().unwrap();
    let (log, config) = (
        dir.path().join("calls.csv"),
        dir.path().join("contactd.toml"),
    );
    std::fs::write(&log, csv).unwrap();
    let mut command = contactd(&["plan"]);
    command.arg(&log).args(args).current_dir(dir.path());
    if !settings.is_empty() {
        std::fs::write(&config, settings).unwrap();
        command.arg("--config").arg(&config);
    }
    run(command).await
}

async fn planned(csv: &str, settings: &str, args: &[&str]) -> Value {
    let args = [args, &["--output", "json"]].concat();
    let output = plan(csv.as_bytes(), settings, &args).await;
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn numbers(value: &Value) -> Vec<u64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|n| n.as_u64().unwrap())
        .collect()
}

/// Each hit and each call to the CRM of three hundred look-ups, one after the other. The daemon's
/// time is moved to that of each call.
#[tokio::test]
async fn the_plan_of_a_log_is_what_the_daemon_does_with_it() {
    let crm = FakeCrm::start(|seen| {
        let phone = seen.param("phone").unwrap_or_default();
        let is_known = phone[phone.len().saturating_sub(3)..]
            .parse::<u32>()
            .is_ok_and(|n| n % 3 != 1);
        let found = is_known.then(|| contact(1, "Ada", phone));
        example(seen, found.as_slice())
    })
    .await;
    let settings = format!(
        "{CACHE}[connectors.example]\nkind = \"example\"\nbase_url = \"{}\"\n",
        crm.url()
    );
    let daemon = TestDaemon::start(&settings).await;
    let calls = calls();
    let args = ["--no-what-if", "--crm-latency", "1ms"];
    let plan = planned(&csv(&calls), &settings, &args).await;
    for seed in ["2", "3", "4"] {
        let other = planned(
            &csv(&calls),
            &settings,
            &[&args[..], &["--seed", seed]].concat(),
        )
        .await;
        assert_eq!(plan, other, "the jitter decides nothing in this log");
    }
    let course = &plan["five_minutes"];
    let (hits, made) = (numbers(&course["hits"]), numbers(&course["crm_calls"]));

    let (mut expected, mut counts) = (0, [0_u64; 3]);
    for (n, call) in calls.iter().enumerate() {
        if n > 0 {
            daemon.clock.advance(Duration::from_secs(STEP));
        }
        let request = find()
            .user(&format!("u{}", call.user))
            .number(&call.number());
        let answer = daemon.find(request.clone()).await.unwrap();
        let lookup = answer.lookup.unwrap();
        let bucket = n * STEP as usize / 300;
        let is_hit = lookup.source() == Source::Memory;
        assert_eq!(u64::from(is_hit), hits[bucket], "call {n}: {call:?}");
        counts[match (is_hit, lookup.freshness()) {
            (false, _) => 0,
            (true, Freshness::Fresh) => 1,
            (true, _) => 2,
        }] += 1;
        expected += made[bucket];
        let all = || (crm.seen().len() + crm.asked_who()) as u64;
        eventually(
            &format!("call {n} makes {} CRM calls", made[bucket]),
            || all() >= expected,
        )
        .await;
        assert_eq!(all(), expected, "call {n}: {call:?}");
        // What is refreshed behind the answer is there before the next call.
        let stored = || {
            daemon.find(contactd::pb::v1::FindContactRequest {
                only_if_cached: true,
                ..request.clone()
            })
        };
        while lookup.freshness() == Freshness::Stale
            && stored().await.unwrap().lookup.unwrap().freshness() == Freshness::Stale
        {
            clock::sleep(Duration::from_millis(2)).await;
        }
    }
    assert_eq!(made.iter().sum::<u64>(), expected);
    let of = &plan["variants"][0]["connectors"][0];
    let [crm, fresh, stale] = counts;
    assert_eq!(of["from_the_crm"], crm);
    assert_eq!(
        of["from_memory"],
        serde_json::json!({"fresh": fresh, "stale": stale})
    );
    assert!(
        fresh > 20 && stale > 15 && crm > 50,
        "every kind is in the log: {counts:?}"
    );
    assert!(
        expected > crm + stale,
        "with details and renewals: {expected}"
    );
}

#[tokio::test]
async fn a_log_of_a_spreadsheet_is_read_and_each_faulty_row_is_reported_once() {
    let log = "sep=;\r\n# exported today\r\n\"Phone Number\";Extension;Date;Time\r\n\
        \"(650) 555-1234\";101;Mon 03/09/2026;2:05 PM\r\n\
        6505551234;101;3/9/2026;2:06 PM\r\n\r\n;;;\r\n\
        1,6505551234E+10;101;3/9/2026;2:07 PM\r\n\
        anonymous;101;3/9/2026;2:08 PM\r\n\
        6505551234;;3/9/2026;2:09 PM\r\n\
        6505551234;101;yesterday;2:10 PM\r\n\
        1.65E+10;101;3/9/2026;2:11 PM\r\n\
        nobody I know;101;3/9/2026;2:12 PM\r\n\
        6505551234;101;26/9/2026;2:13 PM\r\n";
    let output = plan(log.as_bytes(), "", &["--region", "US", "--output", "json"]).await;
    let (plan, said) = (text(&output.stdout), text(&output.stderr));
    let plan: Value = serde_json::from_str(&plan).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(plan["log"]["calls"], 4, "{said}");
    assert_eq!(
        (
            &plan["log"]["without_number"],
            &plan["log"]["rows_left_out"]
        ),
        (&1.into(), &5.into())
    );
    assert_eq!(plan["log"]["questions"], 1, "one number in four spellings");
    for fault in [
        "calls.csv:10: there is no user",
        "calls.csv:11: the time \"yesterday 2:10 PM\"",
        "calls.csv:12: the number has lost its last digits",
        "calls.csv:13: the number \"nobody I know\"",
        "calls.csv:14: the time \"26/9/2026 2:13 PM\" has no month from 1 to 12; if days come before months, use --day-first",
    ] {
        assert_eq!(said.matches(fault).count(), 1, "{fault}\n{said}");
    }
    assert_eq!(said.matches("is left out").count(), 5, "{said}");
}

#[tokio::test]
async fn what_is_no_call_log_is_refused_with_what_to_do() {
    let endless = format!(
        "time,user,number\n1773065100,1,+16505551234\n1773065100,\"1,{}",
        "x\n".repeat(1 << 20)
    );
    let other = b"time,user,number,crm\n1773065100,1,+16505551234,nocrm\n".to_vec();
    for (log, args, said) in [
        (b"".to_vec(), &[][..], "calls.csv holds no calls"),
        (
            b"time,user,number\n".to_vec(),
            &[],
            "calls.csv holds no calls",
        ),
        (
            b"PK\x03\x04rest".to_vec(),
            &[],
            "is an Excel workbook; save it as CSV",
        ),
        (
            b"+16505551234\n+16505551235\n".to_vec(),
            &[],
            "one column only",
        ),
        (
            b"time,number\n1,2\n".to_vec(),
            &[],
            "no column seems to have the user; the first line has \"time\", \"number\"; name the column with --user-column",
        ),
        (
            b"time,user,number\n1,2,3\n".to_vec(),
            &["--user-column", "agent"],
            "no column is named \"agent\"",
        ),
        (
            b"time,user,number\nx,1,+16505551234\n".to_vec(),
            &[],
            "no row holds a call",
        ),
        (
            b"time,user,number\nx,1,+1\n".to_vec(),
            &["--connector", "clio"],
            "the settings have no \"clio\"; they have example",
        ),
        (
            b"time,user,number\nx,1,+1\n".to_vec(),
            &["--known", "2"],
            "expected a number from 0 to 1",
        ),
        (
            b"time,user,number\nx,1,+1\n".to_vec(),
            &["--replicas", "0"],
            "expected numbers from 1 to 1000",
        ),
        (
            other,
            &[],
            "calls.csv:2: the settings have no connector \"nocrm\"; they have example",
        ),
        (
            endless.into_bytes(),
            &[],
            "calls.csv:3: the row cannot be read: it does not end within 1 MiB",
        ),
    ] {
        let output = plan(&log, "", args).await;
        let words = text(&output.stderr);
        assert!(words.contains(said), "{said}\n{words}");
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(2), 0),
            "{words}"
        );
    }
}

#[tokio::test]
async fn a_generated_log_is_the_same_for_a_seed_and_is_planned_from_standard_input() {
    let generate = |seed: &str| {
        contactd(&[
            "plan", "generate", "--calls", "3000", "--users", "40", "--days", "3", "--seed", seed,
        ])
    };
    let (one, same, other) = (
        run(generate("1")).await,
        run(generate("1")).await,
        run(generate("2")).await,
    );
    assert_eq!(one.stdout, same.stdout);
    assert_ne!(one.stdout, other.stdout);
    assert_eq!(text(&one.stdout).lines().count(), 3001);
    let plot = TempDir::new().unwrap();
    let svg = plot.path().join("day.svg");
    let mut command = contactd(&["plan", "-", "--replicas", "1,4", "--plot"]);
    command
        .arg(&svg)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = tokio::task::spawn_blocking(move || {
        input.write_all(&one.stdout).unwrap();
        drop(input);
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{said}");
    for words in [
        "By number of replicas; each call goes to a random one",
        "Quotas",
        "With other ages",
        "With other quotas",
        "With other cache.memory",
        "hit rate",
    ] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
    assert!(!said.contains("left out"), "{said}");
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.matches("<path").count() > 10,
        "{svg}"
    );
}
