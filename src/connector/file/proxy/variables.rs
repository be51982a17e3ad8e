//! The variables of App Connect's templates: which ones exist, and the tree that they are read
//! from.

use serde_json::{Map, Value, json};

use super::super::fill::SlotScope;
use crate::connector::path::Path;
use crate::domain::json::from_value;
use crate::domain::phone::PlanFacts;
use crate::domain::{E164, Host, NumberFormat};

/// What a variable stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::connector::file) enum Variable {
    /// The number in the spelling that is asked for.
    Spelled,
    /// The number in a fixed form.
    Parsed,
    /// A fact that does not identify the number.
    Fact,
    /// `apiKey` and `user.accessToken`: the caller's secret without its scheme.
    Key,
    /// `authHeader`: the caller's header.
    Header,
    /// `secretKey`
    Secret,
    Host,
    UserId,
    Platform,
    /// A field of `platformAdditionalInfo`, and the keys below it.
    Info(String, Vec<String>),
    IsExtension,
    Formats,
    /// Nothing: it renders as empty.
    Missing,
}

/// A whole object would send fields that nobody named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("names a whole object; name each of its fields that the CRM needs")]
pub(in crate::connector::file) struct WholeObject;

/// The spellings in `parsedPhoneNumber.number`.
const SPELLINGS: [&str; 6] = [
    "input",
    "e164",
    "national",
    "international",
    "significant",
    "rfc3966",
];

/// The facts in `parsedPhoneNumber` that do not identify the number.
const FACTS: [&str; 9] = [
    "countryCode",
    "regionCode",
    "valid",
    "possible",
    "possibility",
    "type",
    "typeIsMobile",
    "typeIsFixedLine",
    "canBeInternationallyDialled",
];

impl Variable {
    /// What a path names.
    ///
    /// # Errors
    /// [`WholeObject`].
    pub(in crate::connector::file) fn of(path: &Path) -> Result<Self, WholeObject> {
        let keys = path.names();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        Ok(match keys.as_slice() {
            [] | ["user"] | ["user", "platformAdditionalInfo"] => return Err(WholeObject),
            ["user", of_user @ ..] => Self::of_user(of_user),
            ["parsedPhoneNumber", of_number @ ..] => Self::of_number(of_number),
            ["phoneNumber"] => Self::Spelled,
            ["apiKey"] => Self::Key,
            ["authHeader"] => Self::Header,
            ["secretKey"] => Self::Secret,
            ["isExtension"] => Self::IsExtension,
            ["overridingFormat"] => Self::Formats,
            _ => Self::Missing,
        })
    }

    fn of_number(keys: &[&str]) -> Self {
        match keys {
            [] | ["number"] => Self::Parsed,
            ["number", spelling] if SPELLINGS.contains(spelling) => Self::Parsed,
            [fact] if FACTS.contains(fact) => Self::Fact,
            _ => Self::Missing,
        }
    }

    fn of_user(keys: &[&str]) -> Self {
        match keys {
            ["accessToken"] => Self::Key,
            ["hostname"] => Self::Host,
            ["id"] => Self::UserId,
            ["platform"] => Self::Platform,
            ["platformAdditionalInfo", field, below @ ..] => Self::info(field, below),
            _ => Self::Missing,
        }
    }

    fn info(field: &str, below: &[&str]) -> Self {
        let below = below.iter().map(|key| (*key).to_owned());
        Self::Info(field.to_owned(), below.collect())
    }
}

/// The tree of variables for one request. It has only what callers and settings gave it: the info
/// fields are those that the file names.
pub(super) fn tree(
    scope: &SlotScope<'_>,
    info: &[String],
    credentials: Map<String, Value>,
) -> Value {
    let number = scope.at.map(|at| &at.number);
    let asked = scope.at.map(|at| at.text.as_str()).or(scope.extension);
    let formats: Vec<&str> = scope.formats.iter().map(NumberFormat::pattern).collect();
    let mut tree = json!({
        "phoneNumber": asked,
        "isExtension": scope.extension.is_some().to_string(),
        "overridingFormat": formats.join(","),
        "parsedPhoneNumber": number.map_or_else(|| unparsed(asked), parsed),
        "user": user(scope, info, credentials.get("apiKey")),
    });
    if let Value::Object(variables) = &mut tree {
        variables.extend(credentials);
    }
    tree
}

fn user(scope: &SlotScope<'_>, info: &[String], key: Option<&Value>) -> Value {
    let field = |name: &String| {
        let value = scope.info.and_then(|info| info.get(name))?;
        Some((name.clone(), from_value(value)))
    };
    let mut user = json!({
        "id": scope.user_id.split('-').next(),
        "platform": scope.platform,
        "platformAdditionalInfo": info.iter().filter_map(field).collect::<Value>(),
    });
    if let Some(host) = scope.host.map(Host::as_str) {
        user["hostname"] = host.into();
    }
    if let Some(key) = key {
        user["accessToken"] = key.clone();
    }
    user
}

/// `parsedPhoneNumber` of a number.
fn parsed(number: &E164) -> Value {
    let facts = PlanFacts::of(number);
    json!({
        "number": {
            "input": number.to_string(),
            "e164": number.to_string(),
            "national": number.local(),
            "international": number.international(),
            "significant": number.national(),
            "rfc3966": facts.rfc3966,
        },
        "countryCode": facts.calling_code,
        "regionCode": facts.region,
        "valid": facts.is_valid,
        "possible": facts.is_valid,
        "possibility": if facts.is_valid { "is-possible" } else { "invalid" },
        "type": facts.kind,
        "typeIsMobile": matches!(facts.kind, "mobile" | "fixed-line-or-mobile"),
        "typeIsFixedLine": matches!(facts.kind, "fixed-line" | "fixed-line-or-mobile"),
        "canBeInternationallyDialled": facts.is_dialled_from_abroad,
    })
}

/// `parsedPhoneNumber` of an extension, which is no telephone number.
fn unparsed(input: Option<&str>) -> Value {
    json!({
        "number": {"input": input},
        "regionCode": null,
        "valid": false,
        "possible": false,
        "possibility": "invalid-country-code",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(number: &str) -> Value {
        parsed(&E164::parse(number, None).unwrap())
    }

    #[test]
    fn a_number_has_the_facts_that_app_connect_names() {
        let valid = json!({
            "number": {
                "input": "+16505551234", "e164": "+16505551234", "national": "(650) 555-1234",
                "international": "+1 650-555-1234", "significant": "6505551234",
                "rfc3966": "tel:+1-650-555-1234",
            },
            "countryCode": 1, "regionCode": "US", "valid": true, "possible": true,
            "possibility": "is-possible", "type": "fixed-line-or-mobile", "typeIsMobile": true,
            "typeIsFixedLine": true, "canBeInternationallyDialled": true,
        });
        assert_eq!(all("+16505551234"), valid);
        let unassigned = all("+15551234567");
        for (fact, expected) in [
            ("valid", json!(false)),
            ("possible", json!(false)),
            ("possibility", json!("invalid")),
            ("type", json!("unknown")),
            ("countryCode", json!(1)),
            ("regionCode", json!("US")),
            ("typeIsMobile", json!(false)),
        ] {
            assert_eq!(unassigned[fact], expected, "{fact}");
        }
        for (number, region, kind, significant) in [
            ("+442079460018", "GB", "fixed-line", "2079460018"),
            ("+447400123456", "GB", "mobile", "7400123456"),
            ("+390612345678", "IT", "fixed-line", "0612345678"),
            ("+18005550100", "US", "toll-free", "8005550100"),
        ] {
            let facts = all(number);
            assert_eq!(facts["regionCode"], region, "{number}");
            assert_eq!(facts["type"], kind, "{number}");
            assert_eq!(facts["number"]["significant"], significant, "{number}");
        }
    }

    #[test]
    fn a_path_names_a_variable_nothing_or_too_much() {
        let of = |path: &str| Variable::of(&Path::dotted(path));
        for (path, expected) in [
            ("phoneNumber", Ok(Variable::Spelled)),
            ("parsedPhoneNumber", Ok(Variable::Parsed)),
            ("parsedPhoneNumber.number.e164", Ok(Variable::Parsed)),
            ("parsedPhoneNumber.countryCode", Ok(Variable::Fact)),
            ("parsedPhoneNumber.number.x", Ok(Variable::Missing)),
            ("apiKey", Ok(Variable::Key)),
            ("user.accessToken", Ok(Variable::Key)),
            ("user.refreshToken", Ok(Variable::Missing)),
            ("constructor.prototype", Ok(Variable::Missing)),
            (
                "user.platformAdditionalInfo.a.0.b",
                Ok(Variable::Info(
                    "a".to_owned(),
                    vec!["0".to_owned(), "b".to_owned()],
                )),
            ),
            ("", Err(WholeObject)),
            ("$", Err(WholeObject)),
            ("user", Err(WholeObject)),
            ("user.platformAdditionalInfo", Err(WholeObject)),
        ] {
            assert_eq!(of(path), expected, "{path}");
        }
    }
}
