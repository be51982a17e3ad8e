//! Turns a caller's credential into the headers of a CRM call.
//!
//! The profile states the form; this module renders it. The tag of a credential
//! ([`CredentialForm::values`]) and the headers that are sent ([`CredentialForm::render`]) come
//! from the same texts. So everything that is sent as a credential is part of the tag.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use crate::domain::user::AdditionalInfo;
use crate::domain::{AuthHeader, Host, User};

/// Headers, each with the form of its value, and what else of a credential is sent.
#[derive(Debug, Clone)]
pub(crate) struct CredentialForm {
    headers: Vec<(HeaderName, HeaderForm)>,
    /// The pieces that requests contain outside of headers, such as a key in a parameter.
    shown: Vec<CredentialPiece>,
}

/// The form of a header's value: `prefix`, and then the pieces, in base64 if the CRM wants that.
#[derive(Debug, Clone, Default)]
pub(crate) struct HeaderForm {
    pub(crate) prefix: String,
    pub(crate) base64: bool,
    pub(crate) pieces: Vec<CredentialPiece>,
}

/// A piece of a header's value.
#[derive(Debug, Clone)]
pub(crate) enum CredentialPiece {
    /// The caller's header, unchanged.
    Header,
    /// The caller's header without its scheme: the `abc` of `Bearer abc`.
    Secret,
    /// The secret in the caller's header: for `Basic` the decoded text without a last colon,
    /// otherwise as [`Self::Secret`].
    Key,
    /// The caller's id of the user, up to its first dash.
    UserId,
    /// A field of `platform_additional_info`, which the profile's inputs name as well, and the keys
    /// below it.
    Info(String, Vec<String>),
    /// The host that the user names.
    Host,
    /// A secret of the settings.
    Configured(SecretString),
    /// The token that the connector fetches itself.
    Fetched,
    /// Fixed text.
    Text(String),
}

/// Stands for the token in a header that is rendered before the token is there. No header may
/// contain it.
const TOKEN_MARK: &str = "\u{1}";

/// The headers of a credential. Their values are marked as sensitive.
#[derive(Clone)]
pub(super) struct RenderedCredential {
    headers: Vec<(HeaderName, HeaderValue)>,
    shown: Vec<SecretString>,
    /// Headers with a token: what stands before and after it.
    around_token: Vec<(HeaderName, [String; 2])>,
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
#[error(
    "does not make a credential for this CRM: a part is missing, or has characters that no header may have"
)]
pub(crate) struct NoCredential;

/// What the pieces of a credential are taken from.
#[derive(Debug, Clone, Copy)]
pub(super) struct CredentialSource<'a> {
    pub(super) auth: &'a AuthHeader,
    pub(super) user: &'a User,
}

impl HeaderForm {
    /// The pieces, one after the other.
    pub(super) fn of(pieces: Vec<CredentialPiece>) -> Self {
        Self {
            pieces,
            ..Self::default()
        }
    }

    fn reads_info(&self) -> bool {
        let mut pieces = self.pieces.iter();
        pieces.any(|piece| piece.info_name().is_some())
    }

    fn takes_any_header(&self) -> bool {
        self.prefix.is_empty() && matches!(self.pieces.as_slice(), [CredentialPiece::Header])
    }
}

impl CredentialForm {
    /// The caller's header, unchanged, as `Authorization`.
    pub(super) fn authorization() -> Self {
        Self::of(vec![(AUTHORIZATION, vec![CredentialPiece::Header])])
    }

    /// Headers made of pieces.
    pub(super) fn of(headers: Vec<(HeaderName, Vec<CredentialPiece>)>) -> Self {
        let headers = headers.into_iter();
        let forms = headers.map(|(name, pieces)| (name, HeaderForm::of(pieces)));
        Self::of_forms(forms.collect())
    }

    /// Headers of these forms.
    pub(super) fn of_forms(headers: Vec<(HeaderName, HeaderForm)>) -> Self {
        Self {
            headers,
            shown: Vec::new(),
        }
    }

    /// The same form, with pieces that requests show elsewhere.
    pub(super) fn showing(self, shown: Vec<CredentialPiece>) -> Self {
        Self { shown, ..self }
    }

    /// The field of a request that is to blame if it makes no credential.
    pub(super) fn field(&self) -> &'static str {
        if self.headers.iter().any(|(_, form)| form.reads_info()) {
            "user.platform_additional_info"
        } else {
            "auth_header"
        }
    }

    fn pieces(&self) -> impl Iterator<Item = &CredentialPiece> {
        let headers = self.headers.iter().flat_map(|(_, form)| &form.pieces);
        headers.chain(&self.shown)
    }

    /// Whether it is made of the caller's header.
    pub(super) fn reads_header(&self) -> bool {
        self.pieces().any(|piece| {
            use CredentialPiece::{Header, Key, Secret};
            matches!(piece, Header | Secret | Key)
        })
    }

    /// Whether any input makes a credential.
    pub(super) fn takes_any_header(&self) -> bool {
        let mut forms = self.headers.iter();
        self.shown.is_empty() && forms.all(|(_, form)| form.takes_any_header())
    }

    /// Names and values of the headers, and of what is shown elsewhere. A missing field is empty.
    pub(super) fn values<'a>(
        &'a self,
        from: CredentialSource<'a>,
    ) -> impl Iterator<Item = (&'a str, HeaderText<'a>)> {
        let shown = self.shown.iter();
        let shown = shown.map(move |piece| ("", piece.text(from).unwrap_or(HeaderText::Whole(""))));
        self.headers
            .iter()
            .map(move |(name, form)| (name.as_str(), form.text(from)))
            .chain(shown)
    }

    /// Renders the headers to send.
    ///
    /// # Errors
    /// [`NoCredential`].
    pub(super) fn render(
        &self,
        from: CredentialSource<'_>,
    ) -> Result<RenderedCredential, NoCredential> {
        let shown = self.shown.iter().map(|piece| piece.shown(from));
        let mut rendered = RenderedCredential {
            headers: Vec::new(),
            around_token: Vec::new(),
            shown: shown.collect::<Result<_, _>>()?,
        };
        for (name, form) in &self.headers {
            rendered.add(name, form.checked_text(from)?.as_ref())?;
        }
        Ok(rendered)
    }
}

impl HeaderForm {
    fn text<'a>(&'a self, from: CredentialSource<'a>) -> HeaderText<'a> {
        let text = |piece: &'a CredentialPiece| piece.text(from).unwrap_or(HeaderText::Whole(""));
        if let ([piece], true, false) =
            (self.pieces.as_slice(), self.prefix.is_empty(), self.base64)
        {
            return text(piece);
        }
        let mut joined = Zeroizing::new(String::new());
        for piece in &self.pieces {
            joined.push_str(text(piece).as_ref());
        }
        HeaderText::Joined(Zeroizing::new(if self.base64 {
            format!("{}{}", self.prefix, STANDARD.encode(joined.as_bytes()))
        } else {
            format!("{}{}", self.prefix, joined.as_str())
        }))
    }

    /// The text, if no piece is missing.
    fn checked_text<'a>(
        &'a self,
        from: CredentialSource<'a>,
    ) -> Result<HeaderText<'a>, NoCredential> {
        if self.pieces.iter().all(|piece| piece.is_sound(from)) {
            return Ok(self.text(from));
        }
        Err(NoCredential)
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, NoCredential> {
    let mut value = HeaderValue::from_str(text).map_err(|_| NoCredential)?;
    value.set_sensitive(true);
    Ok(value)
}

impl CredentialPiece {
    /// The field of the additional info that it is.
    pub(super) fn info_name(&self) -> Option<&str> {
        match self {
            Self::Info(name, _) => Some(name),
            _ => None,
        }
    }

    /// The text outside of headers, if there is one.
    fn shown(&self, from: CredentialSource<'_>) -> Result<SecretString, NoCredential> {
        let text = self.text(from).filter(|text| !text.as_ref().is_empty());
        Ok(SecretString::from(text.ok_or(NoCredential)?.as_ref()))
    }

    /// Returns whether the piece has a text, and the text does not contain the mark that stands for
    /// the token.
    fn is_sound(&self, from: CredentialSource<'_>) -> bool {
        let is_token = matches!(self, Self::Fetched);
        self.text(from).is_some_and(|text| {
            let text = text.as_ref();
            !text.is_empty() && (is_token || !text.contains(TOKEN_MARK))
        })
    }

    fn text<'a>(&'a self, from: CredentialSource<'a>) -> Option<HeaderText<'a>> {
        let header = from.auth.expose();
        let (scheme, secret) = header.split_once(' ').unwrap_or(("", header));
        let text = match self {
            Self::Header => header,
            Self::Key if scheme.eq_ignore_ascii_case("basic") => return key_of_basic(secret),
            Self::Secret | Self::Key => secret,
            Self::UserId => from.user.id.split('-').next().unwrap_or_default(),
            Self::Info(name, below) => return info_text(&from.user.info, name, below),
            Self::Host => from.user.host.as_ref().map(Host::as_str)?,
            Self::Configured(secret) => secret.expose_secret(),
            Self::Fetched => TOKEN_MARK,
            Self::Text(text) => text,
        };
        Some(HeaderText::Whole(text))
    }
}

/// A field of the additional info: a text, or a number as text.
fn info_text<'a>(info: &'a AdditionalInfo, name: &str, below: &[String]) -> Option<HeaderText<'a>> {
    if let Some(text) = info.text(name, below) {
        return Some(HeaderText::Whole(text));
    }
    let number = Zeroizing::new(info.number(name, below)?);
    Some(HeaderText::Joined(number))
}

/// App Connect sends an API key as the user name of `Basic`, with an empty password.
fn key_of_basic(secret: &str) -> Option<HeaderText<'static>> {
    let bytes = Zeroizing::new(STANDARD.decode(secret.trim()).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    let key = text.strip_suffix(':').unwrap_or(text);
    Some(HeaderText::Joined(Zeroizing::new(key.to_owned())))
}

impl RenderedCredential {
    /// Adds a header. Its text may have the place of the token in it.
    fn add(&mut self, name: &HeaderName, text: &str) -> Result<(), NoCredential> {
        match text.split_once(TOKEN_MARK) {
            Some((before, after)) => {
                let around = [before.to_owned(), after.to_owned()];
                self.around_token.push((name.clone(), around));
            }
            None => self.headers.push((name.clone(), sensitive(text)?)),
        }
        Ok(())
    }

    /// The pieces that requests contain outside of headers.
    pub(super) fn shown(&self) -> &[SecretString] {
        &self.shown
    }

    /// Adds the headers to a request, replacing others with the same names.
    ///
    /// # Errors
    /// [`NoCredential`] if the token does not fit into a header.
    pub(super) fn add_to(
        &self,
        headers: &mut HeaderMap,
        token: Option<&SecretString>,
    ) -> Result<(), NoCredential> {
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        for (name, [before, after]) in &self.around_token {
            let token = token.ok_or(NoCredential)?.expose_secret();
            let text = Zeroizing::new(format!("{before}{token}{after}"));
            headers.insert(name.clone(), sensitive(&text)?);
        }
        Ok(())
    }

    /// Headers without those of the credential.
    pub(super) fn without(&self, headers: &HeaderMap) -> HeaderMap {
        let mut headers = headers.clone();
        for name in self.names() {
            headers.remove(name);
        }
        headers
    }

    /// The names of the headers.
    pub(super) fn names(&self) -> Vec<&str> {
        let late = self.around_token.iter().map(|(name, _)| name.as_str());
        let names = self.headers.iter().map(|(name, _)| name.as_str());
        names.chain(late).collect()
    }

    /// The values, as input of a keyed hash.
    pub(super) fn bytes(&self) -> Vec<&[u8]> {
        let headers = self.headers.iter().map(|(_, value)| value.as_bytes());
        let shown = self
            .shown
            .iter()
            .map(|text| text.expose_secret().as_bytes());
        headers.chain(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use prost_types::{Struct, Value, value::Kind};

    use super::*;
    use crate::domain::user::{AdditionalInfo, Settings};

    fn info(fields: &[(&str, &str)]) -> User {
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
        User {
            id: "u".to_owned(),
            account: String::new(),
            host: Host::parse("acme.example.com"),
            region: None,
            settings: Settings::default(),
            info: AdditionalInfo::only(&fields, &names),
        }
    }

    fn rendered(form: &CredentialForm, header: &str, user: &User) -> Option<String> {
        let auth = AuthHeader::parse(header).unwrap();
        let source = CredentialSource { auth: &auth, user };
        let rendered = form.render(source).ok()?;
        let mut headers = HeaderMap::new();
        rendered.add_to(&mut headers, None).unwrap();
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
        let mail = || CredentialPiece::Info("mail".to_owned(), Vec::new());
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
                    (user(), vec![mail()]),
                ]),
                &info(&[("mail", "ada@example.com")]),
                Some("x-api-token: key abc\nx-user: ada@example.com\n"),
            ),
            (
                CredentialForm::of(vec![(user(), vec![mail()])]),
                &none,
                None,
            ),
            (
                CredentialForm::of(vec![(user(), vec![mail()])]),
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

    #[test]
    fn a_key_is_cut_out_of_the_header_and_what_is_shown_elsewhere_is_part_of_the_tag() {
        let user = info(&[]);
        let basic = |text: &str| format!("bAsIc {}", STANDARD.encode(text));
        for (header, expected) in [
            (basic("abc:"), Some("abc")),
            (basic("abc::"), Some("abc:")),
            (basic("abc:pw"), Some("abc:pw")),
            ("Bearer abc".to_owned(), Some("abc")),
            ("abc".to_owned(), Some("abc")),
            (basic(":"), None),
            ("Basic not base64".to_owned(), None),
        ] {
            let form = CredentialForm::of(Vec::new()).showing(vec![CredentialPiece::Key]);
            let auth = AuthHeader::parse(header.as_str()).unwrap();
            let source = CredentialSource {
                auth: &auth,
                user: &user,
            };
            let rendered = form.render(source).ok();
            let shown = rendered
                .as_ref()
                .map(|form| form.shown()[0].expose_secret());
            assert_eq!(shown, expected, "{header}");
            if let Some(rendered) = &rendered {
                assert_eq!(rendered.bytes(), [expected.unwrap().as_bytes()]);
            }
            let tagged: Vec<String> = form
                .values(source)
                .map(|(_, text)| text.as_ref().to_owned())
                .collect();
            assert_eq!(tagged, [expected.unwrap_or_default()]);
            assert!(!form.takes_any_header());
        }
    }

    #[test]
    fn no_header_of_a_credential_is_shown_not_even_one_with_a_fetched_token() {
        let form = CredentialForm::of(vec![
            (AUTHORIZATION, vec![CredentialPiece::Fetched]),
            (
                HeaderName::from_static("x-key"),
                vec![CredentialPiece::Header],
            ),
        ]);
        let (auth, user) = (AuthHeader::parse("Bearer abc").unwrap(), info(&[]));
        let source = CredentialSource {
            auth: &auth,
            user: &user,
        };
        let rendered = form.render(source).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("text/plain"));
        let token = SecretString::from("fetched");
        rendered.add_to(&mut headers, Some(&token)).unwrap();
        let shown = rendered.without(&headers);
        let names: Vec<_> = shown.keys().map(HeaderName::as_str).collect();
        assert_eq!((headers.len(), names), (3, vec!["accept"]));
    }

    #[test]
    fn whether_a_credential_needs_the_callers_header_shows_in_its_pieces() {
        use CredentialPiece::{Configured, Fetched, Header, Host, Key, Secret, Text, UserId};
        let key = || Configured(SecretString::from("key"));
        let info = || CredentialPiece::Info("mail".to_owned(), Vec::new());
        for (pieces, reads_header) in [
            (vec![Header], true),
            (vec![key(), Secret], true),
            (vec![Key], true),
            (vec![key(), info()], false),
            (vec![Fetched, Host, UserId], false),
            (vec![key(), Text(":".to_owned())], false),
            (Vec::new(), false),
        ] {
            let header = CredentialForm::of(vec![(AUTHORIZATION, pieces.clone())]);
            let shown = CredentialForm::of(Vec::new()).showing(pieces);
            for form in [header, shown] {
                assert_eq!(form.reads_header(), reads_header, "{form:?}");
            }
        }
    }

    #[test]
    fn a_value_may_be_base64_with_a_scheme_before_it_and_come_from_the_settings() {
        let form = CredentialForm::of_forms(vec![(
            AUTHORIZATION,
            HeaderForm {
                prefix: "Basic ".to_owned(),
                base64: true,
                pieces: vec![
                    CredentialPiece::Configured(SecretString::from("key")),
                    CredentialPiece::Text(":".to_owned()),
                    CredentialPiece::Host,
                ],
            },
        )]);
        let text = rendered(&form, "Bearer abc", &info(&[])).unwrap();
        let encoded = STANDARD.encode("key:acme.example.com");
        assert_eq!(text, format!("authorization: Basic {encoded}\n"));
        assert!(!format!("{form:?}").contains("\"key"), "{form:?}");
    }
}
