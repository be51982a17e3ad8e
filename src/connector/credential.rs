//! Turns a caller's credential into the headers of a CRM call.
//!
//! The profile states the form; this module renders it. The tag of a credential
//! ([`CredentialForm::values`]) and the headers that are sent ([`CredentialForm::render`]) come
//! from the same texts. So everything that is sent as a credential is part of the tag.

use std::fmt;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::zeroize::Zeroizing;

use crate::domain::AuthHeader;
use crate::domain::user::AdditionalInfo;

/// Headers, each with the pieces that make up its value.
#[derive(Debug, Clone)]
pub(crate) struct CredentialForm(Vec<(HeaderName, Vec<CredentialPiece>)>);

/// A piece of a header's value.
#[derive(Debug, Clone)]
#[cfg_attr(
    not(test),
    expect(dead_code, reason = "built-in CRMs take the header as it came")
)]
pub(crate) enum CredentialPiece {
    /// The caller's header, unchanged.
    Header,
    /// The caller's header without its scheme: the `abc` of `Bearer abc`.
    Secret,
    /// A field of `platform_additional_info`, which the profile's inputs name as well.
    Info(String),
    /// Fixed text.
    Text(String),
}

/// The headers of a credential. Their values are marked as sensitive.
#[derive(Clone)]
pub(super) struct RenderedCredential {
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for RenderedCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RenderedCredential([REDACTED])")
    }
}

/// A header's value, erased from memory if it was assembled here.
pub(super) enum HeaderText<'a> {
    Whole(&'a str),
    Joined(Zeroizing<String>),
}

impl AsRef<str> for HeaderText<'_> {
    fn as_ref(&self) -> &str {
        match self {
            Self::Whole(text) => text,
            Self::Joined(text) => text,
        }
    }
}

/// The caller's input does not fit the form of the credential: a field is missing, or a value is
/// not a valid header value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what the caller sent is not a valid credential for this CRM")]
pub(super) struct NoCredential;

impl CredentialForm {
    /// The caller's header, unchanged, as `Authorization`.
    pub(super) fn authorization() -> Self {
        Self(vec![(AUTHORIZATION, vec![CredentialPiece::Header])])
    }

    #[cfg(test)]
    pub(super) fn of(headers: Vec<(HeaderName, Vec<CredentialPiece>)>) -> Self {
        Self(headers)
    }

    /// Names and values of the headers. A missing field is empty.
    pub(super) fn values<'a>(
        &'a self,
        auth: &'a AuthHeader,
        info: &'a AdditionalInfo,
    ) -> impl Iterator<Item = (&'a str, HeaderText<'a>)> {
        self.0.iter().map(move |(name, pieces)| {
            let text = |piece: &'a CredentialPiece| piece.text(auth, info).unwrap_or_default();
            (name.as_str(), join(pieces, text))
        })
    }

    /// Renders the headers to send.
    ///
    /// # Errors
    /// [`NoCredential`].
    pub(super) fn render(
        &self,
        auth: &AuthHeader,
        info: &AdditionalInfo,
    ) -> Result<RenderedCredential, NoCredential> {
        let header = |(name, pieces): &(HeaderName, Vec<CredentialPiece>)| {
            Ok((name.clone(), header_value(pieces, auth, info)?))
        };
        Ok(RenderedCredential {
            headers: self.0.iter().map(header).collect::<Result<_, _>>()?,
        })
    }
}

fn header_value(
    pieces: &[CredentialPiece],
    auth: &AuthHeader,
    info: &AdditionalInfo,
) -> Result<HeaderValue, NoCredential> {
    if pieces.iter().any(|piece| piece.text(auth, info).is_none()) {
        return Err(NoCredential);
    }
    let text = join(pieces, |piece| piece.text(auth, info).unwrap_or_default());
    let mut value = HeaderValue::from_str(text.as_ref()).map_err(|_| NoCredential)?;
    value.set_sensitive(true);
    Ok(value)
}

fn join<'a>(
    pieces: &'a [CredentialPiece],
    text: impl Fn(&'a CredentialPiece) -> &'a str,
) -> HeaderText<'a> {
    match pieces {
        [piece] => HeaderText::Whole(text(piece)),
        pieces => HeaderText::Joined(Zeroizing::new(pieces.iter().map(text).collect())),
    }
}

impl CredentialPiece {
    fn text<'a>(&'a self, auth: &'a AuthHeader, info: &'a AdditionalInfo) -> Option<&'a str> {
        let header = auth.expose();
        match self {
            Self::Header => Some(header),
            Self::Secret => Some(header.split_once(' ').map_or(header, |(_, secret)| secret)),
            Self::Info(name) => info.text(name),
            Self::Text(text) => Some(text),
        }
    }
}

impl RenderedCredential {
    /// Adds the headers to a request, replacing others with the same names.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// The values, as input of a keyed hash.
    pub(super) fn bytes(&self) -> Vec<&[u8]> {
        self.headers
            .iter()
            .map(|(_, value)| value.as_bytes())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{Struct, Value, value::Kind};

    use super::*;

    fn info(fields: &[(&str, &str)]) -> AdditionalInfo {
        let value = |text: &str| Value {
            kind: Some(Kind::StringValue(text.to_owned())),
        };
        let fields = fields
            .iter()
            .map(|(name, text)| ((*name).to_owned(), value(text)));
        let fields = Struct {
            fields: fields.collect(),
        };
        let names: Vec<String> = fields.fields.keys().cloned().collect();
        AdditionalInfo::only(&fields, &names)
    }

    fn rendered(form: &CredentialForm, header: &str, info: &AdditionalInfo) -> Option<String> {
        let auth = AuthHeader::parse(header).unwrap();
        let rendered = form.render(&auth, info).ok()?;
        let mut headers = HeaderMap::new();
        rendered.add_to(&mut headers);
        assert!(headers.values().all(HeaderValue::is_sensitive));
        assert!(!format!("{rendered:?}{headers:?}").contains("abc"));
        let lines = headers
            .iter()
            .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
        Some(lines.collect())
    }

    #[test]
    fn a_credential_is_put_into_the_headers_that_its_form_names() {
        let token = || HeaderName::from_static("x-api-token");
        let user = || HeaderName::from_static("x-user");
        let none = info(&[]);
        for (form, info, expected) in [
            (
                CredentialForm::authorization(),
                &none,
                Some("authorization: Bearer abc\n"),
            ),
            (
                CredentialForm::of(vec![(token(), vec![CredentialPiece::Secret])]),
                &none,
                Some("x-api-token: abc\n"),
            ),
            (
                CredentialForm::of(vec![
                    (
                        token(),
                        vec![
                            CredentialPiece::Text("key ".to_owned()),
                            CredentialPiece::Secret,
                        ],
                    ),
                    (user(), vec![CredentialPiece::Info("mail".to_owned())]),
                ]),
                &info(&[("mail", "ada@example.com")]),
                Some("x-api-token: key abc\nx-user: ada@example.com\n"),
            ),
            (
                CredentialForm::of(vec![(
                    user(),
                    vec![CredentialPiece::Info("mail".to_owned())],
                )]),
                &none,
                None,
            ),
            (
                CredentialForm::of(vec![(
                    user(),
                    vec![CredentialPiece::Info("mail".to_owned())],
                )]),
                &info(&[("mail", "a\r\nx-admin: 1")]),
                None,
            ),
        ] {
            assert_eq!(
                rendered(&form, "Bearer abc", info).as_deref(),
                expected,
                "{form:?}"
            );
        }
    }
}
