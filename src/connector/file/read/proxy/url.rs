//! Reads the address: `baseUrl`, and the operation's `url`, which may be absolute.
//!
//! App Connect renders the url as one text. Here it is taken apart first, and values are encoded
//! in their place: they cannot add a segment, a parameter or another host.

use ::url::form_urlencoded;

use super::super::super::proxy::ProxyUrl;
use super::super::super::proxy::template::{ProxyPiece, ProxyTemplate};
use super::super::super::proxy::variables::Variable;
use super::super::field::Field;
use super::super::table::Table;
use super::ProxyFile;
use crate::connector::base::{BaseForm, BasePiece, fixed_address};

/// Where requests go.
pub(super) struct Address {
    pub(super) base: BaseForm,
    pub(super) url: ProxyUrl,
}

/// A text of the file that is a template.
#[derive(Clone, Copy)]
struct UrlText<'n> {
    field: Field<'n>,
    text: &'n str,
}

impl<'n> UrlText<'n> {
    fn of(field: Field<'n>) -> Option<Self> {
        let text = field.text()?;
        Some(Self { field, text })
    }

    fn template(self) -> ProxyTemplate {
        ProxyTemplate::parse(self.text)
    }

    fn is_absolute(self) -> bool {
        self.text.starts_with("https://") || self.text.starts_with("http://")
    }

    /// What follows the base, if this text begins with it.
    fn after(self, base: UrlText<'_>) -> Option<Self> {
        let root = base.text.strip_suffix('/').unwrap_or(base.text);
        let rest = self.text.strip_prefix(root)?;
        let is_below = rest.is_empty() || rest.starts_with(['/', '?', '#']);
        is_below.then_some(Self { text: rest, ..self })
    }
}

impl Address {
    /// A url below the base.
    fn below(base: UrlText<'_>, url: Option<UrlText<'_>>) -> Option<Self> {
        Some(Self {
            base: base_form(&base.template(), base.field)?,
            url: match url {
                Some(url) => relative(&url.template(), url.field)?,
                None => ProxyUrl::default(),
            },
        })
    }
}

/// Reads the address of `findContact`, or the base alone if there is no such operation.
pub(super) fn address(file: &ProxyFile<'_>) -> Option<Address> {
    let base = match said(file.defaults.as_ref(), "baseUrl") {
        Some(field) => Some(UrlText::of(field)?),
        None => None,
    };
    let url = match said(file.find.as_ref(), "url") {
        Some(field) => Some(UrlText::of(field)?),
        None => None,
    };
    match (base, url) {
        (_, Some(url)) if url.is_absolute() => absolute(base, url),
        (Some(base), url) => Address::below(base, url),
        (None, _) => {
            let message = "needs requestDefaults.baseUrl, the CRM's address";
            file.root.reject(message)
        }
    }
}

fn said<'n>(table: Option<&Table<'n>>, key: &str) -> Option<Field<'n>> {
    table?.said(key)
}

/// A url that has a scheme and a host of its own. Below the base it is the same as a relative one.
fn absolute(base: Option<UrlText<'_>>, url: UrlText<'_>) -> Option<Address> {
    if let Some(base) = base
        && let Some(rest) = url.after(base)
    {
        return Address::below(base, Some(rest));
    }
    let scheme = url.text.find("//").map_or(0, |at| at + 2);
    let (root, rest) = url.template().split_literal(scheme, &['/', '?', '#']);
    let form = base_form(&root, url.field)?;
    Some(Address {
        base: or_elsewhere(form, base),
        url: relative(&rest, url.field)?,
    })
}

/// Marks a fixed address on another host than the base's, which the settings must allow.
fn or_elsewhere(form: BaseForm, base: Option<UrlText<'_>>) -> BaseForm {
    let (BaseForm::Pieces(pieces), Some(base)) = (&form, base) else {
        return form;
    };
    match pieces.as_slice() {
        [BasePiece::Text(text)] if !has_same_host(text, base.text) => {
            BaseForm::Pieces(vec![BasePiece::Elsewhere(text.clone())])
        }
        _ => form,
    }
}

fn has_same_host(one: &str, other: &str) -> bool {
    let host = host_of(one);
    host.is_some() && host == host_of(other)
}

fn host_of(address: &str) -> Option<String> {
    let url = ::url::Url::parse(address).ok()?;
    url.host_str().map(str::to_owned)
}

/// The base address. Its slots can be the user's host and fields of the additional info.
fn base_form(template: &ProxyTemplate, field: Field<'_>) -> Option<BaseForm> {
    if let Some(address) = template.literal() {
        return fixed_base(address, field);
    }
    let is_https = template.first_text().starts_with("https://");
    let is_whole = template.0.len() == 1;
    if !is_https && !is_whole {
        return field.reject("must begin with https://");
    }
    let pieces = template.0.iter().map(|piece| base_piece(piece, field));
    Some(BaseForm::of_pieces(pieces.collect::<Option<_>>()?))
}

fn fixed_base(address: &str, field: Field<'_>) -> Option<BaseForm> {
    if fixed_address(address).is_err() {
        return field.reject(
            "must be an https address with a host name, without port, user and \
             query; another one belongs in the setting base_url",
        );
    }
    Some(BaseForm::fixed(address))
}

fn base_piece(piece: &ProxyPiece, field: Field<'_>) -> Option<BasePiece> {
    let path = match piece {
        ProxyPiece::Text(text) => return Some(BasePiece::Text(text.clone())),
        ProxyPiece::Slot(path) => path,
    };
    match Variable::of(path) {
        Ok(Variable::Host) => Some(BasePiece::Host),
        Ok(Variable::Info(name, below)) => Some(BasePiece::Info(name, below)),
        _ => field.reject(
            "can only name user.hostname and fields of user.platformAdditionalInfo in the address",
        ),
    }
}

/// A path and its parameters. What follows a `#` is never sent.
fn relative(template: &ProxyTemplate, field: Field<'_>) -> Option<ProxyUrl> {
    let (address, _) = template.split_literal(0, &['#']);
    let (path, query) = address.split_literal(0, &['?']);
    let (path, ends_in_slash) = segments(path);
    let is_odd = |segment: &ProxyTemplate| matches!(segment.literal(), Some("" | "." | ".."));
    if path.iter().any(is_odd) {
        return field.reject("has a segment that is empty, . or ..");
    }
    Some(ProxyUrl {
        path,
        ends_in_slash,
        query: parameters(query),
    })
}

/// The segments of a path, and whether a slash follows the last one.
fn segments(path: ProxyTemplate) -> (Vec<ProxyTemplate>, bool) {
    let is_empty = path.0.is_empty();
    let mut segments = path.split_all('/');
    if segments.len() > 1 && segments[0].0.is_empty() {
        segments.remove(0);
    }
    let ends_in_slash = segments.last().is_some_and(|last| last.0.is_empty());
    if ends_in_slash {
        segments.pop();
    }
    let segments = segments.into_iter();
    let segments = segments.map(|segment| segment.decoded(false));
    (segments.collect(), ends_in_slash && !is_empty)
}

/// Names and values of a query that begins with its question mark.
fn parameters(query: ProxyTemplate) -> Vec<(ProxyTemplate, ProxyTemplate)> {
    let pairs = query.without_first().split_all('&');
    let pairs = pairs.iter().filter(|pair| !pair.0.is_empty());
    pairs.map(parameter).collect()
}

fn parameter(pair: &ProxyTemplate) -> (ProxyTemplate, ProxyTemplate) {
    let (name, value) = pair.split_literal(0, &['=']);
    (name.decoded(true), value.without_first().decoded(true))
}

impl ProxyPiece {
    /// Splits literal text before the first of these characters, looking from `from` on.
    fn split(&self, from: usize, at: &[char]) -> Option<(&str, &str)> {
        let Self::Text(text) = self else {
            return None;
        };
        let found = text.get(from..)?.find(at)?;
        Some(text.split_at(from + found))
    }

    fn decoded(self, plus_is_space: bool) -> Self {
        match self {
            Self::Text(text) => Self::Text(decoded(&text, plus_is_space)),
            slot @ Self::Slot(_) => slot,
        }
    }

    fn of_text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl ProxyTemplate {
    /// Splits before the first of these characters in the literal text, looking from `from` on in
    /// the first piece.
    fn split_literal(&self, from: usize, at: &[char]) -> (Self, Self) {
        for (n, piece) in self.0.iter().enumerate() {
            let from = if n == 0 { from } else { 0 };
            if let Some((before, after)) = piece.split(from, at) {
                let before = Some(before).filter(|before| !before.is_empty());
                let mut first = self.0[..n].to_vec();
                first.extend(before.map(ProxyPiece::of_text));
                let mut rest = vec![ProxyPiece::of_text(after)];
                rest.extend_from_slice(&self.0[n + 1..]);
                return (Self(first), Self(rest));
            }
        }
        (self.clone(), Self::default())
    }

    /// Without the first character, at which it was split.
    fn without_first(mut self) -> Self {
        if let Some(ProxyPiece::Text(text)) = self.0.first_mut() {
            text.remove(0);
            if text.is_empty() {
                self.0.remove(0);
            }
        }
        self
    }

    /// The parts between a character of the literal text.
    fn split_all(self, at: char) -> Vec<Self> {
        let (mut parts, mut rest) = (Vec::new(), self);
        loop {
            let (part, more) = rest.split_literal(0, &[at]);
            parts.push(part);
            if more.0.is_empty() {
                return parts;
            }
            rest = more.without_first();
        }
    }

    /// With its literal texts percent-decoded: they are encoded again when they are sent.
    fn decoded(self, plus_is_space: bool) -> Self {
        let pieces = self.0.into_iter();
        Self(pieces.map(|piece| piece.decoded(plus_is_space)).collect())
    }
}

fn decoded(text: &str, plus_is_space: bool) -> String {
    let mut protected = text.replace('&', "%26").replace('=', "%3D");
    if !plus_is_space {
        protected = protected.replace('+', "%2B");
    }
    let pair = form_urlencoded::parse(protected.as_bytes()).next();
    pair.map_or_else(String::new, |(name, _)| name.into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::super::tree::{Faults, Node};
    use super::*;

    fn shown(template: &ProxyTemplate) -> String {
        let variables = json!({"x": "<x>"});
        let pieces = template.0.iter().map(|piece| match piece {
            ProxyPiece::Text(text) => text.clone(),
            ProxyPiece::Slot(path) => path.get(&variables).unwrap().as_str().unwrap().to_owned(),
        });
        pieces.collect()
    }

    #[test]
    fn a_url_is_taken_apart_before_values_come_in() {
        let faults = Faults::default();
        let node = Node::empty_table("url");
        let field = Field::new(&node, &faults);
        for (text, path, query) in [
            ("contacts", "contacts", ""),
            ("/contacts/", "contacts/", ""),
            ("contacts/{{x}}/a%2Fb+c", "contacts|<x>|a/b+c", ""),
            ("/c?q={{x}}&a=b%20c+d&e", "c", "q=<x>;a=b c d;e="),
            (
                "c?filter=phone:{{x}}&{{x}}=1",
                "c",
                "filter=phone:<x>;<x>=1",
            ),
            ("c?q=a=b&&#frag{{x}}?y=1", "c", "q=a=b"),
            ("c#x", "c", ""),
            ("?q=1", "", "q=1"),
            ("/", "", ""),
            ("/{{x}}", "<x>", ""),
            ("{{x}}/c", "<x>|c", ""),
        ] {
            let url = relative(&ProxyTemplate::parse(text), field).unwrap();
            let mut shown_path = url.path.iter().map(shown).collect::<Vec<_>>().join("|");
            if url.ends_in_slash && !shown_path.is_empty() {
                shown_path.push('/');
            }
            assert_eq!(shown_path, path, "{text}");
            let pairs = url.query.iter();
            let pairs = pairs.map(|(name, value)| format!("{}={}", shown(name), shown(value)));
            assert_eq!(pairs.collect::<Vec<_>>().join(";"), query, "{text}");
        }
        for text in ["a//b", "a/../b", "./a", "a/%2e%2E/b"] {
            assert!(
                relative(&ProxyTemplate::parse(text), field).is_none(),
                "{text}"
            );
        }
    }
}
