use proptest::prelude::*;
use prost_types::{Struct, Value, value::Kind};

use super::*;
use crate::domain::caller::{Host, Settings};
use crate::domain::phone::{E164, Extension};

#[derive(Debug, Clone, PartialEq)]
struct Inputs {
    connector: String,
    account: String,
    id: String,
    host: Option<String>,
    number: u32,
    extension: bool,
    formats: Vec<String>,
    setting: Option<String>,
}

impl Inputs {
    fn key(&self) -> ContactKey {
        let fields = self
            .setting
            .iter()
            .map(|text| ("clioSeeClosedMatters".to_owned(), Value { kind: Some(Kind::StringValue(text.clone())) }));
        let user = User {
            id: self.id.clone(),
            account: self.account.clone(),
            host: self.host.as_deref().map(|host| Host::parse(host).unwrap()),
            region: None,
            settings: Settings::new(Struct { fields: fields.collect() }),
        };
        let party = if self.extension {
            Party::Extension(Extension::parse(&self.number.to_string()).unwrap())
        } else {
            Party::Number(E164::parse(&format!("+1650555{}", 1000 + self.number % 9000), None).unwrap())
        };
        let formats: Vec<_> = self.formats.iter().filter_map(|text| NumberFormat::parse(text)).collect();
        KeyMaker::new([7; 16]).contact(&self.connector, &user, party, &formats, &["clioSeeClosedMatters"])
    }
}

fn inputs() -> impl Strategy<Value = Inputs> {
    // Few letters, separators among them, so that the strategy looks for joins that collide.
    let id = "[a|,]{1,3}";
    (
        id,
        "[a|,]{0,3}",
        id,
        prop::option::of(prop::sample::select(vec!["a.example".to_owned(), "b.example".to_owned()])),
        0u32..3,
        any::<bool>(),
        prop::collection::vec("[#|,]{1,2}#", 0..3),
        prop::option::of("[a|,]{0,2}"),
    )
        .prop_map(|(connector, account, id, host, number, extension, formats, setting)| Inputs {
            connector,
            account,
            id,
            host,
            number,
            extension,
            formats,
            setting,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]
    #[test]
    fn keys_are_equal_exactly_when_all_inputs_are(a in inputs(), b in inputs()) {
        prop_assert_eq!(a == b, a.key() == b.key());
    }
}

#[test]
fn each_single_input_changes_the_key() {
    let base = Inputs {
        connector: "clio".into(),
        account: "a".into(),
        id: "u".into(),
        host: Some("a.example".into()),
        number: 1,
        extension: false,
        formats: vec!["##".into(), "#-#".into()],
        setting: Some("x".into()),
    };
    let changed = [
        Inputs { connector: "pipedrive".into(), ..base.clone() },
        Inputs { account: "b".into(), ..base.clone() },
        Inputs { id: "v".into(), ..base.clone() },
        Inputs { host: Some("b.example".into()), ..base.clone() },
        Inputs { host: None, ..base.clone() },
        Inputs { number: 2, ..base.clone() },
        Inputs { extension: true, ..base.clone() },
        Inputs { formats: vec!["#-#".into(), "##".into()], ..base.clone() },
        Inputs { formats: vec!["##".into()], ..base.clone() },
        Inputs { setting: Some("y".into()), ..base.clone() },
        Inputs { setting: None, ..base.clone() },
    ];
    for other in changed {
        assert_ne!(base.key(), other.key(), "{other:?}");
    }
}

#[test]
fn hostile_ids_do_not_meet() {
    let base = Inputs {
        connector: "clio".into(),
        account: "a|b".into(),
        id: "c".into(),
        host: None,
        number: 1,
        extension: false,
        formats: vec![],
        setting: None,
    };
    let other = Inputs { account: "a".into(), id: "b|c".into(), ..base.clone() };
    assert_ne!(base.key(), other.key());
}

#[test]
fn credentials_are_told_apart_without_being_kept() {
    let maker = KeyMaker::new([7; 16]);
    let tag = |text: &str| maker.auth(&AuthHeader::parse(text).unwrap(), None);
    assert_eq!(tag("Bearer a"), tag("Bearer a"));
    assert_ne!(tag("Bearer a"), tag("Bearer b"));
}
