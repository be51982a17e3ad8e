//! What switches send as the other side of a call: numbers in national and international spellings, `tel:` and `sip:`
//! addresses, words and keypad codes that stand for no number.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use super::scan::{fold, pieces};
use super::{Dialled, E164, Extension, MAX_SPELLING, NumberError, PHONE_NUMBER_UTIL, Party, Region, has_plus};

/// Words that say that a number is withheld or did not arrive: RFC 3323, the caller-ID texts of carriers and phones, and
/// the same in the languages of the telephones that send them.
const WITHHOLDING: [&str; 43] = [
    "anonymous",
    "anon",
    "private",
    "privacy",
    "restricted",
    "unavailable",
    "unknown",
    "withheld",
    "blocked",
    "hidden",
    "undisclosed",
    "unidentified",
    "suppressed",
    "masked",
    "secret",
    "international",
    "overseas",
    "payphone",
    "invalid",
    "none",
    "null",
    "nil",
    "anonym",
    "anonyme",
    "anonimo",
    "anónimo",
    "anoniem",
    "unbekannt",
    "unterdrückt",
    "privé",
    "privat",
    "privado",
    "masqué",
    "inconnu",
    "oculto",
    "desconocido",
    "sconosciuto",
    "nascosto",
    "onbekend",
    "skjult",
    "ukjent",
    "okänd",
    "dold",
];

/// Words that may stand beside those.
const BESIDE: [&str; 24] = [
    "provided",
    "available",
    "given",
    "caller",
    "call",
    "calls",
    "calling",
    "number",
    "id",
    "cid",
    "name",
    "party",
    "user",
    "line",
    "by",
    "the",
    "not",
    "no",
    "numéro",
    "numero",
    "número",
    "nummer",
    "anruf",
    "appel",
];

/// Texts of which no word alone says it. `o` and `p` are the reasons "out of area" and "private" of analogue caller ID
/// (Telcordia GR-30-CORE).
const PHRASES: [&str; 20] = [
    "no number",
    "no caller id",
    "no caller",
    "no id",
    "no cid",
    "no name",
    "out of area",
    "out of service area",
    "not available",
    "not provided",
    "not disclosed",
    "not known",
    "n a",
    "na",
    "pay phone",
    "coin phone",
    "keine nummer",
    "sin número",
    "o",
    "p",
];

/// Words as digits of a keypad, for fields that take digits only: ANONYMOUS, RESTRICTED, UNAVAILABLE, BLOCKED, UNKNOWN,
/// PRIVATE, WITHHELD.
const KEYPAD: [&str; 7] = ["266696687", "7378742833", "86282452253", "2562533", "8656696", "7748283", "94844353"];

/// A house's own text for "no number", in the form in which texts are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HouseWord(String);

/// The words of `lookup.withheld`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HouseWords(Vec<HouseWord>);

/// A house word without a letter or digit would stand for everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have a letter or a digit, and at most 256 bytes")]
pub struct NotAWord;

impl FromStr for HouseWord {
    type Err = NotAWord;

    fn from_str(text: &str) -> Result<Self, NotAWord> {
        let word = comparable(text);
        if word.is_empty() || text.len() > MAX_SPELLING { Err(NotAWord) } else { Ok(Self(word)) }
    }
}

impl fmt::Display for HouseWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Vec<HouseWord>> for HouseWords {
    fn from(words: Vec<HouseWord>) -> Self {
        Self(words)
    }
}

impl HouseWords {
    fn contain(&self, text: &str) -> bool {
        !self.0.is_empty() && {
            let word = comparable(text);
            self.0.iter().any(|HouseWord(known)| *known == word)
        }
    }
}

/// Reads what a telephone system sent: E.164, `tel:` and `sip:` addresses, national and internationally dialled
/// spellings, and texts in place of a number. `words` are the house's own ones.
///
/// No number is no error. An extension in the text (`;ext=`, `x42`) is dropped, because the contact is found by the main
/// number; [`extension_asked`] reads it.
///
/// # Errors
/// [`NumberError::NotANumber`] for a text without any digit or known word, [`NumberError::TooManyBytes`].
pub fn dial(text: &str, region: Option<Region>, words: &HouseWords) -> Result<Dialled, NumberError> {
    // As good as every call: no need to look for words in it.
    if let Some(number) = E164::north_american(text)
        && !words.contain(text)
    {
        return Ok(Dialled::Party(Party::Number(number)));
    }
    if text.len() > MAX_SPELLING {
        return Err(NumberError::TooManyBytes);
    }
    let text = fold(text);
    let sent = Sent::read(&text);
    if sent.is_withheld(words) || words.contain(&text) {
        return Ok(Dialled::Withheld);
    }
    sent.number(region)
}

/// The extension that a text names beside the number, if it does.
#[must_use]
pub fn extension_asked(text: &str) -> Option<Extension> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'+');
    if plain || text.len() > MAX_SPELLING {
        return None;
    }
    let text = fold(text);
    let sent = Sent::read(&text);
    pieces(&sent.user).into_iter().find_map(|piece| piece.extension)
}

/// An address as SIP writes it (RFC 3261, name-addr and addr-spec), or a text alone.
#[derive(Debug)]
struct Sent<'a> {
    all: &'a str,
    display: &'a str,
    /// What stands for the party: the user part of an address, or all of the text.
    user: Cow<'a, str>,
}

impl<'a> Sent<'a> {
    fn read(text: &'a str) -> Self {
        let text = text.trim();
        let (display, address) = match text.split_once('<') {
            Some((display, rest)) => (display, rest.split('>').next().unwrap_or(rest)),
            None => text.rsplit_once('"').unwrap_or(("", text)),
        };
        let (display, address) = (display.trim().trim_matches('"'), address.trim());
        let (display, address) = if address.is_empty() { ("", display) } else { (display, address) };
        let scheme = ["sips:", "sip:"].into_iter().find_map(|scheme| strip_scheme(address, scheme));
        let user = match (scheme, address.split_once('@')) {
            // A host alone, which is nobody; "sip:+1650…" has no host.
            (Some(host), None) if is_host(host) => "",
            (Some(rest), _) => rest.split('@').next().unwrap_or(rest),
            (None, Some((user, _))) => user,
            (None, None) => address,
        };
        let user = user.split(':').next().filter(|_| scheme.is_some()).unwrap_or(user);
        Self { all: text, display, user: without_parameters(decoded(user)) }
    }

    fn is_withheld(&self, words: &HouseWords) -> bool {
        let user = strip_scheme(&self.user, "tel:").unwrap_or(&self.user);
        let digits = || user.bytes().filter(u8::is_ascii_digit);
        let count = digits().count();
        let numeric = count * 2 > user.len() || (count > 0 && user.starts_with('+'));
        if numeric {
            // Three zeros call the police in Australia.
            let zeros = digits().all(|digit| digit == b'0') && user != "000";
            return zeros || is_keypad_word(user) || words.contain(user);
        }
        // Beside an address of no number the name decides: anonymisers make addresses up.
        let empty = user.trim().is_empty() && self.display.is_empty();
        empty || [user, self.display].into_iter().any(|text| says_withheld(text) || words.contain(text))
    }

    fn number(&self, region: Option<Region>) -> Result<Dialled, NumberError> {
        let user: &str = &self.user;
        let digits = user.bytes().filter(u8::is_ascii_digit).count();
        if digits == 0 {
            let somewhere = self.all.bytes().any(|byte| byte.is_ascii_digit());
            return if user.is_empty() || somewhere { Ok(Dialled::Withheld) } else { Err(NumberError::NotANumber) };
        }
        let letters = user.chars().any(char::is_alphabetic);
        if digits <= 6 && !has_plus(user) && !letters {
            let subscriber = region.and_then(|region| short_subscriber(user, region));
            return Ok(subscriber.map_or(Dialled::ShortCode, |number| Dialled::Party(Party::Number(number))));
        }
        let keypad = KEYPAD.contains(&user);
        Ok(match E164::parse(user, region) {
            Ok(number) if number.national == 0 || keypad && !number.is_valid() => Dialled::Withheld,
            Err(_) if keypad => Dialled::Withheld,
            Ok(number) => Dialled::Party(Party::Number(number)),
            Err(error) => Dialled::Unusable(error),
        })
    }
}

/// A number of a plan whose whole numbers are so short: the Faroes, Andorra, Niue and a few more.
fn short_subscriber(text: &str, region: Region) -> Option<E164> {
    let example = PHONE_NUMBER_UTIL.get_example_number(region.engine).ok()?;
    let short = E164::from_engine(&example).national().len() <= 6;
    let number = E164::parse(text, Some(region)).ok()?;
    (short && number.is_valid()).then_some(number)
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let at = text.split_at_checked(scheme.len())?;
    at.0.eq_ignore_ascii_case(scheme).then_some(at.1)
}

/// An IPv4 address or a name, perhaps with a port.
fn is_host(text: &str) -> bool {
    let host = text.split([':', ';', '?']).next().unwrap_or(text);
    let labels = host.split('.').filter(|label| !label.is_empty()).count();
    !host.starts_with('+') && (labels == 4 && host.parse::<std::net::Ipv4Addr>().is_ok() || has_name(host))
}

fn has_name(host: &str) -> bool {
    host.contains('.') && host.chars().any(|c| c.is_ascii_alphabetic())
}

/// Without parameters that are not of the number; extension and phone context are (RFC 3966).
fn without_parameters(user: Cow<'_, str>) -> Cow<'_, str> {
    if !user.contains(';') {
        return user;
    }
    let mut parts = user.split(';');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts.filter(|part| is_of_the_number(part)) {
        kept.push(';');
        kept.push_str(part);
    }
    Cow::Owned(kept)
}

fn is_of_the_number(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default().trim();
    name.eq_ignore_ascii_case("ext") || name.eq_ignore_ascii_case("phone-context")
}

/// `%2B` and the like; what is no such code stays.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok()).filter(u8::is_ascii_graphic);
        plain.push(code.map_or('%', char::from));
        plain.push_str(if code.is_some() { &part[2..] } else { part });
    }
    Cow::Owned(plain)
}

/// "+266696687", and the digits alone unless they are a number somewhere.
fn is_keypad_word(text: &str) -> bool {
    let (plus, digits) = text.strip_prefix('+').map_or((false, text), |digits| (true, digits));
    // (737) 874-2833 is in Texas, and other words may be numbers too; nine digits that begin with 26 hardly are.
    KEYPAD.contains(&digits) && (plus || digits == KEYPAD[0])
}

fn says_withheld(text: &str) -> bool {
    let text = comparable(text);
    let any = text.split(' ').any(|word| WITHHOLDING.contains(&word));
    let fits = |rest: &str| rest.split(' ').all(|word| WITHHOLDING.contains(&word) || BESIDE.contains(&word));
    let mut behind = PHRASES.iter().filter_map(|phrase| text.strip_prefix(phrase));
    (any && fits(&text)) || behind.any(|rest| rest.is_empty() || rest.strip_prefix(' ').is_some_and(fits))
}

/// Lower case, one space for whatever is neither letter nor digit.
fn comparable(text: &str) -> String {
    let mut form = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        if c.is_alphanumeric() || c == '+' {
            form.push(c);
        } else if !form.is_empty() && !form.ends_with(' ') {
            form.push(' ');
        }
    }
    form.truncate(form.trim_end().len());
    if !form.contains(char::is_alphabetic) {
        form.retain(|c| c != ' ');
    }
    form
}

#[cfg(test)]
mod tests;
