//! Turns requests into questions. Every violation of a request arises here or in [`fields`].

use std::collections::HashSet;
use std::sync::Arc;

use super::error::Violation;
use super::fields;
use crate::connector::Platform;
use crate::domain::phone::{self, NumberError, RemoteParty, WithheldWords};
use crate::domain::{AuthHeader, Extension, Party, Region, User};
use crate::pb::v1 as pb;
use crate::pb::v1::invalidate_contacts_request::Scope;
use crate::resolver::{Asker, Batch, InvalidationScope, Observer, Question, Trigger};
use crate::trace::Span;

/// The most digits that an invalidation accepts as an extension.
const LONGEST_EXTENSION: usize = 6;

/// Most numbers of one request.
const MAX_NUMBERS: usize = 10_000;

/// What a look-up request asks for.
#[derive(Debug)]
pub(super) enum ParsedLookup {
    /// A question for the resolver.
    Question(Question),
    /// The request is answered without a question.
    NoLookup(NoLookup),
}

/// Why there is nobody to look up.
#[derive(Debug)]
pub(super) enum NoLookup {
    /// The caller withheld the number.
    Withheld,
    /// A short code, such as an emergency number.
    ShortCode,
    /// Digits that are not a complete number.
    Unusable(NumberError),
    /// The CRM cannot search for extensions.
    NoExtensions,
}

fn asker(
    platform: &Arc<Platform>,
    user: Option<pb::User>,
    (auth_header, lent): (String, Option<AuthHeader>),
    formats: &[String],
) -> Result<Asker, Violation> {
    let user = fields::user(user.unwrap_or_default(), platform)?;
    let auth = match lent {
        Some(lent) => lent,
        None => fields::auth(auth_header, platform)?,
    };
    let formats = fields::formats(formats)?;
    platform
        .check(&user, &auth)
        .map_err(|(field, reason)| Violation::new(field, reason))?;
    Ok(Asker::new(Arc::clone(platform), user, auth, formats))
}

/// The question that a request asks, without its deadline and span. If a credential is `lent` to
/// it, it has none of its own.
pub(super) fn question(
    request: pb::FindContactRequest,
    lent: Option<AuthHeader>,
    platform: &Arc<Platform>,
    words: &WithheldWords,
) -> Result<ParsedLookup, Violation> {
    observed_question(request, lent, platform, words, None)
}

/// The same, with somebody who watches the calls that are made for it.
pub(super) fn observed_question(
    request: pb::FindContactRequest,
    lent: Option<AuthHeader>,
    platform: &Arc<Platform>,
    words: &WithheldWords,
    observer: Option<Observer>,
) -> Result<ParsedLookup, Violation> {
    let trigger = trigger(&request)?;
    let asker = asker(
        platform,
        request.user,
        (request.auth_header, lent),
        &request.overriding_formats,
    )?;
    let text = &request.phone_number;
    let (party, extension) = if request.is_extension {
        (extension(text, platform)?, None)
    } else {
        let party = remote_party(text, asker.user(), words)?;
        (party, phone::extension_asked(text))
    };
    Ok(match party {
        Ok(party) => {
            let asker = Arc::new(asker.observed_by(observer));
            let mut question = Question::new(asker, party, trigger);
            question.extension = extension;
            question.only_if_cached = request.only_if_cached;
            ParsedLookup::Question(question)
        }
        Err(nobody) => ParsedLookup::NoLookup(nobody),
    })
}

fn trigger(request: &pb::FindContactRequest) -> Result<Trigger, Violation> {
    let trigger = fields::trigger(request.trigger());
    if pb::Trigger::try_from(request.trigger).is_err() {
        return Err(Violation::new(
            "trigger",
            "is not one of the values of contactd.v1.Trigger",
        ));
    }
    if trigger == Trigger::ManualRefresh && request.only_if_cached {
        return Err(Violation::new(
            "only_if_cached",
            "contradicts a manual refresh, which always asks the CRM",
        ));
    }
    Ok(trigger)
}

fn extension(text: &str, platform: &Platform) -> Result<Result<Party, NoLookup>, Violation> {
    let extension =
        Extension::parse(text).map_err(|error| Violation::new("phone_number", error))?;
    Ok(if platform.profile().finds_extensions {
        Ok(Party::Extension(extension))
    } else {
        Err(NoLookup::NoExtensions)
    })
}

fn remote_party(
    text: &str,
    user: &User,
    words: &WithheldWords,
) -> Result<Result<Party, NoLookup>, Violation> {
    match phone::parse_remote(text, user.region, words) {
        Ok(RemoteParty::Party(party)) => Ok(Ok(party)),
        Ok(RemoteParty::Withheld) => Ok(Err(NoLookup::Withheld)),
        Ok(RemoteParty::ShortCode) => Ok(Err(NoLookup::ShortCode)),
        Ok(RemoteParty::Unusable(why)) => Ok(Err(NoLookup::Unusable(why))),
        Err(error) => Err(Violation::new("phone_number", error)),
    }
}

/// A parsed prefetch request.
#[derive(Debug)]
pub(super) struct ParsedBatch {
    /// The numbers of the request, repeated ones included.
    pub(super) requested: usize,
    /// Its distinct texts and parties.
    pub(super) distinct: usize,
    /// The job, unless no number can be looked up.
    pub(super) batch: Option<Batch>,
    /// Texts that are no number, each once, with the reason.
    pub(super) invalid: Vec<(String, String)>,
}

/// The batch that a request asks for. An invalid number is a result, not a violation. `lent` as for
/// a [`question`].
pub(super) fn batch(
    request: pb::PrefetchContactsRequest,
    lent: Option<AuthHeader>,
    platform: &Arc<Platform>,
    words: &WithheldWords,
) -> Result<ParsedBatch, Violation> {
    let numbers = request.phone_numbers;
    let requested = numbers.len();
    if requested > MAX_NUMBERS {
        let description = format!("has more than {MAX_NUMBERS} entries");
        return Err(Violation::new("phone_numbers", description));
    }
    let asker = asker(
        platform,
        request.user,
        (request.auth_header, lent),
        &request.overriding_formats,
    )?;
    let (parties, invalid) = parties_of(numbers, asker.user(), words);
    let distinct = parties.len() + invalid.len();
    let batch = (!parties.is_empty()).then(|| Batch {
        asker: Arc::new(asker),
        parties,
        span: Span::default(),
    });
    Ok(ParsedBatch {
        requested,
        distinct,
        batch,
        invalid,
    })
}

/// The parties of a batch, and the texts that name none with the reason; each once.
fn parties_of(
    numbers: Vec<String>,
    user: &User,
    words: &WithheldWords,
) -> (Vec<Party>, Vec<(String, String)>) {
    let (mut parties, mut invalid) = (Vec::with_capacity(numbers.len()), Vec::new());
    let (mut known, mut known_invalid) = (HashSet::new(), HashSet::new());
    for text in numbers {
        match batch_party(&text, user, words) {
            Ok(party) if known.insert(party) => parties.push(party),
            Err(wrong) if known_invalid.insert(text.trim().to_owned()) => {
                invalid.push((text, wrong));
            }
            _ => {}
        }
    }
    (parties, invalid)
}

/// The party that a number of a batch names, or what is wrong with it.
fn batch_party(text: &str, user: &User, words: &WithheldWords) -> Result<Party, String> {
    match phone::parse_remote(text, user.region, words) {
        Ok(RemoteParty::Party(party)) => Ok(party),
        Ok(RemoteParty::Withheld) => Err("is withheld".to_owned()),
        Ok(RemoteParty::ShortCode) => {
            Err("is a short code, such as an emergency number".to_owned())
        }
        Ok(RemoteParty::Unusable(error)) | Err(error) => Err(error.to_string()),
    }
}

/// What a request asks to invalidate.
pub(super) fn invalidation(
    user: &pb::User,
    scope: Option<&Scope>,
    words: &WithheldWords,
) -> Result<InvalidationScope, Violation> {
    fields::check_ids(user)?;
    let region = fields::region(&user.region)?;
    let wrong = |field: &str, what: &str| Err(Violation::new(field, what));
    match scope {
        Some(Scope::Numbers(numbers)) => invalidated_parties(&numbers.phone_numbers, region, words)
            .map(InvalidationScope::Parties),
        Some(Scope::Everything(true)) => Ok(InvalidationScope::Everything),
        Some(Scope::Everything(false)) => wrong("everything", "must be true if it is given"),
        None => wrong("scope", "is required: numbers or everything"),
    }
}

fn invalidated_parties(
    texts: &[String],
    region: Option<Region>,
    words: &WithheldWords,
) -> Result<Vec<Party>, Violation> {
    if texts.is_empty() || texts.len() > MAX_NUMBERS {
        let description = format!("must have 1 to {MAX_NUMBERS} entries");
        return Err(Violation::new("numbers.phone_numbers", description));
    }
    let mut parties = Vec::with_capacity(texts.len());
    for (n, text) in texts.iter().enumerate() {
        let number = phone::parse_remote(text, region, words);
        push_invalidated(&mut parties, text, number)
            .map_err(|error| Violation::new(format!("numbers.phone_numbers[{n}]"), error))?;
    }
    Ok(parties)
}

/// Adds the parties that a text may name. A few digits may be a number or an extension: both are
/// invalidated, which does no harm. More digits are a number. If they cannot be parsed, that is an
/// error: the client must not take the number for invalidated. Nothing is stored for a withheld
/// number or one with too few digits, so these are no error.
fn push_invalidated(
    parties: &mut Vec<Party>,
    text: &str,
    number: Result<RemoteParty, NumberError>,
) -> Result<(), NumberError> {
    let extension = Extension::parse(text)
        .ok()
        .filter(|_| text.trim().len() <= LONGEST_EXTENSION);
    parties.extend(extension.map(Party::Extension));
    match number {
        Ok(RemoteParty::Party(party)) => parties.push(party),
        Ok(
            RemoteParty::Withheld
            | RemoteParty::ShortCode
            | RemoteParty::Unusable(NumberError::TooShort),
        ) => {}
        Ok(RemoteParty::Unusable(_)) | Err(_) if extension.is_some() => {}
        Ok(RemoteParty::Unusable(error)) | Err(error) => return Err(error),
    }
    Ok(())
}

/// Numbers that an invalidation has to read.
pub(super) fn entries(scope: Option<&Scope>) -> usize {
    match scope {
        Some(Scope::Numbers(numbers)) => numbers.phone_numbers.len(),
        _ => 0,
    }
}

/// Requests as far as the service parses them.
#[cfg(any(test, fuzzing))]
pub(crate) mod check_request {
    use super::*;

    pub(crate) fn question(
        request: pb::FindContactRequest,
        platform: &Arc<Platform>,
    ) -> Result<(), Violation> {
        super::question(request, None, platform, &WithheldWords::default()).map(|_| ())
    }

    pub(crate) fn batch(
        request: pb::PrefetchContactsRequest,
        platform: &Arc<Platform>,
    ) -> Result<(), Violation> {
        let requested = request.phone_numbers.len();
        let batch = super::batch(request, None, platform, &WithheldWords::default())?;
        let parties = batch.batch.map_or(0, |batch| batch.parties.len());
        assert!(batch.requested == requested && batch.distinct <= requested);
        assert_eq!(batch.distinct, parties + batch.invalid.len());
        Ok(())
    }

    pub(crate) fn invalidation(request: &pb::InvalidateContactsRequest) -> Result<(), Violation> {
        let user = request.user.clone().unwrap_or_default();
        let scope = request.scope.as_ref();
        super::invalidation(&user, scope, &WithheldWords::default()).map(|_| ())
    }
}
