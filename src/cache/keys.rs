//! Keys that seal stored answers, and the file that contains them.
//!
//! Uses XChaCha20-Poly1305 (a random nonce of 24 bytes never repeats by chance), and binds a sealed
//! value to its place. A value copied to another user, party or question does not open there.
//! Wrong, missing or foreign keys open nothing. No key is printed, and keys are erased from memory
//! on drop. Knows nothing of what is sealed.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretBox};

use crate::domain::SlotKey;
use crate::redis_link::PartyHash;

pub(super) const NONCE: usize = 24;

/// Longest id of a key.
const ID: usize = 32;

/// The place of a sealed value, which opens nowhere else.
#[derive(Clone, Copy)]
pub struct SealContext([u8; 48]);

impl fmt::Debug for SealContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealContext(…)")
    }
}

impl SealContext {
    /// The context of an answer: the user, the party and the question.
    #[must_use]
    pub fn new(party: PartyHash, slot: SlotKey) -> Self {
        let mut context = [0; 48];
        context[..16].copy_from_slice(&slot.user().to_bytes());
        context[16..32].copy_from_slice(&party.0);
        context[32..].copy_from_slice(&slot.to_bytes());
        Self(context)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The keys of one file: the first one seals, all of them open. Clones share them.
#[derive(Clone)]
pub struct KeyRing(Arc<[SealKey]>);

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|key| &key.id))
            .finish()
    }
}

struct SealKey {
    id: String,
    secret: SecretBox<[u8; 32]>,
}

/// What is wrong with a key file, without its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// Nothing to seal with.
    #[error(
        "holds no key; a line is ID:KEY, such as the output of: echo \"k1:$(openssl rand -base64 32)\""
    )]
    Empty,
    /// No `ID:KEY`.
    #[error("line {0} is not ID:KEY, with an id of 1 to 32 letters, digits, '-' or '_'")]
    Line(usize),
    /// Not 32 bytes in base64.
    #[error("line {0} has no key of 32 bytes in base64; make one with: openssl rand -base64 32")]
    Key(usize),
    /// Two keys under one id.
    #[error("line {0} has the id of an earlier line; every key needs its own")]
    Twice(usize),
    /// Not text.
    #[error("is not a text file")]
    NotText,
}

impl KeyRing {
    /// Parses lines of the form `ID:KEY`. Skips empty lines and those that begin with `#`.
    ///
    /// # Errors
    /// [`KeyRingError`] with the number of the line.
    pub fn parse(file: &[u8]) -> Result<Self, KeyRingError> {
        let text = std::str::from_utf8(file).map_err(|_| KeyRingError::NotText)?;
        let mut keys: Vec<SealKey> = Vec::new();
        for (n, line) in (1..).zip(text.lines().map(str::trim)) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = SealKey::parse(line, n)?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(KeyRingError::Twice(n));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            Err(KeyRingError::Empty)
        } else {
            Ok(Self(keys.into()))
        }
    }

    pub(super) fn first_id(&self) -> &str {
        &self.0[0].id
    }

    /// Seals under the first key. `head` stands before the sealed text. It is not encrypted, but
    /// the seal covers it.
    pub(super) fn seal(
        &self,
        head: &[u8],
        context: &SealContext,
        nonce: [u8; NONCE],
        plain: &[u8],
    ) -> Option<Vec<u8>> {
        let aad = [head, &context.0].concat();
        self.0[0]
            .cipher()
            .encrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: plain,
                    aad: &aad,
                },
            )
            .ok()
    }

    /// Opens what was sealed under the key called `id`, if that key exists and nothing was changed.
    pub(super) fn open(
        &self,
        id: &[u8],
        head: &[u8],
        context: &SealContext,
        nonce: [u8; NONCE],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let key = self.0.iter().find(|key| key.id.as_bytes() == id)?;
        let aad = [head, &context.0].concat();
        key.cipher()
            .decrypt(
                &XNonce::from(nonce),
                Payload {
                    msg: sealed,
                    aad: &aad,
                },
            )
            .ok()
            .map(Zeroizing::new)
    }
}

impl SealKey {
    /// Parses `ID:KEY` in line `n`.
    fn parse(line: &str, n: usize) -> Result<Self, KeyRingError> {
        let (id, key) = line.split_once(':').ok_or(KeyRingError::Line(n))?;
        let plain = id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if !plain || !(1..=ID).contains(&id.len()) {
            return Err(KeyRingError::Line(n));
        }
        let decoded = STANDARD.decode(key.trim());
        let bytes = Zeroizing::new(decoded.map_err(|_| KeyRingError::Key(n))?);
        if bytes.len() != 32 {
            return Err(KeyRingError::Key(n));
        }
        let copy = |secret: &mut [u8; 32]| secret.copy_from_slice(&bytes);
        Ok(Self {
            id: id.to_owned(),
            secret: SecretBox::init_with_mut(copy),
        })
    }

    /// The cipher erases its copy of the key on drop.
    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.secret.expose_secret().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(id: &str, byte: u8) -> String {
        format!("{id}:{}\n", STANDARD.encode([byte; 32]))
    }

    #[test]
    fn a_file_has_one_key_a_line_and_the_first_one_seals() {
        let text = format!("# made in May\n\n{}  {}", line("k2", 2), line("k1", 1));
        let ring = KeyRing::parse(text.as_bytes()).unwrap();
        assert_eq!((ring.first_id(), ring.0.len()), ("k2", 2));
        assert_eq!(format!("{ring:?}"), "[\"k2\", \"k1\"]");
    }

    #[test]
    fn faults_name_the_line_and_never_the_key() {
        let short = STANDARD.encode([7; 31]);
        for (text, fault) in [
            (String::new(), KeyRingError::Empty),
            ("# only this\n".to_owned(), KeyRingError::Empty),
            (format!("\n{short}\n"), KeyRingError::Line(2)),
            (line("", 1), KeyRingError::Line(1)),
            (line("a b", 1), KeyRingError::Line(1)),
            (line(&"x".repeat(33), 1), KeyRingError::Line(1)),
            (format!("k1:{short}"), KeyRingError::Key(1)),
            ("k1:not base64".to_owned(), KeyRingError::Key(1)),
            (line("k1", 1) + &line("k1", 2), KeyRingError::Twice(2)),
        ] {
            let error = KeyRing::parse(text.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains(&short), "{error}");
            assert_eq!(error, fault, "{text}");
        }
        assert_eq!(
            KeyRing::parse(&[0xff, 0xfe]).unwrap_err(),
            KeyRingError::NotText
        );
    }
}
