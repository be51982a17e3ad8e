use super::*;
use crate::clock::ManualClock;

const HOUR: Duration = Duration::from_secs(3600);

fn user(n: u8) -> UserTag {
    UserTag::from_bytes([n; 16])
}

fn auth(n: u8) -> AuthTag {
    AuthTag::from_bytes([n; 16])
}

fn admissions() -> (Admissions, ManualClock) {
    let clock = ManualClock::new(Timestamp(1_000_000));
    let config = AdmissionConfig {
        admitted: HOUR,
        remembered: 25 * HOUR,
    };
    (
        Admissions::new(config, Arc::new(clock.clone()), None),
        clock,
    )
}

fn trust(admissions: &Admissions, of: u8, under: u8) -> Option<Trust> {
    admissions
        .known(user(of), auth(under))
        .map(|credential| credential.trust)
}

#[tokio::test]
async fn an_accepted_credential_is_verified_for_an_hour_then_lapsed_then_unknown() {
    let (admissions, clock) = admissions();
    assert_eq!(trust(&admissions, 1, 1), None);
    admissions
        .admit(user(1), auth(1), Identity::Caller, clock.now())
        .await;
    for (seconds, expected) in [
        (0, Some((Trust::Verified, false))),
        (2_879, Some((Trust::Verified, false))),
        (1, Some((Trust::Verified, true))),
        (719, Some((Trust::Verified, true))),
        (1, Some((Trust::Lapsed, false))),
        (24 * 3600 - 1, Some((Trust::Lapsed, false))),
        (1, None),
    ] {
        clock.advance(Duration::from_secs(seconds));
        let known = admissions
            .known(user(1), auth(1))
            .map(|known| (known.trust, known.due));
        assert_eq!(known, expected, "after {seconds} s more");
    }
}

/// Otherwise a look-up would not ask the CRM although it has to.
#[tokio::test]
async fn only_a_named_owner_under_lasting_trust_makes_another_question_to_the_crm_unnecessary() {
    let (admissions, clock) = admissions();
    let asked = clock.now();
    let named = Identity::from_bytes(&[1; 33]).unwrap();
    for (n, identity) in [
        (1, named),
        (2, Identity::Caller),
        (3, Identity::Credential(auth(3))),
    ] {
        admissions.admit(user(n), auth(n), identity, asked).await;
        let expected = (n == 1).then_some((identity, asked));
        assert_eq!(admissions.named(user(n), auth(n)), expected);
    }
    assert_eq!(admissions.named(user(2), auth(1)), None);
    clock.advance(Duration::from_secs(2_880));
    assert_eq!(admissions.named(user(1), auth(1)), None, "it is due");
    clock.advance(HOUR);
    assert_eq!(admissions.named(user(1), auth(1)), None, "it has lapsed");
}

#[tokio::test]
async fn trust_counts_from_when_the_crm_was_asked() {
    let (admissions, clock) = admissions();
    let asked = clock.now();
    clock.advance(HOUR / 2);
    admissions
        .admit(user(1), auth(1), Identity::Caller, asked)
        .await;
    clock.advance(HOUR / 2);
    assert_eq!(trust(&admissions, 1, 1), Some(Trust::Lapsed));
    admissions
        .admit(user(1), auth(1), Identity::Caller, clock.now())
        .await;
    admissions
        .admit(user(1), auth(1), Identity::Caller, asked)
        .await;
    assert_eq!(
        trust(&admissions, 1, 1),
        Some(Trust::Verified),
        "a slow call takes nothing back"
    );
}

/// A call that began before `revoke` admits nobody, and one that begins later does.
async fn only_later_calls_admit_after(revoke: impl Fn(&Admissions)) {
    let (admissions, clock) = admissions();
    let asked = clock.now();
    clock.advance(Duration::from_millis(5));
    revoke(&admissions);
    admissions
        .admit(user(1), auth(1), Identity::Caller, asked)
        .await;
    assert_eq!(trust(&admissions, 1, 1), None);
    clock.advance(Duration::from_millis(5));
    admissions
        .admit(user(1), auth(1), Identity::Caller, clock.now())
        .await;
    assert_eq!(trust(&admissions, 1, 1), Some(Trust::Verified));
}

#[tokio::test]
async fn a_call_that_began_before_a_refusal_does_not_undo_it() {
    only_later_calls_admit_after(|admissions| admissions.revoke_here(auth(1))).await;
}

#[tokio::test]
async fn a_call_that_began_before_refusals_were_lost_admits_nobody() {
    only_later_calls_admit_after(Admissions::clear_here).await;
}

#[tokio::test]
async fn a_refusal_ends_the_credential_for_all_users_and_no_other_credential() {
    let (admissions, clock) = admissions();
    for n in 1..=3 {
        admissions
            .admit(user(n), auth(n), Identity::Caller, clock.now())
            .await;
        admissions
            .admit(user(n), auth(9), Identity::Caller, clock.now())
            .await;
    }
    clock.advance(Duration::from_millis(1));
    admissions.revoke_here(auth(9));
    admissions.invalidate_user_here(user(2));
    let known: Vec<_> = (1..=3)
        .map(|n| [9, n].map(|m| trust(&admissions, n, m).is_some()))
        .collect();
    assert_eq!(known, [[false, true], [false, false], [false, true]]);
    admissions.clear_here();
    assert_eq!(trust(&admissions, 3, 3), None);
}

#[tokio::test]
async fn whose_a_credential_is_does_not_depend_on_the_user_id_and_ends_with_a_refusal() {
    let (admissions, clock) = admissions();
    let identity = Identity::from_bytes(&[1; 33]).unwrap();
    admissions
        .admit(user(1), auth(1), identity, clock.now())
        .await;
    admissions
        .admit(user(1), auth(2), Identity::Caller, clock.now())
        .await;
    let owner = |n| admissions.owner_of(None, auth(n));
    assert_eq!([1, 2, 3].map(owner), [Some(identity), None, None]);
    let unsaid = Identity::Credential(auth(1));
    assert_eq!(
        admissions.owner_of(Some(unsaid), auth(1)),
        Some(identity),
        "the CRM was silent this time"
    );
    assert_eq!(
        admissions.owner_of(Some(Identity::Caller), auth(1)),
        Some(Identity::Caller)
    );
    assert_eq!(trust(&admissions, 2, 1), None, "nobody is admitted by it");
    admissions.revoke_here(auth(1));
    assert_eq!(admissions.owner_of(None, auth(1)), None);
}

#[tokio::test]
async fn other_settings_hold_for_what_is_remembered_and_bring_nothing_back_that_has_ended() {
    let (admissions, clock) = admissions();
    admissions
        .admit(user(1), auth(1), Identity::Caller, clock.now())
        .await;
    clock.advance(HOUR / 2);
    admissions.set_config(AdmissionConfig {
        admitted: HOUR / 4,
        remembered: 2 * HOUR,
    });
    assert_eq!(trust(&admissions, 1, 1), Some(Trust::Lapsed));
    admissions.set_config(AdmissionConfig {
        admitted: HOUR,
        remembered: 25 * HOUR,
    });
    assert_eq!(trust(&admissions, 1, 1), Some(Trust::Verified));
    clock.advance(25 * HOUR);
    assert_eq!(trust(&admissions, 1, 1), None);
    admissions.set_config(AdmissionConfig {
        admitted: HOUR,
        remembered: 99 * HOUR,
    });
    assert_eq!(
        trust(&admissions, 1, 1),
        None,
        "it has ended by the settings before"
    );
}

#[tokio::test]
async fn a_refusal_that_comes_while_settings_change_is_not_set_back() {
    let (admissions, clock) = admissions();
    admissions.revoke_here(auth(1));
    let before = admissions.refusals.recent();
    clock.advance(Duration::from_secs(1));
    let asked = clock.now();
    clock.advance(Duration::from_secs(1));
    admissions.revoke_here(auth(1));
    admissions.keep_refusals(before);
    admissions
        .admit(user(1), auth(1), Identity::Caller, asked)
        .await;
    assert_eq!(trust(&admissions, 1, 1), None);
}

#[tokio::test]
async fn a_credential_keeps_the_owner_that_the_crm_named_until_it_is_refused() {
    let (admissions, clock) = admissions();
    let named = Identity::from_bytes(&[1; 33]).unwrap();
    let unsaid = Identity::Credential(auth(1));
    let owner = || {
        admissions
            .known(user(1), auth(1))
            .map(|known| known.identity)
    };
    for (accepted, expected) in [(unsaid, unsaid), (named, named), (unsaid, named)] {
        clock.advance(Duration::from_secs(1));
        admissions
            .admit(user(1), auth(1), accepted, clock.now())
            .await;
        assert_eq!(owner(), Some(expected));
    }
    admissions.revoke_here(auth(1));
    clock.advance(Duration::from_secs(1));
    admissions
        .admit(user(1), auth(1), unsaid, clock.now())
        .await;
    assert_eq!(owner(), Some(unsaid));
}

/// Refuses this many made-up credentials.
fn flood_with_refusals(admissions: &Admissions, many: u64) {
    for n in 0..u32::try_from(many).unwrap() {
        let mut tag = [255; 16];
        tag[..4].copy_from_slice(&n.to_be_bytes());
        admissions.revoke_here(AuthTag::from_bytes(tag));
    }
}

#[tokio::test]
async fn refusals_of_made_up_credentials_neither_hide_another_one_nor_cost_others_their_trust() {
    let (admissions, clock) = admissions();
    for n in 1..=3 {
        admissions
            .admit(user(n), auth(n), Identity::Caller, clock.now())
            .await;
    }
    clock.advance(Duration::from_millis(5));
    admissions.revoke_here(auth(1));
    flood_with_refusals(&admissions, retention::MOST * 2);
    admissions.revoke_here(auth(2));
    let known = [1, 2, 3].map(|n| trust(&admissions, n, n));
    assert_eq!(known, [None, None, Some(Trust::Verified)]);
    flood_with_refusals(&admissions, retention::MOST * 2);
    let known = [1, 2, 3].map(|n| trust(&admissions, n, n));
    assert_eq!(known, [None, None, Some(Trust::Verified)], "also later");
}

#[tokio::test]
async fn a_call_under_way_admits_nobody_after_a_refusal_that_many_others_follow() {
    let (admissions, clock) = admissions();
    let asked = clock.now();
    clock.advance(Duration::from_millis(5));
    admissions.revoke_here(auth(1));
    flood_with_refusals(&admissions, retention::MOST / 2);
    admissions
        .admit(user(1), auth(1), Identity::Caller, asked)
        .await;
    assert_eq!(trust(&admissions, 1, 1), None);
}

#[test]
fn the_last_refusal_of_a_credential_is_one_for_all_who_hold_it_and_ends_with_them() {
    let (admissions, _) = admissions();
    let refusals = &admissions.refusals;
    let [one, other] = [(); 2].map(|()| refusals.of(auth(1)));
    refusals.refuse(auth(1), Timestamp(7));
    refusals.refuse(auth(9), Timestamp(9));
    assert_eq!([one.latest(), other.latest()], [7, 7]);
    drop(one);
    refusals.refuse(auth(1), Timestamp(8));
    refusals.refuse(auth(1), Timestamp(5));
    assert_eq!((other.latest(), refusals.held()), (8, 1));
    drop(other);
    assert_eq!(refusals.held(), 0);
    assert_eq!(refusals.of(auth(1)).latest(), 8);
}
