use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::*;
use crate::clock::{sleep, timeout};
use crate::domain::Lane;

type Test = Flights<u8, u8>;

fn flights() -> Test {
    Flights::new(TaskTracker::new(), Handle::current())
}

/// A demand in a lane, without a deadline, under a verified credential.
fn in_lane(lane: Lane) -> Demand {
    Demand {
        lane,
        deadline: None,
        limit: None,
        verified: true,
    }
}

/// There is always a place.
fn begin<F>(load: F) -> Option<NewLoad<(), F>> {
    begin_in((), load)
}

#[expect(clippy::unnecessary_wraps, reason = "this is what flights want")]
fn begin_in<P, F>(place: P, load: F) -> Option<NewLoad<P, F>> {
    let span = Span::default();
    Some(NewLoad { place, span, load })
}

async fn slow(loads: Arc<AtomicU32>) -> LoadResult<u8> {
    sleep(Duration::from_millis(500)).await;
    loads.fetch_add(1, Ordering::Relaxed);
    Ok(0)
}

fn board<F>(flights: &Test, key: u8, load: impl FnOnce() -> F) -> Seat<u8>
where
    F: Future<Output = LoadResult<u8>> + Send + 'static,
{
    flights.join_or_lead(key, Join::Any, in_lane(Lane::CallPop), |_, _| begin(load()))
}

#[tokio::test(start_paused = true)]
async fn a_caller_in_a_hurry_makes_the_whole_flight_hurry() {
    let flights = flights();
    let (seen, urgency) = tokio::sync::oneshot::channel();
    let flight = 1;
    let prefetch =
        flights.join_or_lead(flight, Join::Any, in_lane(Lane::Prefetch), |urgency, _| {
            begin(async move {
                sleep(Duration::from_millis(10)).await;
                seen.send(urgency.lane()).unwrap();
                Ok(0)
            })
        });
    let ringing = board(&flights, flight, || async { Ok(0) });
    assert!(ringing.joined() && prefetch.wait().await.is_ok());
    assert_eq!(urgency.await.unwrap(), Lane::CallPop);
}

#[tokio::test(start_paused = true)]
async fn callers_share_one_load() {
    let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
    let seats: Vec<_> = (0..100)
        .map(|_| board(&flights, 1, || slow(Arc::clone(&loads))))
        .collect();
    assert_eq!(seats.iter().filter(|seat| seat.joined()).count(), 99);
    for seat in seats {
        assert!(seat.wait().await.is_ok());
    }
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert!(
        !board(&flights, 1, || slow(loads)).joined(),
        "the flight is off the board"
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_leaves_breaks_nothing() {
    let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
    let leader = board(&flights, 1, || slow(Arc::clone(&loads)));
    let joiner = board(&flights, 1, || slow(Arc::clone(&loads)));
    assert!(
        timeout(Duration::from_millis(50), leader.wait())
            .await
            .is_none()
    );
    assert!(joiner.wait().await.is_ok());
    assert_eq!(loads.load(Ordering::Relaxed), 1);
}

/// A load of a batch; the batch is gone at once if it holds no seat.
fn of_a_batch(flights: &Test, loads: &Arc<AtomicU32>, spends: bool) -> Seat<u8> {
    let loads = Arc::clone(loads);
    flights.join_or_lead(1, Join::Any, in_lane(Lane::Prefetch), |urgency, _| {
        begin(async move {
            let _call = spends.then(|| urgency.spend());
            slow(loads).await
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_batchs_load_is_given_up_with_the_batch_while_it_stands_in_line_for_its_first_call() {
    let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
    drop(of_a_batch(&flights, &loads, false));
    sleep(Duration::from_millis(100)).await;
    let next = of_a_batch(&flights, &loads, false);
    assert!(!next.joined(), "the one before is off the board");
    assert!(next.wait().await.is_ok());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(loads.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_batchs_load_that_has_spent_a_call_or_is_wanted_by_others_goes_on_without_the_batch() {
    let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
    let seat = of_a_batch(&flights, &loads, true);
    tokio::task::yield_now().await;
    drop(seat);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(loads.load(Ordering::Relaxed), 1, "it has spent a call");

    let seat = of_a_batch(&flights, &loads, false);
    let other = of_a_batch(&flights, &loads, false);
    drop(seat);
    assert!(
        other.joined() && other.wait().await.is_ok(),
        "another batch waits for it"
    );

    let seat = of_a_batch(&flights, &loads, false);
    let ringing = board(&flights, 1, || async { Ok(0) });
    drop((seat, ringing));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        loads.load(Ordering::Relaxed),
        3,
        "a phone rang for it, and may again"
    );
}

#[tokio::test(start_paused = true)]
async fn other_credentials_and_refreshes_do_not_share() {
    let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
    let keys = [1, 2, 3];
    let seats = keys.map(|key| board(&flights, key, || slow(Arc::clone(&loads))));
    for seat in seats {
        assert!(!seat.joined());
        assert!(seat.wait().await.is_ok());
    }
    assert_eq!(loads.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_panics_fails_its_callers_and_the_next_one_leads_again() {
    let flights = flights();
    let seat = board(&flights, 1, || async { panic!("a connector's bug") });
    assert_eq!(seat.wait().await.unwrap_err(), LookupError::Internal);
    let seat = board(&flights, 1, || async { Ok(0) });
    assert!(!seat.joined());
    assert!(seat.wait().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn without_a_place_no_load_begins_but_those_under_way_are_joined() {
    let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
    let places = Arc::new(tokio::sync::Semaphore::new(1));
    let board =
        |flights: &Test, key, load: fn(Arc<AtomicU32>) -> BoxFuture<'static, LoadResult<u8>>| {
            flights.join_or_lead(key, Join::Any, in_lane(Lane::CallPop), |_, _| {
                let place = Arc::clone(&places).try_acquire_owned().ok()?;
                begin_in(place, load(Arc::clone(&loads)))
            })
        };
    let slow = |loads| slow(loads).boxed();
    let lead = board(&flights, 1, slow);
    let refused = board(&flights, 2, slow);
    let joined = board(&flights, 1, slow);
    assert_eq!(refused.wait().await.unwrap_err(), LookupError::Overloaded);
    assert!(joined.joined() && joined.wait().await.is_ok() && lead.wait().await.is_ok());
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    assert!(board(&flights, 2, slow).wait().await.is_ok());
}

/// A load under a credential that is not verified.
fn untrusted<F>(flights: &Test, load: impl FnOnce(Arc<Urgency>) -> F) -> Seat<u8>
where
    F: Future<Output = LoadResult<u8>> + Send + 'static,
{
    let demand = Demand {
        verified: false,
        ..in_lane(Lane::CallPop)
    };
    flights.join_or_lead(1, Join::Any, demand, |urgency, _| begin(load(urgency)))
}

#[tokio::test(start_paused = true)]
async fn under_a_credential_that_nobody_knows_a_load_ends_with_its_callers_before_its_next_call() {
    let (flights, calls) = (flights(), Arc::new(AtomicU32::new(0)));
    let load = |accepted: bool| {
        let calls = Arc::clone(&calls);
        move |urgency: Arc<Urgency>| async move {
            for _ in 0..3 {
                sleep(Duration::from_millis(100)).await;
                let call = urgency.spend();
                sleep(Duration::from_millis(100)).await;
                calls.fetch_add(1, Ordering::Relaxed);
                if accepted {
                    urgency.want();
                }
                drop(call);
            }
            Ok(0)
        }
    };
    for (accepted, left_after, made) in [
        (false, 50, 0),
        (false, 150, 1),
        (true, 150, 3),
        (false, 650, 3),
    ] {
        let seat = untrusted(&flights, load(accepted));
        let _ = timeout(Duration::from_millis(left_after), seat.wait()).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(
            calls.swap(0, Ordering::Relaxed),
            made,
            "accepted: {accepted}, left after {left_after} ms"
        );
    }
    let seat = untrusted(&flights, load(false));
    drop(board(&flights, 1, || async { Ok(0) }));
    drop(seat);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        calls.load(Ordering::Relaxed),
        3,
        "somebody asked when the credential was known to be good"
    );
}

#[tokio::test(start_paused = true)]
async fn who_wants_a_load_of_its_own_joins_only_one_that_has_made_no_call_yet() {
    let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
    let (call, called) = tokio::sync::oneshot::channel::<()>();
    let loading = Arc::clone(&loads);
    let first = flights.join_or_lead(1, Join::Any, in_lane(Lane::CallPop), |urgency, _| {
        begin(async move {
            called.await.unwrap();
            let _call = urgency.spend();
            slow(loading).await
        })
    });
    let refresh = |loads: &Arc<AtomicU32>| {
        let loads = Arc::clone(loads);
        flights.join_or_lead(1, Join::NotCalledYet, in_lane(Lane::CallPop), |_, _| {
            begin(slow(loads))
        })
    };
    assert!(
        refresh(&loads).joined(),
        "it stands in line, so it will see what was changed before"
    );
    call.send(()).unwrap();
    sleep(Duration::from_millis(1)).await;
    let second = refresh(&loads);
    assert!(!second.joined());
    assert!(
        board(&flights, 1, || async { Ok(0) }).joined(),
        "the later one is on the board"
    );
    assert!(first.wait().await.is_ok());
    assert!(
        board(&flights, 1, || async { Ok(0) }).joined(),
        "and stays there when the first one ends"
    );
    assert!(second.wait().await.is_ok());
    assert_eq!(loads.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn the_main_part_is_there_for_whoever_takes_it_before_the_load_ends() {
    let flights = flights();
    let mut seat = flights.join_or_lead(1, Join::Any, in_lane(Lane::CallPop), |_, early| {
        begin(async move {
            early.show(1);
            sleep(Duration::from_millis(500)).await;
            Ok(2)
        })
    });
    assert_eq!(seat.early().await, Some(1));
    let mut later = board(&flights, 1, || async { Ok(3) });
    assert_eq!(
        (later.joined(), later.early().await, later.done().await),
        (true, Some(1), Ok(2))
    );
    assert_eq!((seat.early().await, seat.wait().await), (None, Ok(2)));
}

#[tokio::test(start_paused = true)]
async fn only_the_flights_that_are_meant_count_as_verified() {
    let (flights, loads) = (flights(), Arc::new(AtomicU32::new(0)));
    let unverified = Demand {
        verified: false,
        ..in_lane(Lane::CallPop)
    };
    let seats = [1, 2].map(|key| {
        let load = slow(Arc::clone(&loads));
        flights.join_or_lead(key, Join::Any, unverified, |_, _| begin(load))
    });
    flights.verify(|key| *key == 2);
    let verified = seats.each_ref().map(|seat| seat.urgency().is_verified());
    assert_eq!(verified, [false, true]);
}
