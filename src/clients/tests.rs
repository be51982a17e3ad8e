use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::*;

fn config(name: &str, token: &str) -> ClientConfig {
    ClientConfig {
        name: name.to_owned(),
        tokens: vec![TokenHash::of(token.as_bytes())],
        certificates: vec![format!("{name}.example")],
        platforms: None,
        accounts: None,
        rate: None,
        max_in_flight: None,
    }
}

fn name(client: Option<Arc<Client>>) -> Option<String> {
    client.map(|client| client.name().to_owned())
}

#[test]
fn a_client_is_known_by_its_token_or_by_the_name_in_its_certificate() {
    let mut rotating = config("b", "old");
    rotating.tokens.push(TokenHash::of(b"new"));
    let clients = Clients::new(
        &[config("a", "first"), rotating, config("c", "third")],
        false,
    );
    for (token, client) in [
        ("first", Some("a")),
        ("old", Some("b")),
        ("new", Some("b")),
        ("third", Some("c")),
        ("Third", None),
        ("", None),
        ("thir", None),
        ("thirdd", None),
    ] {
        assert_eq!(
            name(clients.by_token(token.as_bytes())).as_deref(),
            client,
            "{token}"
        );
    }
    assert_eq!(
        name(clients.by_certificate("b.example")).as_deref(),
        Some("b")
    );
    assert_eq!(name(clients.by_certificate("b")), None);
    assert!(!clients.is_empty() && Clients::default().is_empty());
    assert!(Clients::default().by_token(b"first").is_none());
}

#[test]
fn lists_of_platforms_and_accounts_bind_and_absent_ones_do_not() {
    let of = |platforms: Option<&[&str]>, accounts: Option<&[&str]>| {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Client::continuing(
            &ClientConfig {
                platforms: platforms.map(list),
                accounts: accounts.map(list),
                ..config("a", "t")
            },
            &[],
        )
    };
    assert_eq!(of(None, None).may_ask("clio", ""), Ok(()));
    assert_eq!(of(Some(&["clio"]), None).may_ask("clio", "9"), Ok(()));
    assert_eq!(
        of(Some(&["clio"]), None).may_ask("pipedrive", "9"),
        Err(Forbidden::Platform)
    );
    assert_eq!(of(None, Some(&["9"])).may_ask("clio", "9"), Ok(()));
    assert_eq!(
        of(None, Some(&["9"])).may_ask("clio", ""),
        Err(Forbidden::Account)
    );
}

#[test]
fn places_are_given_back_and_the_rate_says_when_to_call_again() {
    let client = Client::continuing(
        &ClientConfig {
            max_in_flight: Some(2),
            ..config("a", "t")
        },
        &[],
    );
    let first = client.enter().unwrap();
    let _second = client.enter().unwrap();
    assert_eq!(client.enter().unwrap_err(), Excess::InFlight);
    drop(first);
    assert!(client.enter().is_ok());

    let client = Client::continuing(
        &ClientConfig {
            rate: NonZeroU32::new(1),
            ..config("a", "t")
        },
        &[],
    );
    client.enter().unwrap();
    let Excess::Rate { wait } = client.enter().unwrap_err() else {
        panic!("the rate binds")
    };
    assert!(
        wait > Duration::ZERO && wait <= Duration::from_secs(1),
        "{wait:?}"
    );
}

#[test]
fn a_new_list_holds_at_once_and_running_calls_count_towards_unchanged_limits() {
    let clients = Clients::new(
        &[
            ClientConfig {
                max_in_flight: Some(1),
                ..config("a", "old")
            },
            config("b", "b"),
        ],
        false,
    );
    let in_hand = clients.by_token(b"old").unwrap().enter().unwrap();
    clients.replace(
        &[ClientConfig {
            max_in_flight: Some(1),
            ..config("a", "new")
        }],
        false,
    );
    assert!(clients.by_token(b"old").is_none() && clients.by_token(b"b").is_none());
    assert!(clients.by_certificate("b.example").is_none());
    let again = clients.by_token(b"new").unwrap();
    assert_eq!(
        again.enter().unwrap_err(),
        Excess::InFlight,
        "the call in hand counts"
    );
    drop(in_hand);
    assert!(again.enter().is_ok());
    clients.replace(
        &[ClientConfig {
            max_in_flight: Some(2),
            ..config("a", "new")
        }],
        false,
    );
    let wider = clients.by_token(b"new").unwrap();
    let _held = (wider.enter().unwrap(), wider.enter().unwrap());
    clients.replace(&[], false);
    assert!(clients.is_empty());
}
