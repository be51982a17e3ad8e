//! Bearer tokens, of which contactd keeps only a hash.

use std::fmt;
use std::str::FromStr;

use ring::digest;
use subtle::{Choice, ConstantTimeEq as _};

/// The SHA-256 of a bearer token, written as 64 hexadecimal digits, or as `sha256sum` prints them:
/// `HASH  -`, `HASH *FILE`, `SHA256 (FILE) = HASH`.
///
/// A plain hash is enough if the token is random and long, because nobody can try 2^128 of them.
/// Errors never repeat the parsed text: somebody may have written the token itself by mistake.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenHash([u8; 32]);

/// Not 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the 64 hexadecimal digits of a token's SHA-256, as sha256sum prints them")]
pub(crate) struct NotAHash;

impl TokenHash {
    /// The hash of a token that a client sends.
    #[must_use]
    pub(crate) fn of(token: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
        Self(hash)
    }

    /// Compares both in constant time.
    pub(super) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl FromStr for TokenHash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let text = printed(text.trim());
        // blake3's own hashes have the same length and notation. Only its parser is used here.
        blake3::Hash::from_hex(text)
            .map(|hash| Self(hash.into()))
            .map_err(|_| NotAHash)
    }
}

/// The digits in a line of `sha256sum`, which adds the name of the file.
fn printed(line: &str) -> &str {
    let tagged = line
        .strip_prefix("SHA256 (")
        .and_then(|rest| rest.rsplit_once(") = "));
    if let Some((_, digits)) = tagged {
        return digits;
    }
    match line.split_once(' ') {
        // A backslash says that the name is written with escapes.
        Some((digits, name)) if name.starts_with([' ', '*']) => {
            digits.strip_prefix('\\').unwrap_or(digits)
        }
        _ => line,
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_the_hash_that_sha256sum_prints() {
        // printf abc | sha256sum
        let printed = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(printed.parse(), Ok(TokenHash::of(b"abc")));
        assert_eq!(
            printed.to_ascii_uppercase().parse(),
            Ok(TokenHash::of(b"abc"))
        );
        assert_eq!(TokenHash::of(b"abc").to_string(), printed);
        for line in [
            format!("{printed}  -"),
            format!("{printed}  -\n"),
            format!(" {printed} *token.txt"),
            format!("{printed}  my token"),
            format!("\\{printed}  a\\nb"),
            format!("SHA256 (-) = {printed}"),
            format!("SHA256 (a) = b) = {printed}"),
        ] {
            assert_eq!(line.parse(), Ok(TokenHash::of(b"abc")), "{line:?}");
        }
        assert!(bool::from(TokenHash::of(b"abc").is(&TokenHash::of(b"abc"))));
        assert!(!bool::from(
            TokenHash::of(b"abc").is(&TokenHash::of(b"abd"))
        ));
    }

    #[test]
    fn what_is_no_hash_is_not_repeated() {
        for text in [
            "",
            "abc",
            "my-secret-token",
            &"g".repeat(64),
            &"a".repeat(63),
            &"a".repeat(65),
            &"é".repeat(32),
            "my-secret-token  -",
            "SHA256 (my-secret) = token",
            &format!("{} file", "a".repeat(64)),
        ] {
            let error = text.parse::<TokenHash>().unwrap_err();
            assert!(
                text.is_empty() || !error.to_string().contains(text),
                "{error}"
            );
        }
    }
}
