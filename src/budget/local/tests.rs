use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;
use crate::budget::Scope;
use crate::budget::queue::WaitersAhead;
use crate::budget::request::RequestAim;
use crate::clock::{self, ReplayClock, SteadyClock, sleep};
use crate::domain::KeyMaker;
use crate::domain::lane::Lane;

const PER: Duration = Duration::from_secs(1);

fn scope(name: &str) -> ScopeTag {
    KeyMaker::new([1; 16]).scope(&[name.as_bytes()])
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn totals() -> Arc<TotalCounts> {
    Arc::new(TotalCounts::new(5 * PER))
}

struct LocalCount {
    local: LocalLimiter,
    quota: Quota,
    proof: CredentialProof,
    reserve_for: Duration,
}

impl LocalCount {
    fn new(rate: u32, burst: u32, share: f64) -> Self {
        let quota = Quota::new(rate, PER, burst, Scope::Account, share).unwrap();
        Self {
            local: LocalLimiter::new(&quota, NonZeroU32::MIN, totals()),
            quota,
            proof: CredentialProof::Verified,
            reserve_for: Duration::ZERO,
        }
    }

    fn request(&self, name: &str, lane: Lane) -> SlotReply {
        let (scope, limits, proof) = (scope(name), self.quota.limits(None), self.proof);
        let request = SlotRequest {
            scope,
            lane,
            limits,
            totals: self.quota.totals(),
            proof,
            is_probe: false,
            is_paced: true,
            patience: None,
            aim: RequestAim::Spend,
        };
        self.local.request(
            &self.quota,
            self.reserve_for,
            &request,
            clock::now() + 6 * PER,
        )
    }

    /// Spends what can be spent now, and returns how much that was.
    fn spend(&self, name: &str, lane: Lane) -> usize {
        (0..100)
            .take_while(|_| self.release(self.request(name, lane).granted))
            .count()
    }

    fn release(&self, slot: Option<Slot>) -> bool {
        slot.inspect(|slot| self.local.release(slot, clock::now() + PER))
            .is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_ask_spends_nothing_of_any_window_or_pace() {
    let count = LocalCount::new(10, 4, 0.5);
    assert_eq!(
        count.spend("a", Lane::Prefetch),
        1,
        "the background is paced"
    );
    assert_eq!(count.spend("a", Lane::CallPop), 3);
    for _ in 0..20 {
        assert!(count.request("a", Lane::Prefetch).granted.is_none());
        assert!(count.request("a", Lane::CallPop).granted.is_none());
    }
    sleep(ms(400)).await;
    assert_eq!(
        [Lane::Prefetch, Lane::CallPop].map(|lane| count.spend("a", lane)),
        [1, 3]
    );
}

#[tokio::test(start_paused = true)]
async fn a_window_holds_no_more_than_the_rate_and_the_share_until_the_replies_are_a_window_old() {
    let count = LocalCount::new(10, 10, 0.2);
    assert_eq!(count.spend("a", Lane::Prefetch), 1);
    let held: Vec<_> = (0..8)
        .map(|_| count.request("a", Lane::CallPop).granted)
        .collect();
    sleep(ms(900)).await;
    assert_eq!(count.spend("a", Lane::Prefetch), 1, "the last of all");
    assert_eq!(
        [Lane::Prefetch, Lane::CallPop].map(|lane| count.spend("a", lane)),
        [0, 0]
    );
    assert!(held.into_iter().all(|slot| count.release(slot)));
    sleep(ms(999)).await;
    let free = [Lane::Prefetch, Lane::CallPop].map(|lane| count.spend("a", lane));
    assert_eq!(free, [1, 0], "the room of the first prefetch");
    sleep(ms(1)).await;
    assert_eq!(count.spend("a", Lane::CallPop), 9);
}

#[tokio::test(start_paused = true)]
async fn a_call_without_a_known_end_is_held_as_long_as_it_may_arrive_and_a_window_more() {
    let count = LocalCount::new(1, 1, 1.0);
    assert!(count.request("a", Lane::CallPop).granted.is_some());
    sleep(ms(5_999)).await;
    assert_eq!(count.spend("a", Lane::CallPop), 0);
    sleep(ms(1)).await;
    assert_eq!(count.spend("a", Lane::CallPop), 1);
}

#[tokio::test(start_paused = true)]
async fn the_forecast_is_exact_with_calls_in_stock_and_without() {
    let count = LocalCount::new(10, 4, 0.5);
    let pop = |ahead, forecast: &Forecast| {
        forecast
            .wait(
                (Lane::CallPop, CredentialProof::Verified),
                WaitersAhead {
                    all: ahead,
                    background: 0,
                },
                clock::now(),
            )
            .as_millis()
    };
    let forecast = count.request("a", Lane::CallPop).forecast;
    assert_eq!(
        [0, 2, 3, 5].map(|ahead| pop(ahead, &forecast)),
        [0, 0, 100, 300]
    );
    (0..3).for_each(|_| assert!(count.request("a", Lane::CallPop).granted.is_some()));
    let forecast = count.request("a", Lane::CallPop).forecast;
    assert_eq!([0, 1].map(|ahead| pop(ahead, &forecast)), [100, 200]);
    sleep(ms(70)).await;
    assert_eq!(pop(0, &forecast), 30);
}

#[tokio::test(start_paused = true)]
async fn scopes_do_not_share_and_replicas_get_equal_parts() {
    let count = LocalCount::new(10, 10, 0.5);
    assert_eq!(
        ["a", "b"].map(|name| count.spend(name, Lane::CallPop)),
        [10, 10]
    );
    let three = NonZeroU32::new(3).unwrap();
    assert!(count.local.set_replicas(&count.quota, three));
    assert!(!count.local.set_replicas(&count.quota, three));
    assert_eq!(count.spend("c", Lane::CallPop), 3);
    assert_eq!(
        count.spend("a", Lane::CallPop),
        0,
        "what is held stays held"
    );
    let at_least_five = LocalCount {
        local: LocalLimiter::new(&count.quota, NonZeroU32::new(5).unwrap(), totals()),
        ..count
    };
    at_least_five
        .local
        .set_replicas(&at_least_five.quota, three);
    assert_eq!(at_least_five.spend("d", Lane::CallPop), 2);
}

#[tokio::test(start_paused = true)]
async fn one_call_is_kept_for_proven_credentials_while_one_of_them_has_called_lately() {
    let mut count = LocalCount {
        proof: CredentialProof::Unverified,
        ..LocalCount::new(10, 10, 0.5)
    };
    count.reserve_for = 60 * PER;
    assert_eq!(count.spend("a", Lane::CallPop), 10, "nobody is verified");
    sleep(PER).await;
    count.proof = CredentialProof::Verified;
    assert!(count.release(count.request("a", Lane::CallPop).granted));
    for _ in 0..50 {
        sleep(PER).await;
        count.proof = CredentialProof::Unverified;
        assert_eq!(count.spend("a", Lane::CallPop), 9);
        count.proof = CredentialProof::Verified;
        assert!(count.request("b", Lane::CallPop).granted.is_some());
    }
    let last = count.request("a", Lane::CallPop);
    assert!(last.granted.is_some(), "it was kept");
    sleep(61 * PER).await;
    count.proof = CredentialProof::Unverified;
    assert_eq!(count.spend("a", Lane::CallPop), 10);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_forgets_neither_an_outage_nor_that_others_may_count_for_themselves() {
    let (count, a) = (LocalCount::new(10, 10, 1.0), scope("a"));
    let holds = || {
        count
            .local
            .source_for(a, crate::budget::past::CountSource::Shared)
    };
    count.local.redis_failed(a, PER);
    sleep(10 * PER).await;
    count.local.redis_failed(a, PER);
    count.local.sweep();
    assert_eq!(holds(), crate::budget::past::CountSource::Own);
    count.local.redis_answered(a, PER);
    count.local.sweep();
    assert_eq!(holds(), crate::budget::past::CountSource::SharedWithinShare);
}

/// A thread of a busy machine may be halted at any place, here between the forecast and its use.
#[test]
fn a_place_on_the_wire_that_may_be_free_soon_is_not_taken_however_late_it_is() {
    let mut count = LocalCount::new(100, 100, 1.0);
    count.quota = count.quota.with_totals(NonZeroU32::new(1), None).unwrap();
    let (clock, years) = (
        ReplayClock::start(),
        Duration::from_secs(10 * 365 * 24 * 3600),
    );
    let totals = TotalCounts::timed_by(SteadyClock::Replay(clock.clone()), years);
    count.local = LocalLimiter::new(&count.quota, NonZeroU32::MIN, Arc::new(totals));
    assert!(count.request("a", Lane::CallPop).granted.is_some());

    let is_over = AtomicBool::new(false);
    let is_granted = thread::scope(|scope| {
        scope.spawn(|| {
            let mut moments = (0..).step_by(30_000);
            while !is_over.load(Ordering::Relaxed) {
                clock.set(moments.next().unwrap());
            }
        });
        let is_granted = (0..10_000).any(|_| count.request("a", Lane::CallPop).granted.is_some());
        is_over.store(true, Ordering::Relaxed);
        is_granted
    });
    assert!(!is_granted, "two calls at once");
}

#[tokio::test(start_paused = true)]
async fn scopes_of_refused_credentials_do_not_take_the_memory_for_a_long_window() {
    let count = LocalCount::new(10, 10, 1.0);
    let until = clock::now() + 24 * 3600 * PER;
    let hold = |n: usize, calls: u32| {
        let mut scopes = count.local.scopes.lock();
        let held = scopes.entry(scope(&n.to_string())).or_default();
        (0..calls).for_each(|_| held.all.hold(until));
    };
    (0..MOST_SCOPES).for_each(|n| hold(n, 1));
    count.local.sweep();
    assert_eq!(count.local.scopes.lock().len(), MOST_SCOPES);
    hold(MOST_SCOPES, FEW_CALLS + 1);
    count.local.sweep();
    assert_eq!(count.local.scopes.lock().len(), 1, "the busy one stays");
}
