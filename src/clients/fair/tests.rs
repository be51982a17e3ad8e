use proptest::prelude::*;

use super::*;
use crate::clock;

fn origin(network: u8, connection: u64) -> Origin {
    Origin::new(IpAddr::from([10, 0, 0, network]), connection, clock::now())
}

fn taken_back(places: &mut [FairPlace]) -> Vec<usize> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut taken_back = Vec::new();
    for (n, place) in places.iter_mut().enumerate() {
        if place.poll_taken_back(&mut cx).is_ready() {
            taken_back.push(n);
        }
    }
    taken_back
}

#[test]
fn of_one_connection_the_oldest_gives_way() {
    let fair = FairPlaces::new(2);
    let mut places: Vec<_> = (0..3).map(|_| fair.enter(&origin(1, 1))).collect();
    assert_eq!(taken_back(&mut places), [0]);
    drop(places);
    let mut places: Vec<_> = (0..2).map(|_| fair.enter(&origin(1, 1))).collect();
    assert_eq!(taken_back(&mut places), [0; 0]);
}

#[test]
fn who_has_most_gives_way_by_address_then_by_connection() {
    let fair = FairPlaces::new(6);
    let from = [(1, 1), (2, 2), (2, 3), (2, 3), (2, 2), (2, 3), (3, 4)];
    let mut places: Vec<_> = from
        .into_iter()
        .map(|(network, connection)| fair.enter(&origin(network, connection)))
        .collect();
    assert_eq!(taken_back(&mut places), [2], "the oldest of connection 3");
    places.push(fair.enter(&origin(2, 5)));
    assert_eq!(
        taken_back(&mut places),
        [1, 2],
        "2 and 3 have two each, and 2 has had them for longer"
    );
}

#[test]
fn of_equals_the_one_that_came_first_gives_way_whatever_its_address() {
    for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
        let fair = FairPlaces::new(2);
        let mut places: Vec<_> = order.map(|n| fair.enter(&origin(n, n.into()))).into();
        assert_eq!(taken_back(&mut places), [0], "{order:?}");
    }
}

#[test]
fn who_asks_is_let_in_only_if_others_have_more_than_it_would_have() {
    let fair = FairPlaces::new(4);
    let asks = |network, connection| fair.try_enter(&origin(network, connection));
    let mut places: Vec<_> = (0..4).filter_map(|_| asks(1, 1)).collect();
    assert_eq!(places.len(), 4);
    assert!(asks(1, 1).is_none());
    places.push(asks(1, 2).expect("another connection of the same address"));
    assert_eq!(taken_back(&mut places), [0]);
    drop(places.remove(0));
    places.push(asks(2, 3).expect("another address"));
    assert_eq!(taken_back(&mut places), [0]);
    assert!(asks(1, 2).is_none(), "both connections would have two");
}

#[test]
fn places_that_were_taken_back_count_until_they_are_given_back() {
    let fair = FairPlaces::new(6);
    let mut places: Vec<_> = (0..6).map(|_| fair.enter(&origin(1, 1))).collect();
    let others: Vec<_> = (2..9)
        .filter_map(|n| fair.try_enter(&origin(n, n.into())))
        .collect();
    assert_eq!((others.len(), taken_back(&mut places)), (2, vec![0, 1]));
    drop(places.remove(0));
    assert!(fair.try_enter(&origin(9, 9)).is_some());
}

proptest! {
    #[test]
    fn who_holds_one_place_keeps_it_while_another_connection_holds_two(
        from in prop::collection::vec((0_u8..3, 0_u64..3, any::<bool>()), 1..60),
    ) {
        let fair = FairPlaces::new(5);
        let single = (200, 200);
        let mut kept = vec![fair.enter(&origin(single.0, single.1))];
        let mut flood = Vec::new();
        for (network, connection, stays) in from {
            let place = fair.enter(&origin(network, connection + 10 * u64::from(network)));
            if stays {
                flood.push(place);
            }
            let state = fair.state.lock();
            prop_assert!(state.taken.len() <= 5);
            let counted: usize = state.networks.counts.values().map(|(count, _)| count).sum();
            prop_assert_eq!(counted, state.taken.len());
        }
        // With three other addresses one of them has two of the other four places.
        prop_assert!(taken_back(&mut kept).is_empty());
        drop((kept, flood));
        let state = fair.state.lock();
        prop_assert!(state.held == 0 && state.taken.is_empty() && state.connections.is_empty());
        prop_assert!(state.networks.order.is_empty());
    }
}
