use super::*;

fn config(name: &str, token: &str) -> Config {
    Config {
        name: name.to_owned(),
        tokens: vec![TokenHash::of(token.as_bytes())],
        certificates: vec![format!("{name}.example")],
        platforms: None,
        accounts: None,
        rate: None,
        max_in_flight: None,
    }
}

fn name(caller: Option<Arc<Client>>) -> Option<String> {
    caller.map(|caller| caller.name().to_owned())
}

#[test]
fn a_caller_is_known_by_its_token_or_by_the_name_in_its_certificate() {
    let mut rotating = config("b", "old");
    rotating.tokens.push(TokenHash::of(b"new"));
    let callers = Clients::new(
        &[config("a", "first"), rotating, config("c", "third")],
        false,
    );
    for (token, caller) in [
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
            name(callers.by_token(token.as_bytes())).as_deref(),
            caller,
            "{token}"
        );
    }
    assert_eq!(
        name(callers.by_certificate("b.example")).as_deref(),
        Some("b")
    );
    assert_eq!(name(callers.by_certificate("b")), None);
    assert!(!callers.is_empty() && Clients::default().is_empty());
    assert!(Clients::default().by_token(b"first").is_none());
}

#[test]
fn lists_of_platforms_and_accounts_bind_and_absent_ones_do_not() {
    let of = |platforms: Option<&[&str]>, accounts: Option<&[&str]>| {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Client::new(
            Config {
                platforms: platforms.map(list),
                accounts: accounts.map(list),
                ..config("a", "t")
            },
            None,
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
    let caller = Client::new(
        Config {
            max_in_flight: Some(2),
            ..config("a", "t")
        },
        None,
    );
    let first = caller.enter().unwrap();
    let _second = caller.enter().unwrap();
    assert_eq!(caller.enter().unwrap_err(), Excess::InFlight);
    drop(first);
    assert!(caller.enter().is_ok());

    let caller = Client::new(
        Config {
            rate: NonZeroU32::new(1),
            ..config("a", "t")
        },
        None,
    );
    caller.enter().unwrap();
    let Excess::Rate { wait } = caller.enter().unwrap_err() else {
        panic!("the rate binds")
    };
    assert!(
        wait > Duration::ZERO && wait <= Duration::from_secs(1),
        "{wait:?}"
    );
}

#[test]
fn a_new_list_holds_at_once_and_counts_on_towards_limits_that_stayed() {
    let callers = Clients::new(
        &[
            Config {
                max_in_flight: Some(1),
                ..config("a", "old")
            },
            config("b", "b"),
        ],
        false,
    );
    let in_hand = callers.by_token(b"old").unwrap().enter().unwrap();
    callers.replace(
        &[Config {
            max_in_flight: Some(1),
            ..config("a", "new")
        }],
        false,
    );
    assert!(callers.by_token(b"old").is_none() && callers.by_token(b"b").is_none());
    assert!(callers.by_certificate("b.example").is_none());
    let again = callers.by_token(b"new").unwrap();
    assert_eq!(
        again.enter().unwrap_err(),
        Excess::InFlight,
        "the call in hand counts"
    );
    drop(in_hand);
    assert!(again.enter().is_ok());
    callers.replace(
        &[Config {
            max_in_flight: Some(2),
            ..config("a", "new")
        }],
        false,
    );
    let wider = callers.by_token(b"new").unwrap();
    let _held = (wider.enter().unwrap(), wider.enter().unwrap());
    callers.replace(&[], false);
    assert!(callers.is_empty());
}
