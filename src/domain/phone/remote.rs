//! Parses what switches send as the other party of a call: numbers in national and international
//! spellings, `tel:` and `sip:` addresses, and words and keypad codes that mean "no number".

use std::borrow::Cow;

use super::fold::fold;
use super::scan::pieces;
use super::words::{KEYPAD, WithheldWords, is_keypad_word, says_withheld};
use super::{
    E164, Extension, MAX_SPELLING, NumberError, PHONE_NUMBER_UTIL, Party, Region, RemoteParty,
    has_plus,
};

/// Parses what a telephone system sent: E.164, `tel:` and `sip:` addresses, national and
/// internationally dialled spellings, and words for "no number". `words` are the installation's own
/// ones.
///
/// "No number" is not an error. An extension in the text (`;ext=`, `x42`) is dropped, because the
/// contact is found by the main number. [`extension_asked`] returns it.
///
/// # Errors
/// [`NumberError::NotANumber`] for a text without any digit or known word,
/// [`NumberError::TooManyBytes`].
pub fn parse_remote(
    text: &str,
    region: Option<Region>,
    words: &WithheldWords,
) -> Result<RemoteParty, NumberError> {
    // Nearly every call takes this path: there is no need to look for words.
    if let Some(number) = E164::north_american(text)
        && !words.contain(text)
    {
        return Ok(RemoteParty::Party(Party::Number(number)));
    }
    if text.len() > MAX_SPELLING {
        return Err(NumberError::TooManyBytes);
    }
    let text = fold(text);
    let sent = Sent::read(&text);
    if sent.is_withheld(words) || words.contain(&text) {
        return Ok(RemoteParty::Withheld);
    }
    sent.number(region)
}

/// The extension in the text besides the number, if there is one.
#[must_use]
pub(crate) fn extension_asked(text: &str) -> Option<Extension> {
    let mut bytes = text.bytes();
    let is_plain = bytes.all(|byte| byte.is_ascii_digit() || byte == b'+');
    if is_plain || text.len() > MAX_SPELLING {
        return None;
    }
    extension_in(&fold(text))
}

fn extension_in(text: &str) -> Option<Extension> {
    let sent = Sent::read(text);
    let mut pieces = pieces(&sent.user).into_iter();
    pieces.find_map(|piece| piece.extension)
}

/// A SIP address (RFC 3261, name-addr and addr-spec), or a text alone.
#[derive(Debug)]
struct Sent<'a> {
    all: &'a str,
    display: &'a str,
    /// The part that names the party: the user part of an address, or the whole text.
    user: Cow<'a, str>,
}

impl<'a> Sent<'a> {
    fn read(text: &'a str) -> Self {
        let text = text.trim();
        let (display, address) = display_and_address(text);
        Self {
            all: text,
            display,
            user: without_parameters(decoded(user_part(address))),
        }
    }

    fn is_withheld(&self, words: &WithheldWords) -> bool {
        let user = strip_scheme(&self.user, "tel:").unwrap_or(&self.user);
        let digits = || user.bytes().filter(u8::is_ascii_digit);
        let count = digits().count();
        let numeric = count * 2 > user.len() || (count > 0 && user.starts_with('+'));
        if numeric {
            // Three zeros call the police in Australia.
            let zeros = digits().all(|digit| digit == b'0') && user != "000";
            return zeros || is_keypad_word(user) || words.contain(user);
        }
        // If the address contains no number, the display name decides: anonymisers make addresses
        // up.
        let empty = user.trim().is_empty() && self.display.is_empty();
        empty
            || [user, self.display]
                .into_iter()
                .any(|text| says_withheld(text) || words.contain(text))
    }

    fn number(&self, region: Option<Region>) -> Result<RemoteParty, NumberError> {
        let user: &str = &self.user;
        let digits = user.bytes().filter(u8::is_ascii_digit).count();
        if digits == 0 {
            let somewhere = self.all.bytes().any(|byte| byte.is_ascii_digit());
            return if user.is_empty() || somewhere {
                Ok(RemoteParty::Withheld)
            } else {
                Err(NumberError::NotANumber)
            };
        }
        let letters = user.chars().any(char::is_alphabetic);
        if digits <= 6 && !has_plus(user) && !letters {
            let subscriber = region.and_then(|region| short_subscriber(user, region));
            return Ok(subscriber.map_or(RemoteParty::ShortCode, |number| {
                RemoteParty::Party(Party::Number(number))
            }));
        }
        Ok(parsed(user, region))
    }
}

/// Parses a text with digits as a number, unless it is a word in keypad digits.
fn parsed(user: &str, region: Option<Region>) -> RemoteParty {
    let keypad = KEYPAD.contains(&user);
    match E164::parse(user, region) {
        Ok(number) if number.national == 0 || keypad && !number.is_valid() => RemoteParty::Withheld,
        Err(_) if keypad => RemoteParty::Withheld,
        Ok(number) => RemoteParty::Party(Party::Number(number)),
        Err(error) => RemoteParty::Unusable(error),
    }
}

/// The display name and the address of `"Name" <address>`; a text alone is an address.
fn display_and_address(text: &str) -> (&str, &str) {
    let (display, address) = match text.split_once('<') {
        Some((display, rest)) => (display, rest.split('>').next().unwrap_or(rest)),
        None => text.rsplit_once('"').unwrap_or(("", text)),
    };
    let (display, address) = (display.trim().trim_matches('"'), address.trim());
    let is_named_only =
        !address.contains(char::is_alphanumeric) && display.contains(char::is_alphanumeric);
    if address.is_empty() || is_named_only {
        ("", display)
    } else {
        (display, address)
    }
}

/// The part before the host, without scheme and password.
fn user_part(address: &str) -> &str {
    let scheme = ["sips:", "sip:"]
        .into_iter()
        .find_map(|scheme| strip_scheme(address, scheme));
    let user = match (scheme, address.split_once('@')) {
        // Only a host, which is nobody. "sip:+1650…" has no host.
        (Some(host), None) if is_host(host) => "",
        (Some(rest), _) => rest.split('@').next().unwrap_or(rest),
        (None, Some((user, _))) => user,
        (None, None) => address,
    };
    let before_password = user.split(':').next();
    before_password.filter(|_| scheme.is_some()).unwrap_or(user)
}

/// A number of a plan with such short complete numbers: the Faroes, Andorra, Niue and a few more.
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
    !host.starts_with('+')
        && (labels == 4 && host.parse::<std::net::Ipv4Addr>().is_ok() || has_name(host))
}

fn has_name(host: &str) -> bool {
    host.contains('.') && host.chars().any(|c| c.is_ascii_alphabetic())
}

/// Removes parameters that are not part of the number. Extension and phone context are (RFC 3966).
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

/// Decodes `%2B` and the like. Anything else is unchanged.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut parts = text.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part
            .get(..2)
            .and_then(|code| u8::from_str_radix(code, 16).ok())
            .filter(u8::is_ascii_graphic);
        plain.push(code.map_or('%', char::from));
        plain.push_str(if code.is_some() { &part[2..] } else { part });
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests;
