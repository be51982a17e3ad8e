//! A Redis that is there and refuses: what is found out at connect, what is tried again, how often.

use std::time::Duration;

use contactd::cache::InvalidationLog;
use contactd::clock::{Stopwatch, sleep};
use contactd::redis_link::{Link, LinkError};
use redis::Script;

use super::{begin, entry, key, load};
use crate::faults::loopback;
use crate::support::chaos::ChaosProxy;
use crate::support::eventually;
use crate::support::ports::free_port;
use crate::support::redis::{RedisServer, config, data, link_with, tier_on};

/// The rule that operators are given.
const RULE: &str = include_str!("../../../deploy/redis.acl");

/// The words of the rule behind `user contactd`.
pub(crate) fn rule() -> Vec<&'static str> {
    let line = RULE
        .lines()
        .find(|line| line.starts_with("user contactd "))
        .unwrap();
    line.split_whitespace().skip(2).collect()
}

/// The commands that the rule permits.
fn permitted() -> Vec<&'static str> {
    rule()
        .into_iter()
        .filter_map(|word| word.strip_prefix('+'))
        .collect()
}

pub(crate) fn set_user(server: &RedisServer, words: &[&str]) {
    server.run::<()>(&[&["ACL", "SETUSER", "contactd", "reset"], words].concat());
}

pub(crate) fn url(server: &RedisServer) -> String {
    server.url().replace("://", "://contactd:CHANGE-ME@")
}

/// The commands in the scripts of `text`.
fn in_scripts(text: &str) -> Vec<String> {
    let calls = ["call('", "try('"]
        .into_iter()
        .flat_map(|call| text.split(call).skip(1));
    calls
        .filter_map(|rest| Some(rest.split_once('\'')?.0.to_ascii_lowercase()))
        .collect()
}

#[test]
fn every_command_of_a_script_is_in_the_documented_rule() {
    let mut scripts = Vec::new();
    let mut folders = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src"
    ))];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                scripts.push(std::fs::read_to_string(&path).unwrap());
            }
        }
    }
    let used: std::collections::BTreeSet<String> =
        scripts.iter().flat_map(|text| in_scripts(text)).collect();
    assert!(used.len() > 15, "{used:?}");
    let missing: Vec<_> = used
        .iter()
        .filter(|command| !permitted().contains(&command.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "add {missing:?} to deploy/redis.acl, src/redis_link/probe.lua and the list of src/redis_link/probe.rs"
    );
}

async fn is_told(
    up: &prometheus_client::metrics::gauge::Gauge,
    link: &Link,
    expected: bool,
    why: &str,
) {
    eventually(why, || link.is_up()).await;
    eventually(why, || (up.get() == 1) == expected).await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn under_the_documented_rule_everything_is_permitted_and_each_part_of_it_is_missed() {
    let server = RedisServer::start().await;
    set_user(&server, &rule());
    let (link, up) = link_with(&config(&url(&server)));
    is_told(&up, &link, true, "the rule suffices").await;
    assert!(load(&tier_on(link), &key("u", 1), &entry("Ann", 1)).await);
    for command in permitted() {
        // Without the first one nobody knows whether Redis answers. The second one has its own
        // test.
        if ["ping", "info"].contains(&command) {
            continue;
        }
        let denied = format!("-{command}");
        set_user(&server, &[&rule()[..], &[denied.as_str()]].concat());
        let (link, up) = link_with(&config(&url(&server)));
        is_told(&up, &link, false, command).await;
        sleep(Duration::from_millis(20)).await;
        assert_eq!(up.get(), 0, "{command}");
    }
    set_user(&server, &rule());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_service_that_restricts_info_shares_answers_all_the_same() {
    let server = RedisServer::start().await;
    set_user(&server, &[&rule()[..], &["-info"]].concat());
    let (link, up) = link_with(&config(&url(&server)));
    is_told(&up, &link, true, "without INFO").await;
    let mut reader = InvalidationLog::new(link.clone()).reader();
    let data = reader.poll().await.unwrap().time.data;
    assert!(data.is_some());
    assert_eq!(reader.poll().await.unwrap().time.data, data);
    assert!(load(&tier_on(link), &key("u", 1), &entry("Ann", 1)).await);
    set_user(&server, &rule());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_key_pattern_that_is_not_ours_is_found_out_and_a_rule_that_is_mended_as_well() {
    let server = RedisServer::start().await;
    let elsewhere: Vec<_> = rule()
        .into_iter()
        .map(|word| {
            if word.starts_with('~') {
                "~other:*"
            } else {
                word
            }
        })
        .collect();
    set_user(&server, &elsewhere);
    let (link, up) = link_with(&config(&url(&server)));
    is_told(&up, &link, false, "no key is permitted").await;
    set_user(&server, &rule());
    is_told(&up, &link, true, "all keys are permitted now").await;
    set_user(&server, &elsewhere);
    assert!(begin(&tier_on(link.clone()), &key("u", 1)).await.is_err());
    is_told(&up, &link, false, "no key is permitted any more").await;
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_command_that_redis_does_not_know_breaks_no_connection() {
    for command in ["EVALSHA", "SCRIPT", "MGET", "PTTL", "XADD"] {
        let server = RedisServer::with(&["--rename-command", command, ""]).await;
        let proxy = ChaosProxy::before(loopback(server.port)).await;
        let (link, up) = link_with(&config(&format!("redis://{}", proxy.addr)));
        is_told(&up, &link, false, command).await;
        let (tier, watch) = (tier_on(link.clone()), Stopwatch::start());
        let mut asked = 0;
        while watch.elapsed() < Duration::from_millis(1500) {
            let _ = begin(&tier, &key("u", 1)).await;
            let _ = tier
                .get_many(key("u", 1).user(), &[key("u", 1)], data())
                .await;
            asked += 1;
        }
        assert!(
            asked > 100 && proxy.accepted() <= 8,
            "{command}: {} connections for {asked}",
            proxy.accepted()
        );
        assert!(link.is_up());
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn connections_that_break_again_and_again_are_replaced_at_a_distance() {
    let server = RedisServer::start().await;
    let proxy = ChaosProxy::before(loopback(server.port)).await;
    let (link, _) = link_with(&config(&format!("redis://{}", proxy.addr)));
    let watch = Stopwatch::start();
    while watch.elapsed() < Duration::from_secs(3) {
        if link.query::<()>(redis::cmd("PING")).await.is_ok() {
            proxy.hang_up();
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert!(
        (6..=20).contains(&proxy.accepted()),
        "{} connections in three seconds",
        proxy.accepted()
    );
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_refused_write_leads_to_the_server_that_the_name_has_now() {
    let (old, new) = (RedisServer::start().await, RedisServer::start().await);
    let proxy = ChaosProxy::before(loopback(old.port)).await;
    let links = [(); 2].map(|()| link_with(&config(&format!("redis://{}", proxy.addr))));
    for (link, up) in &links {
        is_told(up, link, true, "both are on the old one").await;
    }
    old.run::<()>(&["REPLICAOF", "127.0.0.1", &new.port.to_string()]);
    proxy.leads_to(loopback(new.port));
    let watch = Stopwatch::start();
    for (n, (link, up)) in (0..).zip(&links) {
        let tier = tier_on(link.clone());
        eventually("it writes again", || true).await;
        while begin(&tier, &key("u", n)).await.is_err() {
            assert!(
                watch.elapsed() < Duration::from_secs(5),
                "still on the old one"
            );
            sleep(Duration::from_millis(20)).await;
        }
        is_told(up, link, true, "on the new one").await;
    }
    assert!(new.keys().iter().any(|key| key.contains(":a:")));
    assert!(proxy.accepted() <= 6, "{} connections", proxy.accepted());
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_full_or_read_only_redis_is_not_up_until_it_takes_writes_again() {
    let server = RedisServer::start().await;
    let proxy = ChaosProxy::before(loopback(server.port)).await;
    let (link, up) = link_with(&config(&format!("redis://{}", proxy.addr)));
    is_told(&up, &link, true, "it is sound").await;
    let script = Script::new("return redis.call('SET', KEYS[1], 'x', 'PX', 1000)");
    let port = free_port().to_string();
    let (full, free) = (
        ["CONFIG", "SET", "maxmemory", "1"],
        ["CONFIG", "SET", "maxmemory", "0"],
    );
    let (follow, lead) = (
        ["REPLICAOF", "127.0.0.1", &port],
        ["REPLICAOF", "NO", "ONE"],
    );
    let (starve, feed) = (
        ["CONFIG", "SET", "min-replicas-to-write", "1"],
        ["CONFIG", "SET", "min-replicas-to-write", "0"],
    );
    for (code, fault, remedy) in [
        ("OOM", &full[..], &free[..]),
        ("READONLY", &follow, &lead),
        ("NOREPLICAS", &starve, &feed),
    ] {
        let before = proxy.accepted();
        server.run::<()>(fault);
        let refused = link
            .script::<()>(&script, &["contactd:x".to_owned()], &[])
            .await;
        assert_eq!(refused, Err(LinkError::Failed(code.to_owned())));
        is_told(&up, &link, false, code).await;
        let watch = Stopwatch::start();
        while watch.elapsed() < Duration::from_secs(1) {
            assert!(
                link.script::<()>(&script, &["contactd:x".to_owned()], &[])
                    .await
                    .is_err()
            );
            assert_eq!(up.get(), 0, "{code}");
        }
        assert!(
            proxy.accepted() - before <= 6,
            "{code}: {} connections",
            proxy.accepted() - before
        );
        server.run::<()>(remedy);
        is_told(&up, &link, true, code).await;
        assert_eq!(
            link.script::<()>(&script, &["contactd:x".to_owned()], &[])
                .await,
            Ok(())
        );
    }
}

#[tokio::test]
#[ignore = "needs redis-server: tests/run gets it"]
async fn a_reply_of_another_form_is_unexpected_and_no_refusal() {
    let server = RedisServer::start().await;
    let (link, up) = link_with(&config(&server.url()));
    is_told(&up, &link, true, "it is sound").await;
    let pong = link.query::<u64>(redis::cmd("PING")).await;
    assert_eq!(pong, Err(LinkError::Unexpected));
    assert!(link.is_up());
    let shown = LinkError::Unexpected.to_string();
    assert_eq!(shown, "Redis sent an unexpected reply");
}
