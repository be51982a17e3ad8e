//! Requests become questions: every INVALID_ARGUMENT arises here.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use prost::Message as _;
use prost_types::value::Kind as ValueKind;
use prost_types::{Struct, Value};
use tokio::time::Instant;
use tonic::Status;

use super::status::invalid;
use crate::connector::Platform;
use crate::domain::phone::{self, HouseWords, NumberError, RemoteParty};
use crate::domain::user::Settings;
use crate::domain::{AuthHeader, Extension, NumberFormat, Party, Region, User};
use crate::pb::v1 as pb;
use crate::pb::v1::invalidate_contacts_request::Scope;
use crate::resolver::{Batch, Forgotten, Question, Trigger};
use crate::trace::Span;

/// Longest id that is taken, in bytes.
const MAX_ID: usize = 512;

/// Most formats of a user; App Connect offers three.
const MAX_FORMATS: usize = 16;

/// Longest text of digits that an invalidation takes for an extension.
const LONGEST_EXTENSION: usize = 6;

/// Most numbers of one batch.
const MAX_NUMBERS: usize = 10_000;

/// Most bytes, values and levels of a Struct in a request; App Connect's user settings are a few
/// switches.
const MAX_STRUCT: (usize, usize, usize) = (16 << 10, 1000, 16);

/// What is to be done about a request.
#[expect(
    clippy::large_enum_variant,
    reason = "one is on its way for each call, and a box would cost every hit"
)]
#[derive(Debug)]
pub(super) enum Ask {
    /// Look it up.
    Find(Question),
    /// The caller withheld the number.
    Withheld,
    /// An emergency or service number.
    ShortCode,
    /// Digits that are no whole number.
    Unusable(NumberError),
    /// The CRM cannot search for extensions.
    NoExtensions,
}

/// The platform that a request names.
pub(super) fn platform<'a>(
    platforms: &'a HashMap<String, Arc<Platform>>,
    user: Option<&pb::User>,
) -> Result<&'a Arc<Platform>, Status> {
    let user = user.ok_or_else(|| invalid("user", "is required"))?;
    if user.platform.is_empty() {
        return Err(invalid("user.platform", "is required"));
    }
    platforms.get(&user.platform).ok_or_else(|| {
        let mut known: Vec<&str> = platforms.keys().map(String::as_str).collect();
        known.sort_unstable();
        invalid(
            "user.platform",
            format!(
                "is not a configured connector; there are: {}",
                known.join(", ")
            ),
        )
    })
}

/// The question that a request asks.
pub(super) fn question(
    request: pb::FindContactRequest,
    platform: &Arc<Platform>,
    words: &HouseWords,
    deadline: Option<Instant>,
) -> Result<Ask, Status> {
    let trigger = match request.trigger() {
        pb::Trigger::Unspecified | pb::Trigger::IncomingCall => Trigger::IncomingCall,
        pb::Trigger::ManualRefresh => Trigger::ManualRefresh,
        pb::Trigger::InitialMatch => Trigger::InitialMatch,
    };
    if pb::Trigger::try_from(request.trigger).is_err() {
        return Err(invalid(
            "trigger",
            "is not one of the values of contactd.v1.Trigger",
        ));
    }
    if trigger == Trigger::ManualRefresh && request.only_if_cached {
        return Err(invalid(
            "only_if_cached",
            "contradicts a manual refresh, which always asks the CRM",
        ));
    }
    let user = user(request.user.unwrap_or_default(), platform)?;
    let auth = auth(request.auth_header)?;
    let formats = formats(&request.overriding_formats)?;
    let mut asked = None;
    let party = if request.is_extension {
        let extension = Extension::parse(&request.phone_number)
            .map_err(|e| invalid("phone_number", e.to_string()))?;
        if !platform.profile().finds_extensions {
            return Ok(Ask::NoExtensions);
        }
        Party::Extension(extension)
    } else {
        asked = phone::extension_asked(&request.phone_number);
        match phone::parse_remote(&request.phone_number, user.region, words) {
            Ok(RemoteParty::Party(party)) => party,
            Ok(RemoteParty::Withheld) => return Ok(Ask::Withheld),
            Ok(RemoteParty::ShortCode) => return Ok(Ask::ShortCode),
            Ok(RemoteParty::Unusable(why)) => return Ok(Ask::Unusable(why)),
            Err(error) => return Err(invalid("phone_number", error.to_string())),
        }
    };
    let (platform, only_if_cached) = (Arc::clone(platform), request.only_if_cached);
    let span = Span::default();
    Ok(Ask::Find(Question {
        platform,
        user,
        auth,
        party,
        extension: asked,
        formats,
        trigger,
        only_if_cached,
        deadline,
        span,
    }))
}

/// A prefetch request, taken apart.
#[derive(Debug)]
pub(super) struct Log {
    /// The job, unless no number can be looked up.
    pub(super) batch: Option<Batch>,
    /// Texts that are nobody's number, each once, with what is wrong with them.
    pub(super) invalid: Vec<(String, String)>,
}

/// The batch that a request asks for. An ill-formed number is a result, not a refusal.
pub(super) fn batch(
    request: pb::PrefetchContactsRequest,
    platform: &Arc<Platform>,
    words: &HouseWords,
) -> Result<Log, Status> {
    let numbers = request.phone_numbers;
    if numbers.len() > MAX_NUMBERS {
        return Err(invalid(
            "phone_numbers",
            format!("has more than {MAX_NUMBERS} entries"),
        ));
    }
    let user = user(request.user.unwrap_or_default(), platform)?;
    let auth = auth(request.auth_header)?;
    let formats = formats(&request.overriding_formats)?;
    let (mut parties, mut invalid) = (Vec::with_capacity(numbers.len()), Vec::new());
    let (mut known, mut known_invalid) = (HashSet::new(), HashSet::new());
    for text in numbers {
        let wrong = match phone::parse_remote(&text, user.region, words) {
            Ok(RemoteParty::Party(party)) => {
                if known.insert(party) {
                    parties.push(party);
                }
                continue;
            }
            Ok(RemoteParty::Withheld) => "is withheld".to_owned(),
            Ok(RemoteParty::ShortCode) => "is an emergency or service number".to_owned(),
            Ok(RemoteParty::Unusable(error)) | Err(error) => error.to_string(),
        };
        if known_invalid.insert(text.trim().to_owned()) {
            invalid.push((text, wrong));
        }
    }
    let platform = Arc::clone(platform);
    let trigger = Trigger::InitialMatch;
    let batch = parties.first().copied().map(|party| Batch {
        question: Question {
            platform,
            user,
            auth,
            party,
            extension: None,
            formats,
            trigger,
            only_if_cached: false,
            deadline: None,
            span: Span::default(),
        },
        parties,
    });
    Ok(Log { batch, invalid })
}

/// What a request wants forgotten.
pub(super) fn forgotten(
    request: &pb::InvalidateContactsRequest,
    words: &HouseWords,
) -> Result<Forgotten, Status> {
    let user = request
        .user
        .as_ref()
        .ok_or_else(|| invalid("user", "is required"))?;
    check_ids(user)?;
    let region = region(&user.region)?;
    match &request.scope {
        None => Err(invalid("scope", "is required: numbers or everything")),
        Some(Scope::Everything(false)) => {
            Err(invalid("everything", "must be true where it is given"))
        }
        Some(Scope::Everything(true)) => Ok(Forgotten::Everything),
        Some(Scope::Numbers(numbers)) => {
            let texts = &numbers.phone_numbers;
            if texts.is_empty() || texts.len() > MAX_NUMBERS {
                return Err(invalid(
                    "numbers.phone_numbers",
                    format!("must have 1 to {MAX_NUMBERS} entries"),
                ));
            }
            let mut parties = Vec::with_capacity(texts.len());
            for (n, text) in texts.iter().enumerate() {
                let number = match phone::parse_remote(text, region, words) {
                    Ok(RemoteParty::Unusable(why @ NumberError::NoRegion)) => Err(why),
                    number => number,
                };
                if let Ok(RemoteParty::Party(party)) = number {
                    parties.push(party);
                }
                // A few digits may be an extension; there is no harm in forgetting both. More are a
                // number, and one that cannot be read for want of a region must not pass for
                // forgotten.
                let extension = Extension::parse(text)
                    .ok()
                    .filter(|_| text.trim().len() <= LONGEST_EXTENSION);
                parties.extend(extension.map(Party::Extension));
                if let (Err(error), None) = (number, extension) {
                    return Err(invalid(
                        &format!("numbers.phone_numbers[{n}]"),
                        error.to_string(),
                    ));
                }
            }
            Ok(Forgotten::Parties(parties))
        }
    }
}

fn user(user: pb::User, platform: &Platform) -> Result<User, Status> {
    check_ids(&user)?;
    structure("user.settings", user.settings.as_ref())?;
    structure(
        "user.platform_additional_info",
        user.platform_additional_info.as_ref(),
    )?;
    let region = region(&user.region)?;
    let host = platform
        .host(&user.hostname)
        .map_err(|error| invalid("user.hostname", error.to_string()))?;
    let settings = Settings::new(user.settings.unwrap_or_default());
    let info = platform.info_of(user.platform_additional_info.as_ref());
    Ok(User {
        id: user.id,
        account: user.account_id,
        host,
        region,
        settings,
        info,
    })
}

fn check_ids(user: &pb::User) -> Result<(), Status> {
    if user.id.is_empty() {
        return Err(invalid("user.id", "is required"));
    }
    for (field, id) in [("user.id", &user.id), ("user.account_id", &user.account_id)] {
        if id.len() > MAX_ID {
            return Err(invalid(field, format!("is longer than {MAX_ID} bytes")));
        }
    }
    Ok(())
}

/// Bounds a Struct.
fn structure(field: &str, fields: Option<&Struct>) -> Result<(), Status> {
    let Some(fields) = fields else { return Ok(()) };
    let (most_bytes, most_values, most_levels) = MAX_STRUCT;
    if fields.encoded_len() > most_bytes {
        return Err(invalid(field, format!("is larger than {most_bytes} bytes")));
    }
    let mut values = 0;
    // A list instead of a recursion; prost has refused more than a hundred levels already.
    let mut todo: Vec<(&Value, usize)> = fields.fields.values().map(|value| (value, 1)).collect();
    while let Some((value, level)) = todo.pop() {
        values += 1;
        if level > most_levels {
            return Err(invalid(
                field,
                format!("is nested deeper than {most_levels} levels"),
            ));
        }
        if values > most_values {
            return Err(invalid(
                field,
                format!("has more than {most_values} values"),
            ));
        }
        match &value.kind {
            Some(ValueKind::StructValue(inner)) => {
                todo.extend(inner.fields.values().map(|value| (value, level + 1)))
            }
            Some(ValueKind::ListValue(list)) => {
                todo.extend(list.values.iter().map(|value| (value, level + 1)))
            }
            _ => {}
        }
    }
    Ok(())
}

fn region(text: &str) -> Result<Option<Region>, Status> {
    match text {
        "" => Ok(None),
        text => Region::parse(text).map(Some).ok_or_else(|| {
            invalid(
                "user.region",
                "is not an ISO 3166 alpha-2 code of a country with a numbering plan",
            )
        }),
    }
}

fn auth(header: String) -> Result<AuthHeader, Status> {
    if header.trim().is_empty() {
        return Err(invalid(
            "auth_header",
            "is required: the Authorization header for the CRM",
        ));
    }
    AuthHeader::parse(header).ok_or_else(|| {
        invalid(
            "auth_header",
            "is not a header value: at most 8192 bytes of visible ASCII and spaces",
        )
    })
}

/// Formats that can spell nothing are passed over: a slip in the settings must not cost the call
/// pop.
fn formats(patterns: &[String]) -> Result<Vec<NumberFormat>, Status> {
    if patterns.len() > MAX_FORMATS {
        return Err(invalid(
            "overriding_formats",
            format!("has more than {MAX_FORMATS} entries"),
        ));
    }
    let mut formats: Vec<NumberFormat> = Vec::with_capacity(patterns.len());
    for format in patterns
        .iter()
        .filter_map(|pattern| NumberFormat::parse(pattern))
    {
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    Ok(formats)
}
