//! Large replies are read on separate threads, a few at a time. Those of one user do not hold up
//! those of others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use contactd::clock;
use futures_util::future::join_all;
use serde_json::json;
use tonic::Code;

use crate::support::crm::{Seen, example};
use crate::support::daemon::{Changed as _, details, names};
use crate::support::{FakeCrm, Reply, TestDaemon, contact, eventually, find};

const LOOK_UPS: usize = 60;

/// A text that takes long to read: it is no sound JSON, and has to be mended first.
fn long() -> Vec<u8> {
    let records = "{\"id\": \"\t\", \"kind\": [1, 2, 3]},".repeat(15_000);
    format!(
        "{{\"contacts\": [{records} {{}}], \"pad\": \"{}\", \"next_page\": null}}",
        "\t".repeat(1 << 20)
    )
    .into_bytes()
}

/// Long replies for "greedy"; for others one that is just too large to be read at once.
fn replies() -> impl Fn(&Seen) -> Reply + Send {
    let long = long();
    move |seen| {
        let greedy = seen.authorization.as_deref() == Some("Bearer greedy");
        let phone = seen.param("phone").unwrap_or_default();
        if seen.path != "/api/v1/contacts" {
            return example(seen, &[]);
        }
        if greedy {
            return Reply::bytes("application/json", long.clone());
        }
        let contact = contact(1, "Ada", phone);
        let pad = "x".repeat(40 << 10);
        Reply::json(json!({"contacts": [contact], "pad": pad, "next_page": null}))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_replies_of_one_user_hold_up_nobody_elses_and_count_towards_their_calls_time() {
    let crm = FakeCrm::start(replies()).await;
    let more = "[lookup]\ncall_timeout = \"4s\"\nmax_reply = \"8MiB\"\n[connectors.example]\nkind = \"example\"\n\
        quota = { rate = 10000, per = \"1s\", burst = 10000, scope = \"user\", prefetch_share = 0.5 }\n";
    let daemon = TestDaemon::start(&format!("{more}base_url = \"{}\"\n", crm.url())).await;
    let ended = Arc::<AtomicUsize>::default();
    let greedy = join_all((0..LOOK_UPS).map(|n| {
        let request = find()
            .user("greedy")
            .number(&format!("+1650{:07}", 2_000_000 + n));
        let (mut client, ended) = (daemon.client.clone(), Arc::clone(&ended));
        async move {
            let answer = client.find_contact(request).await;
            ended.fetch_add(1, Ordering::Relaxed);
            answer
        }
    }));
    let good = async {
        eventually("all of them are asked", || crm.searches() >= LOOK_UPS).await;
        eventually("and the first is read", || {
            ended.load(Ordering::Relaxed) > 0
        })
        .await;
        let before = ended.load(Ordering::Relaxed);
        let answer = clock::timeout(Duration::from_secs(60), daemon.find(find())).await;
        let answer = answer.expect("it ends").expect("the reply is read in time");
        assert_eq!(names(&answer), ["Ada"]);
        ended.load(Ordering::Relaxed) - before
    };
    let (greedy, meanwhile) = tokio::join!(greedy, good);
    assert!(meanwhile < 10, "{meanwhile} of the long ones went first");
    let late = greedy.into_iter().filter_map(Result::err).filter(|status| {
        (status.code(), details(status).reason.as_str()) == (Code::Unavailable, "CRM_UNAVAILABLE")
    });
    assert!(late.count() > 0, "waiting counts towards the call's time");
}
