//! `contactd tls init`: an authority, certificates and a token, and the settings that use them.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret as _, SecretString};

use super::files::{self, Audience, NewFile};
use super::issue::{Authority, Pair};
use crate::clients::TokenHash;
use crate::clock::{Clock as _, SystemClock};

/// Random bytes of a token: nobody guesses 2^256.
const TOKEN_BYTES: usize = 32;

#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// The directory for the files. It is created if it is not there.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A name or an address by which clients reach the daemon; can be repeated.
    #[arg(
        long = "name",
        value_name = "HOST",
        default_values = ["localhost", "127.0.0.1", "::1"],
        value_parser = host
    )]
    names: Vec<String>,
    /// What the daemon's log calls the client.
    #[arg(long, value_name = "NAME", default_value = "my-client", value_parser = client_name)]
    client: String,
    /// Make a client certificate too. The daemon then requires one from everybody.
    #[arg(long)]
    client_certificate: bool,
    /// How many days the certificates are valid. The authority is valid for ten years.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

/// A DNS name, also one such as `*.example.com`, or an address.
fn host(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    ServerName::try_from(name)
        .map(|_| text.to_owned())
        .map_err(|_| "expected a DNS name or an IP address, without a port".to_owned())
}

/// A name that needs no escapes in TOML, a certificate or a shell.
fn client_name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !text.is_empty() && text.len() <= 64 && text.chars().all(is_plain) {
        Ok(text.to_owned())
    } else {
        Err("expected up to 64 letters, digits, points, dashes and underscores".to_owned())
    }
}

/// Writes the files and returns the settings.
pub(super) fn run(args: &InitArgs) -> anyhow::Result<String> {
    let authority = Authority::new(SystemClock::start().wall())?;
    let server = authority.server(&args.names, args.days)?;
    let token = token()?;
    let mut new = pair(["ca.pem", "ca-key.pem"], authority.pair());
    new.extend(pair(["server.pem", "server-key.pem"], server));
    if args.client_certificate {
        let client = authority.client(&args.client, args.days)?;
        new.extend(pair(["client.pem", "client-key.pem"], client));
    }
    let hash = TokenHash::of(token.expose_secret().as_bytes());
    new.push(secret("token", token));
    let directory = files::write(&args.directory, &new)?;
    Ok(args.settings(&directory, hash) + &args.client_variables(&directory)?)
}

impl InitArgs {
    fn settings(&self, directory: &Path, hash: TokenHash) -> String {
        let path = |name| toml::Value::from(directory.join(name).display().to_string());
        let (cert, key) = (path("server.pem"), path("server-key.pem"));
        let mut text = format!(
            "# For the daemon's settings. The names in the certificate: {}.\n[grpc.tls]\ncert = {cert}\nkey = {key}\n",
            self.names.join(", ")
        );
        let mut known_by = format!("sha256 = \"{hash}\"");
        if self.client_certificate {
            text += &format!("client_ca = {}\n", path("ca.pem"));
            known_by += &format!("\ncertificate = \"{}\"", self.client);
        }
        text + &format!(
            "\n[[grpc.tokens]]\nname = \"{}\"\n{known_by}\n",
            self.client
        )
    }

    /// What a client needs, as a shell reads it.
    fn client_variables(&self, directory: &Path) -> anyhow::Result<String> {
        let host = self.names.first().context("no name")?;
        let host = if host.contains(':') {
            format!("[{host}]")
        } else {
            host.clone()
        };
        let mut variables = vec![
            ("CONTACTD_SERVER", format!("https://{host}:50051")),
            ("CONTACTD_CA_FILE", file(directory, "ca.pem")),
            ("CONTACTD_TOKEN_FILE", file(directory, "token")),
        ];
        if self.client_certificate {
            variables.push(("CONTACTD_CERT_FILE", file(directory, "client.pem")));
            variables.push(("CONTACTD_KEY_FILE", file(directory, "client-key.pem")));
        }
        let lines: Vec<String> = variables
            .into_iter()
            .map(|(name, value)| format!("#   export {name}={}", quoted(&value)))
            .collect();
        Ok(format!(
            "\n# For a client (or --server, --ca-file, --token-file and so on):\n{}\n#   contactd find NUMBER\n",
            lines.join("\n")
        ))
    }
}

fn file(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-:[]".contains(c);
    if text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

fn token() -> anyhow::Result<SecretString> {
    let mut bytes = [0; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random bytes: {error}"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes).into())
}

fn pair([cert, key]: [&'static str; 2], pair: Pair) -> Vec<NewFile> {
    let certificate = NewFile {
        name: cert,
        content: pair.cert.into(),
        audience: Audience::Everybody,
    };
    vec![certificate, secret(key, pair.key)]
}

fn secret(name: &'static str, content: SecretString) -> NewFile {
    NewFile {
        name,
        content,
        audience: Audience::Owner,
    }
}
