//! A call counts for its owner and for its credential.

use super::*;

const CALL_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn take(
    budget: &Budget,
    owner: &str,
    credential: &str,
    lane: Lane,
    deadline: Option<Instant>,
) -> Result<Permit, Exhausted> {
    let scopes = Scopes {
        owner: scope(owner),
        credential: scope(credential),
    };
    budget
        .acquire(scopes, CallKind::Search, &Urgency::new(lane, deadline))
        .await
}

pub(super) async fn pop(budget: &Budget, owner: &str, credential: &str) -> Permit {
    take(budget, owner, credential, Lane::CallPop, None)
        .await
        .unwrap()
}

/// The scopes of a credential whose owner is not known.
pub(super) async fn unidentified(budget: &Budget, credential: &str) -> Permit {
    pop(budget, credential, credential).await
}

pub(super) fn refused(after: Option<Duration>) -> RateHint {
    RateHint {
        refused: true,
        retry_after: after,
        ..RateHint::default()
    }
}

pub(super) fn accepted() -> RateHint {
    RateHint::default()
}

fn of_account(rate: u32, share: f64) -> Arc<Budget> {
    let quota = Quota::new(rate, SECOND, rate, Scope::Account, share).unwrap();
    let config = BudgetConfig {
        call_timeout: CALL_TIMEOUT,
        ..BudgetConfig::default()
    };
    Arc::new(Budget::new(
        quota,
        &config,
        "test",
        &Metrics::default(),
        None,
    ))
}

/// How many background calls a credential of the account makes within this time.
async fn prefetched(budget: &Budget, credential: &str, time: Duration) -> u32 {
    let mut calls = 0;
    let run = Box::pin(async {
        loop {
            let permit = take(budget, "account", credential, Lane::Prefetch, None)
                .await
                .unwrap();
            permit.observe(&accepted()).await;
            calls += 1;
        }
    });
    let _: Option<()> = timeout(time, run).await;
    calls
}

/// Prefetch calls of a credential, each made as soon as possible.
fn waiting(budget: &Arc<Budget>, credential: &'static str, calls: usize) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..calls {
        let budget = Arc::clone(budget);
        tasks.spawn(async move {
            let permit = take(&budget, "account", credential, Lane::Prefetch, None)
                .await
                .unwrap();
            sleep(ms(100)).await;
            permit.observe(&accepted()).await;
        });
    }
    tasks
}

#[tokio::test(start_paused = true)]
async fn all_calls_of_a_credential_are_in_one_window_whoever_they_were_made_for() {
    let (budget, start) = (budget(4, SECOND, 4, 1.0), Stopwatch::start());
    for owner in ["one", "two", "token", "one"] {
        pop(&budget, owner, "token")
            .await
            .observe(&accepted())
            .await;
    }
    let _fifth = pop(&budget, "three", "token").await;
    assert_eq!(start.elapsed(), SECOND);
    let _another = pop(&budget, "three", "another token").await;
    assert_eq!(start.elapsed(), SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_success_from_before_a_pause_does_not_end_it_when_it_is_adopted() {
    let (budget, asked) = (budget(10, SECOND, 10, 1.0), clock::now());
    unidentified(&budget, "new token")
        .await
        .observe(&accepted())
        .await;
    sleep(ms(100)).await;
    pop(&budget, "user", "old token")
        .await
        .observe(&refused(Some(20 * SECOND)))
        .await;
    sleep(ms(100)).await;
    let adopted = budget
        .adopt(scope("user"), CallKind::Search, Lane::CallPop, asked)
        .await
        .unwrap();
    adopted.observe_since(&accepted(), asked).await;
    let start = Stopwatch::start();
    let _permit = take(&budget, "user", "new token", Lane::Prefetch, None)
        .await
        .unwrap();
    assert!(
        start.elapsed() > 19 * SECOND,
        "the rest ended after {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn refusals_of_calls_that_were_under_way_together_count_once_when_they_are_adopted() {
    let (budget, granted) = (budget(40, SECOND, 40, 1.0), clock::now());
    for _ in 0..5 {
        // In real time no two moments are the same.
        sleep(ms(1)).await;
        let adopted = budget
            .adopt(scope("user"), CallKind::Search, Lane::CallPop, granted)
            .await
            .unwrap();
        adopted.observe(&refused(None)).await;
    }
    let full = take(
        &budget,
        "user",
        "token",
        Lane::CallPop,
        within_from_now(ms(100)),
    )
    .await
    .unwrap_err();
    assert!(full.retry_after <= SECOND, "{:?}", full.retry_after);
}

#[tokio::test(start_paused = true)]
async fn a_paused_credential_keeps_nothing_from_others_of_its_account() {
    let budget = of_account(10, 0.5);
    pop(&budget, "account", "resting")
        .await
        .observe(&refused(Some(600 * SECOND)))
        .await;
    sleep(31 * SECOND).await;
    // A probe under another credential shows that the account is free again.
    pop(&budget, "account", "free")
        .await
        .observe(&accepted())
        .await;
    sleep(10 * SECOND).await;
    let _waiting = waiting(&budget, "resting", 100);
    sleep(SECOND).await;
    let calls = prefetched(&budget, "free", 100 * SECOND).await;
    assert!(calls > 400, "{calls} of 500");
}

#[tokio::test(start_paused = true)]
async fn no_call_goes_while_its_owner_is_paused_though_it_has_its_turn() {
    let budget = budget(10, SECOND, 10, 1.0);
    // The credential has room in 150 ms: ten calls that the owner's scope does not count.
    for _ in 0..10 {
        unidentified(&budget, "full")
            .await
            .observe(&accepted())
            .await;
    }
    sleep(ms(850)).await;
    let open = pop(&budget, "user", "other").await;
    let refusing = async {
        sleep(ms(50)).await;
        open.observe(&refused(Some(20 * SECOND))).await;
    };
    let start = Stopwatch::start();
    let (_permit, ()) = tokio::join!(pop(&budget, "user", "full"), refusing);
    assert!(start.elapsed() > 10 * SECOND, "after {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_lowers_the_limit_of_the_account_and_not_that_of_one_credential() {
    let mut calls = Vec::new();
    for credential in ["refused", "other"] {
        let budget = of_account(40, 1.0);
        for _ in 0..38 {
            pop(&budget, "account", "accepted")
                .await
                .observe(&accepted())
                .await;
        }
        pop(&budget, "account", "refused")
            .await
            .observe(&accepted())
            .await;
        pop(&budget, "account", "refused")
            .await
            .observe(&refused(Some(SECOND)))
            .await;
        sleep(3 * SECOND).await;
        calls.push(prefetched(&budget, credential, 9 * SECOND).await);
    }
    assert!(calls[0] * 10 >= calls[1] * 9, "{calls:?}");
}

#[tokio::test(start_paused = true)]
async fn a_credential_whose_owner_is_known_by_now_is_no_scope_of_its_own() {
    let budget = budget(10, SECOND, 10, 1.0);
    unidentified(&budget, "token")
        .await
        .observe(&accepted())
        .await;
    sleep(600 * SECOND).await;
    let _open = pop(&budget, "user", "token").await;
    assert_eq!(used(&budget).scopes, 1);
}

#[tokio::test(start_paused = true)]
async fn the_owners_call_is_held_for_as_long_as_the_crm_may_count_it() {
    let quota = Quota::new(2, SECOND, 2, Scope::User, 1.0).unwrap();
    let config = BudgetConfig {
        call_timeout: CALL_TIMEOUT + STALE,
        ..BudgetConfig::default()
    };
    let budget = Budget::new(quota, &config, "test", &Metrics::default(), None);
    for _ in 0..2 {
        unidentified(&budget, "token")
            .await
            .observe(&accepted())
            .await;
    }
    sleep(ms(760)).await;
    let (one, two) = (
        pop(&budget, "user", "token").await,
        pop(&budget, "user", "token").await,
    );
    let sent = Stopwatch::start();
    // Without a reply: they may arrive within five seconds, and count for one more.
    drop((one, two));
    let _next = pop(&budget, "user", "another token").await;
    assert!(sent.elapsed() >= 6 * SECOND, "{:?}", sent.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_call_moves_up_once_its_credential_is_verified() {
    let budget = slow();
    let _spent = spend(&budget, Lane::CallPop).await.unwrap();
    let mut race = Race::new(&budget);
    let stranger = race.enter("stranger", Lane::CallPop).await;
    let first = race.enter("first", Lane::CallPop).await;
    for unverified in [&stranger, &first] {
        unverified.set_verified(false);
    }
    race.enter("younger", Lane::CallPop).await;
    first.set_verified(true);
    assert_eq!(
        race.finish().await,
        [("first", 100), ("younger", 200), ("stranger", 300)]
    );
}
