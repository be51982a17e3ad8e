//! What is said if no connection to a CRM comes about: why, and never to which host.

use std::io;
use std::net::SocketAddr;

use contactd::connector::Dns;

use crate::support::daemon::details;
use crate::support::ports::free_port;
use crate::support::{FakeCrm, TestDaemon, find};

/// Resolves the names of these tests, with the port of the URL.
fn dns() -> Dns {
    Dns::by(|name| {
        let addr = match name {
            "here.test" => Ok([127, 0, 0, 1]),
            // Nobody can connect to the address that stands for everybody.
            "nowhere.test" => Ok([255, 255, 255, 255]),
            _ => Err(io::Error::other("failed to look up nameless.test")),
        };
        async move { Ok(vec![SocketAddr::from((addr?, 0))]) }
    })
}

/// The status's message for a look-up in a CRM at this address.
async fn said(base_url: &str) -> String {
    let toml = format!("[connectors.example]\nkind = \"example\"\nbase_url = \"{base_url}\"\n");
    let daemon = TestDaemon::resolving(&toml, &dns()).await;
    let failure = daemon.find(find()).await.unwrap_err();
    assert_eq!(details(&failure).reason, "CRM_UNAVAILABLE", "{base_url}");
    failure.message().to_owned()
}

#[tokio::test]
async fn why_there_is_no_connection_is_said_without_the_host() {
    let crm = FakeCrm::with(Vec::new()).await;
    let plain = crm.addr.port();
    let free = free_port();
    for (base_url, words) in [
        (
            format!("https://here.test:{free}"),
            "the connection was refused",
        ),
        (
            "https://nameless.test".to_owned(),
            "the host name does not resolve to an address",
        ),
        (
            format!("https://here.test:{plain}"),
            "the TLS handshake failed",
        ),
        ("https://nowhere.test".to_owned(), "no connection"),
    ] {
        let said = said(&base_url).await;
        assert_eq!(said, format!("the CRM is not available: {words}"));
    }
}
