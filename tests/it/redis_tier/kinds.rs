//! The other ways to reach Redis: a socket, TLS, Sentinel.

use std::time::Duration;

use contactd::cache::RedisTier;
use contactd::clock::{self, sleep};
use contactd::redis_link::{CaCertificates, LinkConfig};

use super::{begin, entry, key, load};
use crate::support::eventually;
use crate::support::pki::Authority;
use crate::support::ports::free_port;
use crate::support::redis::{RedisServer, config, link_to, link_with, tier_on};

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_unix_socket() {
    let mut server = RedisServer::on(free_port(), &["--unixsocket", "redis.sock"]);
    server.restart().await;
    let tier = tier_on(link_to(&format!(
        "unix://{}/redis.sock",
        server.dir.path().display()
    )));
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn tls_with_an_authority_of_ones_own() {
    let port = free_port();
    let args = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        "c.pem",
        "--tls-key-file",
        "k.pem",
    ];
    let rest = ["--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", "no"];
    let mut server = RedisServer::on(free_port(), &[&args[..], &rest[..]].concat());
    let authority = Authority::new();
    let pair = authority.issue(&["localhost"], "localhost");
    let certificates = [("c.pem", pair.cert), ("k.pem", pair.key)];
    let authorities = [("ca.pem", authority.pem())];
    for (file, pem) in certificates.into_iter().chain(authorities) {
        std::fs::write(server.dir.path().join(file), pem).unwrap();
    }
    server.restart().await;

    let url = format!("rediss://localhost:{port}");
    let trusting = tier_on(
        link_with(&LinkConfig {
            ca: Some(CaCertificates::parse(authority.pem().into_bytes()).unwrap()),
            ..config(&url)
        })
        .0,
    );
    eventually_stores(&trusting).await;
    let stranger = link_to(&url);
    sleep(Duration::from_millis(500)).await;
    assert!(!stranger.is_up(), "an unknown certificate is not trusted");
}

/// A first TLS handshake in a debug build may take longer than a call may.
async fn eventually_stores(tier: &RedisTier) {
    for _ in 0..100 {
        if begin(tier, &key("u", 1)).await.is_ok() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert!(load(tier, &key("u", 1), &entry("Ann", 1)).await);
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_new_master_that_the_sentinels_elected() {
    let auth = ["--requirepass", "pw", "--masterauth", "pw"];
    let mut master = RedisServer::on(free_port(), &auth);
    master.restart().await;
    let port = master.port.to_string();
    let replica_of = [
        &auth[..],
        &[
            "--replicaof",
            "127.0.0.1",
            &port,
            "--repl-diskless-sync-delay",
            "0",
        ],
    ]
    .concat();
    let mut replica = RedisServer::on(free_port(), &replica_of);
    replica.restart().await;
    let mut sentinel = RedisServer::on(free_port(), &["sentinel.conf", "--sentinel"]);
    let settings = format!(
        "port {}\nsentinel monitor main 127.0.0.1 {port} 1\nsentinel auth-pass main pw\n\
         sentinel down-after-milliseconds main 300\nsentinel failover-timeout main 2000\n",
        sentinel.port
    );
    std::fs::write(sentinel.dir.path().join("sentinel.conf"), settings).unwrap();
    sentinel.restart().await;
    let replicas = || {
        let told: Vec<Vec<String>> = sentinel.run(&["SENTINEL", "REPLICAS", "main"]);
        told.iter().any(|fields| {
            fields
                .windows(2)
                .any(|pair| pair == ["master-link-status", "ok"])
        })
    };
    eventually("the sentinel knows the replica", replicas).await;

    let link = link_to(&format!(
        "redis+sentinel://:pw@127.0.0.1:{}/main",
        sentinel.port
    ));
    let tier = tier_on(link.clone());
    assert!(load(&tier, &key("u", 1), &entry("Ann", 1)).await);
    master.stop();
    // A read may still be tried on the connection to the old one, and the election takes its time.
    let found = async {
        while begin(&tier, &key("u", 2)).await.is_err() {
            clock::sleep(Duration::from_millis(5)).await;
        }
    };
    let found = clock::timeout(Duration::from_secs(20), found).await;
    assert!(found.is_some(), "the link has found the new master");
    assert!(load(&tier, &key("u", 2), &entry("Bob", 1)).await);
}
