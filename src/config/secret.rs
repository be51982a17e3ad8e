//! Secrets from a file or from a variable of the environment.

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use super::files;
use super::section::Section;

/// How a secret is written in the settings.
pub(super) const SECRET: &str = "{ file = \"/path\" } or { env = \"NAME\" }";

/// The secret of this section, from its `file` or `env`.
pub(super) fn secret(section: &mut Section<'_>) -> Option<SecretString> {
    let file = files::secrets(section, "file", files::secret_text);
    let variable = section.optional("env", variable);
    if let Some(variable) = &variable {
        section.record_content("env", variable.hash());
    }
    match (file, variable) {
        (Some(file), None) => Some(file.content),
        (None, Some(variable)) => Some(variable.secret),
        (None, None) => None,
        (Some(_), Some(_)) => {
            section.fault("env", "cannot be set together with file");
            None
        }
    }
}

/// A variable of the environment. Only its name is shown.
struct SecretVariable {
    name: String,
    secret: SecretString,
}

impl SecretVariable {
    fn hash(&self) -> blake3::Hash {
        blake3::hash(self.secret.expose_secret().as_bytes())
    }
}

impl std::fmt::Display for SecretVariable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the settings name the variable of a secret, which is read with them"
)]
fn variable(name: &str) -> Result<SecretVariable, String> {
    // The name is not repeated, because it may be the secret itself, in the wrong place.
    let value = std::env::var(name);
    let value = value.map_err(|_| "names a variable that is not set, or not text")?;
    let value = Zeroizing::new(value);
    if value.trim().is_empty() {
        return Err("names a variable that is empty".to_owned());
    }
    Ok(SecretVariable {
        name: name.to_owned(),
        secret: value.trim().into(),
    })
}
