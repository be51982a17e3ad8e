use proptest::prelude::*;
use prost_types::{Struct, Value, value::Kind};

use super::*;
use crate::domain::phone::{E164, Extension};
use crate::domain::user::{AdditionalInfo, Host, Settings};

#[derive(Debug, Clone, PartialEq)]
struct Inputs {
    connector: String,
    base_url: String,
    account: String,
    id: String,
    host: Option<String>,
    region: Option<&'static str>,
    regions: Vec<&'static str>,
    identity: u8,
    number: u32,
    extension: bool,
    formats: Vec<String>,
    setting: Option<String>,
    info: Option<String>,
}

impl Inputs {
    fn key(&self) -> ContactKey {
        let (settings, info) = (["clioSeeClosedMatters".to_owned()], ["apiUrl".to_owned()]);
        let user = User {
            id: self.id.clone(),
            account: self.account.clone(),
            host: self.host.as_deref().map(|host| Host::parse(host).unwrap()),
            region: self.region.and_then(Region::parse),
            settings: Settings::new(fields(&settings[0], self.setting.as_deref())),
            info: AdditionalInfo::only(&fields(&info[0], self.info.as_deref()), &info),
        };
        let party = if self.extension {
            Party::Extension(Extension::parse(&self.number.to_string()).unwrap())
        } else {
            Party::Number(
                E164::parse(&format!("+1650555{}", 1000 + self.number % 9000), None).unwrap(),
            )
        };
        let formats: Vec<_> = self
            .formats
            .iter()
            .filter_map(|text| NumberFormat::parse(text))
            .collect();
        let regions: Vec<_> = self
            .regions
            .iter()
            .filter_map(|region| Region::parse(region))
            .collect();
        let crm = Crm {
            connector: &self.connector,
            base_url: &self.base_url,
            regions: &regions,
            settings: &settings,
            info: &info,
        };
        let identity = Identity::Credential(AuthTag::from_bytes([self.identity; 16]));
        KeyMaker::new([7; 16])
            .prefix(&crm, &user, &formats)
            .question(party)
            .of(&identity)
    }
}

fn fields(name: &str, text: Option<&str>) -> Struct {
    let value = |text: &str| Value {
        kind: Some(Kind::StringValue(text.to_owned())),
    };
    Struct {
        fields: text
            .map(|text| (name.to_owned(), value(text)))
            .into_iter()
            .collect(),
    }
}

fn inputs() -> impl Strategy<Value = Inputs> {
    // Few letters, separators among them, so that the strategy looks for joins that collide.
    let id = "[a|,]{1,3}";
    let regions = vec!["US", "DE"];
    let crm = (
        id,
        "[a|,]{0,2}",
        prop::collection::vec(prop::sample::select(regions.clone()), 0..3),
    );
    let user = (
        "[a|,]{0,3}",
        id,
        prop::option::of(prop::sample::select(vec![
            "a.example".to_owned(),
            "b.example".to_owned(),
        ])),
        prop::option::of(prop::sample::select(regions)),
        0u8..3,
    );
    let question = (
        0u32..3,
        any::<bool>(),
        prop::collection::vec("[#|,]{1,2}#", 0..3),
        prop::option::of("[a|,]{0,2}"),
        prop::option::of("[a|,]{0,2}"),
    );
    (crm, user, question).prop_map(|(crm, user, (number, extension, formats, setting, info))| {
        let ((connector, base_url, regions), (account, id, host, region, identity)) = (crm, user);
        Inputs {
            connector,
            base_url,
            account,
            id,
            host,
            region,
            regions,
            identity,
            number,
            extension,
            formats,
            setting,
            info,
        }
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
        base_url: "https://a.example/".into(),
        account: "a".into(),
        id: "u".into(),
        host: Some("a.example".into()),
        region: Some("US"),
        regions: vec!["US", "DE"],
        identity: 1,
        number: 1,
        extension: false,
        formats: vec!["##".into(), "#-#".into()],
        setting: Some("x".into()),
        info: Some("z".into()),
    };
    let changes: [fn(&mut Inputs); 21] = [
        |inputs| inputs.connector = "pipedrive".into(),
        |inputs| inputs.base_url = "https://sandbox.example/".into(),
        |inputs| inputs.base_url = String::new(),
        |inputs| inputs.region = Some("CA"),
        |inputs| inputs.region = None,
        |inputs| inputs.regions = vec!["US"],
        |inputs| inputs.regions = vec![],
        |inputs| inputs.identity = 2,
        |inputs| inputs.account = "b".into(),
        |inputs| inputs.id = "v".into(),
        |inputs| inputs.host = Some("b.example".into()),
        |inputs| inputs.host = None,
        |inputs| inputs.number = 2,
        |inputs| inputs.extension = true,
        |inputs| inputs.formats = vec!["#-#".into(), "##".into()],
        |inputs| inputs.formats = vec!["##".into()],
        |inputs| inputs.setting = Some("y".into()),
        |inputs| inputs.setting = None,
        |inputs| inputs.info = Some("y".into()),
        |inputs| inputs.info = None,
        |inputs| std::mem::swap(&mut inputs.setting, &mut inputs.info),
    ];
    for change in changes {
        let mut other = base.clone();
        change(&mut other);
        assert_ne!(base.key(), other.key(), "{other:?}");
    }
}

#[test]
fn hostile_ids_do_not_meet() {
    let base = Inputs {
        connector: "clio".into(),
        base_url: String::new(),
        account: "a|b".into(),
        id: "c".into(),
        host: None,
        region: None,
        regions: vec![],
        identity: 1,
        number: 1,
        extension: false,
        formats: vec![],
        setting: None,
        info: None,
    };
    let other = Inputs {
        account: "a".into(),
        id: "b|c".into(),
        ..base.clone()
    };
    assert_ne!(base.key(), other.key());
}

fn place(base_url: &str) -> CrmPlace<'_> {
    CrmPlace {
        connector: "clio",
        base_url: base_url.into(),
        host: "",
        asked: Vec::new(),
    }
}

#[test]
fn credentials_are_told_apart_without_being_kept() {
    let maker = KeyMaker::new([7; 16]);
    let tag = |text: &str, url| maker.auth(&place(url), [("authorization", text)]);
    assert_eq!(tag("Bearer a", ""), tag("Bearer a", ""));
    assert_ne!(tag("Bearer a", ""), tag("Bearer b", ""));
    assert_ne!(
        tag("Bearer a", "https://a.example/"),
        tag("Bearer a", "https://b.example/"),
        "what one CRM accepts"
    );
}

#[test]
fn every_header_of_a_credential_counts_by_name_and_value() {
    let maker = KeyMaker::new([7; 16]);
    let tag = |headers: &[(&'static str, &str)]| maker.auth(&place(""), headers.to_vec());
    let base = tag(&[("x-token", "a"), ("x-user", "b")]);
    for other in [
        &[("x-token", "c"), ("x-user", "b")][..],
        &[("x-token", "a"), ("x-user", "c")],
        &[("x-token", "b"), ("x-user", "a")],
        &[("x-key", "a"), ("x-user", "b")],
        &[("x-token", "a")],
        &[("x-token", "ax-user"), ("", "b")],
        &[],
    ] {
        assert_ne!(base, tag(other), "{other:?}");
    }
}

#[test]
fn an_identity_is_one_user_of_one_account_at_one_address() {
    let maker = KeyMaker::new([7; 16]);
    let identity = |url, user: &str, account: &str| {
        maker.identity(
            &place(url),
            &WhoAmI::new(user.to_owned(), account.to_owned()).unwrap(),
        )
    };
    let base = identity("https://a.example/", "7", "1");
    assert_eq!(base, identity("https://a.example/", "7", "1"));
    let others = [
        identity("https://b.example/", "7", "1"),
        identity("https://a.example/", "8", "1"),
        identity("https://a.example/", "7", "2"),
    ];
    for other in others {
        assert_ne!(base.tag(), other.tag());
    }
    assert!(
        WhoAmI::new(" ".to_owned(), "1".to_owned()).is_none(),
        "an account alone names nobody"
    );
}

#[test]
fn what_programs_write_without_an_id_names_nobody() {
    let named = |user: &str, account: &str| WhoAmI::new(user.to_owned(), account.to_owned());
    for nobody in [
        "0",
        "-1",
        "null",
        "Undefined",
        "None",
        "anonymous",
        "00000000-0000-0000-0000-000000000000",
        "{00000000-0000-0000-0000-000000000000}",
    ] {
        assert!(named(nobody, "").is_none(), "{nobody}");
        assert!(named("7", nobody).is_none(), "{nobody}");
    }
    for somebody in ["1", "10", "-", "Noneman", "005000000000001AAA"] {
        assert!(
            named(somebody, "").is_some() || somebody == "-",
            "{somebody}"
        );
    }
}

#[test]
fn another_host_makes_another_credential_and_another_user() {
    let (keys, who) = (
        KeyMaker::new([7; 16]),
        WhoAmI::new("u".to_owned(), String::new()).unwrap(),
    );
    let [one, other] = ["a.example", "b.example"].map(|host| {
        let place = CrmPlace { host, ..place("") };
        (
            keys.auth(&place, [("authorization", "Bearer a")]),
            keys.identity(&place, &who),
        )
    });
    assert!(one.0 != other.0 && one.1 != other.1);
}
