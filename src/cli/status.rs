//! `contactd status`: the figures of the status page in a terminal.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use clap::ValueEnum;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::client::variable;
use super::{Failure, say, show, words};
use crate::clock;

/// The operations port of a daemon with the default settings.
const OPS: &str = "http://127.0.0.1:9464";

/// How long each page may take.
const LIMIT: Duration = Duration::from_secs(5);

/// The largest page that is read.
const MOST: usize = 8 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct StatusArgs {
    /// The address of the daemon's operations port: ops.listen in its settings. Without it, the
    /// variable CONTACTD_OPS is used. [default: http://127.0.0.1:9464]
    #[arg(long, value_name = "URL")]
    ops: Option<String>,
    /// How to print the figures.
    #[arg(long, value_enum, default_value = "human")]
    output: StatusOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StatusOutput {
    /// For people.
    Human,
    /// The daemon's /status.json.
    Json,
}

impl StatusOutput {
    fn path(self) -> &'static str {
        match self {
            Self::Human => "/status.txt",
            Self::Json => "/status.json",
        }
    }
}

pub(super) async fn run(args: StatusArgs) -> Result<ExitCode, Failure> {
    let variable = || variable("CONTACTD_OPS")?.into_string().ok();
    let ops = args.ops.or_else(variable);
    let base = base(ops.as_deref().unwrap_or(OPS))?;
    let (status, figures) = get(&base, args.output.path()).await?;
    if status != StatusCode::OK {
        return Err(anyhow!(
            "{base} is not the operations port of contactd: it answers {status}\n  \
             The operations port is ops.listen in the daemon's settings; give its address with --ops or CONTACTD_OPS. \
             grpc.listen is another port."
        )
        .into());
    }
    show(String::from_utf8_lossy(&figures).trim_end())?;
    show("\n")?;
    // The exit code is decided by `/readyz`, as a load balancer sees it.
    let (ready, _) = get(&base, "/readyz").await?;
    if ready == StatusCode::OK {
        return Ok(ExitCode::SUCCESS);
    }
    say("contactd: the daemon is not ready for calls: it is stopping");
    Ok(ExitCode::FAILURE)
}

/// The URL without a path. A scheme that was left out is http.
fn base(ops: &str) -> Result<String, Failure> {
    let url = if ops.contains("://") {
        ops.to_owned()
    } else {
        format!("http://{ops}")
    };
    let uri = url.parse::<Uri>().ok();
    let authority = uri
        .as_ref()
        .filter(|uri| uri.scheme_str() == Some("http"))
        .and_then(Uri::authority);
    authority
        .map(|authority| format!("http://{authority}"))
        .ok_or_else(|| {
            Failure::Misused(format!(
                "--ops {ops:?} is not a URL such as http://127.0.0.1:9464"
            ))
        })
}

/// The status and the content of a page.
async fn get(base: &str, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let url: Uri = format!("{base}{path}").parse().context("no URL")?;
    let client: Client<HttpConnector, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build_http();
    let page = async {
        let response = client.get(url).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST).collect().await;
        let body = body.map_err(|error| anyhow!(error))?;
        anyhow::Ok((status, body.to_bytes()))
    };
    let page = clock::timeout(LIMIT, page).await;
    let page = page.ok_or_else(|| anyhow!("no answer within {}s", LIMIT.as_secs()));
    page.and_then(|page| page).map_err(|error| {
        anyhow!(
            "no figures from {base}: {}\n  \
             Is `contactd serve` running, and is this its ops.listen (--ops or CONTACTD_OPS)?",
            words(error.root_cause())
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_port_may_lack_its_scheme_and_have_a_path() {
        for (text, url) in [
            ("127.0.0.1:9464", "http://127.0.0.1:9464"),
            ("http://[::1]:9/status.json", "http://[::1]:9"),
            ("ops.example", "http://ops.example"),
        ] {
            assert_eq!(base(text).unwrap(), url);
        }
        for text in ["", "https://a", "http://", "a b"] {
            assert!(base(text).is_err(), "{text:?}");
        }
    }
}
