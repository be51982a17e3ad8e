//! The connector of the Example CRM against the real Example CRM.

use std::sync::Arc;

use contactd::example_crm::{ExampleCrm, Options};
use contactd::pb::v1::MatchQuality;
use tokio::net::TcpListener;
use tonic::Code;

use crate::support::daemon::{Changed as _, names};
use crate::support::{TestDaemon, find};

async fn start(options: Options) -> (Arc<ExampleCrm>, TestDaemon) {
    let crm = Arc::new(ExampleCrm::new(options));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = Arc::clone(&crm).serve(listener, std::future::pending());
    #[expect(clippy::disallowed_methods, reason = "ends with the test")]
    drop(tokio::spawn(serving));
    let daemon = TestDaemon::start(&format!(
        "[connectors.example]\nkind = \"example\"\nbase_url = \"{url}\"\nregion = \"US\"\n"
    ))
    .await;
    (crm, daemon)
}

#[tokio::test]
async fn one_many_and_no_contacts_are_found_among_ten_thousand() {
    let (crm, daemon) = start(Options::default()).await;
    let samples = crm.data().samples();
    let ask = |number: &str| daemon.find(find().auth("Bearer demo").number(number));
    let one = ask(&samples.one).await.unwrap();
    assert_eq!(
        names(&one).len(),
        1,
        "people with a number that ends alike are not shown"
    );
    assert_eq!(
        one.matched_contact_info[0].match_quality(),
        MatchQuality::Exact
    );
    assert!(names(&ask(&samples.many).await.unwrap()).len() >= 3);
    assert!(names(&ask(&samples.absent).await.unwrap()).is_empty());
    let mut colleague = find().auth("Bearer demo").number(&samples.extension);
    colleague.is_extension = true;
    assert_eq!(names(&daemon.find(colleague).await.unwrap()).len(), 1);
}

#[tokio::test]
async fn every_number_of_the_call_log_is_found_in_whatever_spelling_it_is_stored() {
    let (crm, daemon) = start(Options::default()).await;
    let (mut found, mut absent) = (0, 0);
    for number in crm.data().recent_calls(200, 7) {
        let response = daemon
            .find(find().auth("Bearer demo").number(&number))
            .await
            .unwrap();
        if names(&response).is_empty() {
            absent += 1
        } else {
            found += 1
        }
    }
    assert!(found > 100 && absent > 0, "{found} found, {absent} absent");
}

#[tokio::test]
async fn its_refusals_and_limits_arrive_as_such() {
    let limited = Options {
        rate_limit: Some("4/1m".parse().unwrap()),
        ..Options::default()
    };
    let (crm, daemon) = start(limited).await;
    let absent = crm.data().samples().absent;
    let ask = |token: &str, number: &str| {
        daemon.find(
            find()
                .user(token)
                .auth(&format!("Bearer {token}"))
                .number(number),
        )
    };
    assert_eq!(
        ask("wrong", &absent).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    assert_eq!(
        ask("demo-forbidden", &absent).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    for number in [&absent, "+16505550100", "+16505550101"] {
        assert!(ask("demo", number).await.is_ok());
    }
    assert_eq!(
        ask("demo", "+16505550102").await.unwrap_err().code(),
        Code::ResourceExhausted
    );

    let (_crm, daemon) = start(Options {
        error_rate: 1.0,
        ..Options::default()
    })
    .await;
    assert_eq!(
        daemon
            .find(find().auth("Bearer demo"))
            .await
            .unwrap_err()
            .code(),
        Code::Unavailable
    );
}
