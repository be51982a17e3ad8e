//! In which order calls wait for the quota if the CRM accepts their credential meanwhile.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use parking_lot::Mutex;
use tonic::Request;

use contactd::pb::v1::FindContactRequest;

use crate::support::crm::{Seen, example};
use crate::support::daemon::Changed as _;
use crate::support::fleet::number;
use crate::support::redis::RedisServer;
use crate::support::{FakeCrm, Reply, TestDaemon, eventually, find};

/// Four calls a second for each account or user. Nobody asks the CRM whose a credential is.
async fn daemon(crm: &FakeCrm, scope: &str, more: &str) -> TestDaemon {
    TestDaemon::start(&format!(
        "{more}[connectors.example]\nkind = \"example\"\nidentity = \"caller\"\nbase_url = \"{}\"\n\
         quota = {{ rate = 4, per = \"1s\", burst = 4, scope = \"{scope}\" }}\n",
        crm.url()
    ))
    .await
}

/// A phone rings for a user. Every user has the same token.
fn ring(user: &str, n: usize) -> Request<FindContactRequest> {
    let request = find().user(user).number(&number(n));
    let mut request = request.auth("Bearer service");
    request.user.as_mut().unwrap().account_id = "acme".to_owned();
    request.within(Duration::from_secs(14))
}

/// The numbers that a CRM was asked for, in the order of the calls.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<String>>>);

impl Asked {
    fn note(&self, seen: &Seen) {
        let number = seen.param("phone").unwrap_or_default();
        self.0.lock().push(number.to_owned());
    }

    /// How many of the first `count` calls were for one of these numbers.
    fn among_first(&self, count: usize, numbers: Range<usize>) -> usize {
        let asked = self.0.lock();
        let numbers: Vec<_> = numbers.map(number).collect();
        let first = asked.iter().take(count);
        first.filter(|asked| numbers.contains(asked)).count()
    }
}

/// A CRM that knows nobody, and gives another reply for some `numbers`.
async fn crm_but_for(
    numbers: Range<usize>,
    other: impl Fn(&Seen) -> Reply + Send + 'static,
) -> (FakeCrm, Asked) {
    let asked = Asked::default();
    let (log, numbers) = (asked.clone(), numbers.map(number).collect::<Vec<_>>());
    let crm = FakeCrm::start(move |seen| {
        log.note(seen);
        if numbers
            .iter()
            .any(|number| seen.param("phone") == Some(number))
        {
            other(seen)
        } else {
            example(seen, &[])
        }
    })
    .await;
    (crm, asked)
}

#[tokio::test]
async fn phones_that_ring_before_their_credential_is_verified_are_not_overtaken_afterwards() {
    let crm = FakeCrm::with(vec![]).await;
    let daemon = daemon(&crm, "account", "").await;
    let answered = Mutex::new(Vec::new());
    let ring = async |group: usize, n: usize| {
        daemon.find(ring("a", group * 100 + n)).await.unwrap();
        answered.lock().push(group);
    };
    let first = join_all((0..12).map(|n| ring(0, n)));
    let second = async {
        // By then the CRM has accepted the credential.
        eventually("one is answered", || !answered.lock().is_empty()).await;
        join_all((0..12).map(|n| ring(1, n))).await
    };
    join(first, second).await;
    let answered = answered.lock();
    // The last of the first group and the first of the second may be on the wire together.
    let overtaken = answered[..12].iter().sum::<usize>();
    assert!(overtaken <= 3, "{answered:?}");
}

#[tokio::test]
async fn an_accepted_credential_moves_no_calls_up_that_it_makes_for_another_user_id() {
    let slow = |seen: &Seen| example(seen, &[]).after(Duration::from_secs(2));
    let (crm, asked) = crm_but_for(0..4, slow).await;
    let daemon = daemon(&crm, "account", "").await;
    let rings = |user: &'static str, numbers: Range<usize>| {
        join_all(numbers.map(|n| daemon.find(ring(user, n))))
    };
    let first = rings("a", 0..4);
    let waiting = async {
        eventually("the window is full", || crm.searches() == 4).await;
        join(rings("b", 10..14), rings("a", 20..24)).await
    };
    let (first, (b, a)) = join(first, waiting).await;
    assert!(first.iter().chain(&b).chain(&a).all(Result::is_ok));
    assert_eq!(asked.among_first(8, 10..14), 0, "{:?}", asked.0.lock());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn waiting_calls_move_up_once_another_replica_has_verified_their_credential() {
    // Its replies to the first calls verify nothing.
    let (crm, asked) = crm_but_for(0..12, |_| Reply::status(500)).await;
    let redis = RedisServer::start().await;
    let in_redis = format!("redis.url = \"{}\"\n", redis.url());
    let here = daemon(&crm, "account", &in_redis).await;
    // It has another quota, so that its call does not wait.
    let there = daemon(&crm, "user", &in_redis).await;
    let first = join_all((0..12).map(|n| here.find(ring("a", n))));
    let second = async {
        eventually("the window is full", || crm.searches() >= 4).await;
        there.find(ring("a", 90)).await.unwrap();
        join_all((20..28).map(|n| here.find(ring("a", n)))).await
    };
    let (_failed, second) = join(first, second).await;
    assert!(second.iter().all(Result::is_ok));
    assert!(asked.among_first(13, 0..12) >= 11, "{:?}", asked.0.lock());
}
