//! Reads the address: `baseUrl`, and the operation's `url`, which may be absolute.
//!
//! App Connect renders the url as one text. Here it is taken apart first, and values are encoded
//! in their place: they cannot add a segment, a parameter or another host.

use ::url::form_urlencoded;

use super::super::super::proxy::ProxyUrl;
use super::super::super::proxy::template::{ProxyPiece, ProxyTemplate};
use super::super::super::proxy::variables::Variable;
use super::super::super::tree::{Faults, Node};
use super::super::table::text;
use super::ProxyFile;
use crate::connector::base::{BaseForm, BasePiece, fixed_address};

/// Where requests go.
pub(super) struct Address {
    pub(super) base: BaseForm,
    pub(super) url: ProxyUrl,
}

/// A template with its place in the file.
#[derive(Clone, Copy)]
struct Source<'a> {
    node: &'a Node,
    text: &'a str,
    faults: &'a Faults,
}

impl Source<'_> {
    fn fault<T>(&self, message: &str) -> Option<T> {
        self.faults.add(&self.node.place, message);
        None
    }
}

/// Reads the address of `findContact`, or the base alone if there is no such operation.
pub(super) fn address(file: &ProxyFile<'_>) -> Option<Address> {
    let source = |node| {
        let text = text(node, file.faults)?;
        Some(Source {
            node,
            text,
            faults: file.faults,
        })
    };
    let base = match file
        .defaults
        .as_ref()
        .and_then(|table| table.said("baseUrl"))
    {
        Some(node) => Some(source(node)?),
        None => None,
    };
    let url = match file.find.as_ref().and_then(|find| find.said("url")) {
        Some(node) => Some(source(node)?),
        None => None,
    };
    match (base, url) {
        (_, Some(url)) if is_absolute(url.text) => absolute(base, url),
        (Some(base), url) => Some(Address {
            base: base_form(&ProxyTemplate::parse(base.text), base)?,
            url: match url {
                Some(url) => relative(&ProxyTemplate::parse(url.text), url)?,
                None => ProxyUrl::default(),
            },
        }),
        (None, _) => {
            file.root
                .fault("needs requestDefaults.baseUrl, the CRM's address");
            None
        }
    }
}

fn is_absolute(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// A url that has a scheme and a host of its own. Below the base it is the same as a relative one.
fn absolute(base: Option<Source<'_>>, url: Source<'_>) -> Option<Address> {
    if let Some(base) = base {
        let root = base.text.strip_suffix('/').unwrap_or(base.text);
        let below = url.text.strip_prefix(root);
        let below = below.filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
        if let Some(below) = below {
            return Some(Address {
                base: base_form(&ProxyTemplate::parse(base.text), base)?,
                url: relative(&ProxyTemplate::parse(below), url)?,
            });
        }
    }
    let template = ProxyTemplate::parse(url.text);
    let scheme = url.text.find("//").map_or(0, |at| at + 2);
    let (root, rest) = template.split_literal(scheme, &['/', '?', '#']);
    let mut form = base_form(&root, url)?;
    if let (BaseForm::Pieces(pieces), Some(base)) = (&mut form, base)
        && let [BasePiece::Text(text)] = pieces.as_slice()
        && !has_same_host(text, base.text)
    {
        *pieces = vec![BasePiece::Elsewhere(text.clone())];
    }
    Some(Address {
        base: form,
        url: relative(&rest, url)?,
    })
}

fn has_same_host(one: &str, other: &str) -> bool {
    let host = |text| ::url::Url::parse(text).ok()?.host_str().map(str::to_owned);
    host(one).is_some() && host(one) == host(other)
}

/// The base address. Its placeholders can be the user's host and fields of the additional info.
fn base_form(template: &ProxyTemplate, source: Source<'_>) -> Option<BaseForm> {
    if let Some(address) = template.literal() {
        if fixed_address(address).is_err() {
            return source.fault(
                "must be an https address with a host name, without port, user and \
                 query; another one belongs into the setting base_url",
            );
        }
        return Some(BaseForm::Pieces(vec![BasePiece::Text(address.to_owned())]));
    }
    let is_https =
        matches!(template.0.first(), Some(ProxyPiece::Text(text)) if text.starts_with("https://"));
    let is_whole = template.0.len() == 1;
    if !is_https && !is_whole {
        return source.fault("must begin with https://");
    }
    let pieces = template.0.iter().map(|piece| match piece {
        ProxyPiece::Text(text) => Some(BasePiece::Text(text.clone())),
        ProxyPiece::Slot(path) => match Variable::of(path) {
            Ok(Variable::Host) => Some(BasePiece::Host),
            Ok(Variable::Info(name, below)) => Some(BasePiece::Info(name, below)),
            _ => source.fault("can only name user.hostname and fields of user.platformAdditionalInfo in the address"),
        },
    });
    let pieces: Vec<BasePiece> = pieces.collect::<Option<_>>()?;
    let is_host = matches!(
        pieces.as_slice(),
        [BasePiece::Text(text), BasePiece::Host] if text == "https://"
    );
    Some(if is_host {
        BaseForm::Host
    } else {
        BaseForm::Pieces(pieces)
    })
}

/// A path and its parameters. What follows a `#` is never sent.
fn relative(template: &ProxyTemplate, source: Source<'_>) -> Option<ProxyUrl> {
    let (address, _) = template.split_literal(0, &['#']);
    let (path, query) = address.split_literal(0, &['?']);
    let is_empty = path.0.is_empty();
    let mut segments = path.split_all('/');
    if segments.len() > 1 && segments[0].0.is_empty() {
        segments.remove(0);
    }
    let ends_in_slash = segments.last().is_some_and(|last| last.0.is_empty());
    if ends_in_slash {
        segments.pop();
    }
    let segments: Vec<ProxyTemplate> = segments
        .into_iter()
        .map(|segment| segment.decoded(false))
        .collect();
    let is_odd = |segment: &ProxyTemplate| matches!(segment.literal(), Some("" | "." | ".."));
    if segments.iter().any(is_odd) {
        return source.fault("has a segment that is empty, . or ..");
    }
    let query = query.without_first().split_all('&');
    let pair = |pair: ProxyTemplate| {
        let (name, value) = pair.split_literal(0, &['=']);
        (name.decoded(true), value.without_first().decoded(true))
    };
    let query = query.into_iter().filter(|pair| !pair.0.is_empty());
    Some(ProxyUrl {
        path: segments,
        ends_in_slash: ends_in_slash && !is_empty,
        query: query.map(pair).collect(),
    })
}

impl ProxyTemplate {
    /// Splits before the first of these characters in the literal text, looking from `from` on in
    /// the first piece.
    fn split_literal(&self, from: usize, at: &[char]) -> (Self, Self) {
        for (n, piece) in self.0.iter().enumerate() {
            let ProxyPiece::Text(text) = piece else {
                continue;
            };
            let from = if n == 0 { from } else { 0 };
            let found = text.get(from..).and_then(|rest| rest.find(at));
            if let Some(found) = found {
                let (before, after) = text.split_at(from + found);
                let mut first = self.0[..n].to_vec();
                if !before.is_empty() {
                    first.push(ProxyPiece::Text(before.to_owned()));
                }
                let mut rest = vec![ProxyPiece::Text(after.to_owned())];
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
        let piece = |piece| match piece {
            ProxyPiece::Text(text) => ProxyPiece::Text(decoded(&text, plus_is_space)),
            slot @ ProxyPiece::Slot(_) => slot,
        };
        Self(self.0.into_iter().map(piece).collect())
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
            let source = Source {
                node: &node,
                text,
                faults: &faults,
            };
            let url = relative(&ProxyTemplate::parse(text), source).unwrap();
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
            let source = Source {
                node: &node,
                text,
                faults: &faults,
            };
            assert!(
                relative(&ProxyTemplate::parse(text), source).is_none(),
                "{text}"
            );
        }
    }
}
