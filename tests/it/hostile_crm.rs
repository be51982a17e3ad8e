//! What a CRM, or somebody who writes into one, may send: each input with its outcome (the table of
//! deploy/SECURITY.md), within the time of one call, and the daemon goes on.

mod contacts;
mod forms;
mod hosts;
mod http2;
mod ids;
mod odd;
mod replies;

use std::time::Duration;

use contactd::clock;
use futures_util::future::join_all;
use tonic::Code;

use crate::support::daemon::{Changed as _, details};
use crate::support::raw::{RawCrm, Said};
use crate::support::{TestDaemon, find};

/// The time limits of the daemon end what no other limit ends.
const LIMITS: &str = "[lookup]\ncall_timeout = \"5s\"\ntimeout = \"8s\"\n";

fn example_at(url: &str) -> String {
    // The search alone is asked: these CRMs say the same to everything.
    format!(
        "{LIMITS}[connectors.example]\nkind = \"example\"\nidentity = \"caller\"\nbase_url = \"{url}\"\n"
    )
}

/// What a look-up gets, within half a minute: the reason of its failure, or what is in its answer.
async fn outcome(daemon: &TestDaemon, user: &str) -> String {
    let asked = clock::timeout(Duration::from_secs(30), daemon.find(find().user(user))).await;
    match asked.expect("every look-up ends") {
        Ok(answer) => format!(
            "{} found",
            answer
                .lookup
                .map_or(0, |_| answer.matched_contact_info.len())
        ),
        Err(status) => {
            assert_ne!(status.code(), Code::Unknown, "{status:?}");
            let details = details(&status);
            assert!(
                details
                    .message
                    .is_some_and(|message| !message.message.is_empty())
            );
            details.reason
        }
    }
}

/// What look-ups get from CRMs that say these things, all at the same time.
async fn each_gets(cases: Vec<(&str, Said, &str)>) {
    let outcomes = cases.into_iter().map(|(name, said, expected)| async move {
        let crm = RawCrm::over_tcp(said).await;
        let daemon = TestDaemon::start(&example_at(&format!("http://{}", crm.addr))).await;
        let got = outcome(&daemon, "u").await;
        (got != expected).then(|| format!("{name}: {got}, not {expected}"))
    });
    let wrong: Vec<String> = join_all(outcomes).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}
