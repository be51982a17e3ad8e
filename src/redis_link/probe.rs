//! Tests whether Redis permits the commands in use, when a connection is made.
//!
//! Lists the commands in use, and what each is needed for. A [`Shortfall`] names every refused
//! command: Redis does not know it, its user may not use it, or Redis takes no writes. Leaves no
//! key behind. On a cluster one node answers for all. Knows nothing else of the modules that send
//! the commands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use futures_util::future::join_all;
use redis::{Cmd, RedisResult, Script, cmd};

use super::KeyNames;
use super::connect::RedisConnection;
use super::refusal::{self, ErrorClass};
use crate::clock;

static IN_SCRIPTS: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("probe.lua")));

/// The features that need each command.
const USES: [(&str, &[&str]); 7] = [
    ("reading stored answers", &["GET", "MGET"]),
    (
        "storing answers and verified credentials",
        &[
            "EVALSHA",
            "SCRIPT LOAD",
            "TIME",
            "GET",
            "SET",
            "PTTL",
            "PEXPIRE",
            "ZADD",
            "ZREMRANGEBYSCORE",
        ],
    ),
    (
        "one load for all replicas",
        &[
            "EVALSHA",
            "SCRIPT LOAD",
            "TIME",
            "GET",
            "SET",
            "PEXPIRE",
            "ZADD",
            "ZREM",
            "ZREMRANGEBYSCORE",
            "DEL",
        ],
    ),
    (
        "deleting a user's data",
        &["EVALSHA", "SCRIPT LOAD", "DEL", "ZREM", "ZRANGE", "ZCARD"],
    ),
    (
        "informing other replicas of invalidations",
        &[
            "EVALSHA",
            "SCRIPT LOAD",
            "TIME",
            "DEL",
            "HGET",
            "HMGET",
            "HSET",
            "HSETNX",
            "HINCRBY",
            "PEXPIRE",
            "XADD",
            "XRANGE",
            "XREVRANGE",
            "ZADD",
            "ZCOUNT",
            "ZREMRANGEBYSCORE",
            "ZSCORE",
        ],
    ),
    ("noticing that Redis came back with older data", &["INFO"]),
    (
        "sharing quotas",
        &[
            "EVALSHA",
            "SCRIPT LOAD",
            "TIME",
            "HDEL",
            "HGET",
            "HGETALL",
            "HINCRBY",
            "HMGET",
            "HSET",
            "PTTL",
            "PEXPIRE",
            "ZADD",
            "ZCARD",
            "ZRANGE",
            "ZREM",
            "ZREMRANGEBYSCORE",
            "ZSCORE",
        ],
    ),
];

/// The commands in use that Redis refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shortfall {
    /// By the code of the refusal.
    refused: BTreeMap<&'static str, Vec<&'static str>>,
}

impl Shortfall {
    fn of(refused: Vec<Refusal>) -> Option<Self> {
        let mut by_code: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (command, code) in refused {
            let commands = by_code.entry(code).or_default();
            if !commands.contains(&command) {
                commands.push(command);
            }
        }
        (!by_code.is_empty()).then_some(Self { refused: by_code })
    }

    /// Whether answers and quotas are shared all the same. Some hosted services restrict `INFO`.
    pub(super) fn is_bearable(&self) -> bool {
        self.refused.values().flatten().all(|name| *name == "INFO")
    }

    /// The features that do not work because of it.
    pub(super) fn without(&self) -> String {
        let refused: Vec<_> = self.refused.values().flatten().collect();
        let hit = |commands: &[&str]| commands.iter().any(|command| refused.contains(&command));
        let uses: Vec<_> = USES
            .iter()
            .filter(|(_, commands)| hit(commands))
            .map(|(name, _)| *name)
            .collect();
        uses.join(", ")
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (code, commands)) in self.refused.iter().enumerate() {
            write!(
                f,
                "{}{code}: {}",
                if n == 0 { "" } else { "; " },
                commands.join(" ")
            )?;
        }
        Ok(())
    }
}

/// Tries every command in use, each step within `patience`.
///
/// # Errors
/// Errors that say nothing about a command, such as a broken connection; `None` if an answer came
/// too late.
pub(super) async fn shortfall(
    connection: &mut RedisConnection,
    names: &KeyNames,
    patience: Duration,
) -> Option<RedisResult<Option<Shortfall>>> {
    let keys = ["s", "z", "h", "x"].map(|kind| names.shared(&["{probe}", kind]));
    let mut refused = match clock::timeout(patience, refused_alone(connection, &keys)).await? {
        Ok(refused) => refused,
        Err(error) => return Some(Err(error)),
    };
    if refused.iter().all(|(name, _)| *name != "SCRIPT LOAD") {
        match clock::timeout(patience, refused_in_script(connection, &keys)).await? {
            Ok(more) => refused.extend(more),
            Err(error) => return Some(Err(error)),
        }
    }
    Some(Ok(Shortfall::of(refused)))
}

/// A refused command, and the code.
type Refusal = (&'static str, &'static str);

/// Tries the commands that are sent outside of scripts.
async fn refused_alone(
    connection: &RedisConnection,
    keys: &[String; 4],
) -> RedisResult<Vec<Refusal>> {
    // All at once, which takes one round trip.
    let tried = alone(keys).into_iter().map(|(name, command)| {
        let mut connection = connection.clone();
        async move { (name, command.exec_async(&mut connection).await) }
    });
    let mut refused = Vec::new();
    for (name, tried) in join_all(tried).await {
        match tried.map_err(|error| (refusal::classify(&error), error)) {
            Ok(()) => {}
            Err((Some(ErrorClass::Refused(code)), _)) => refused.push((name, code)),
            Err((_, error)) => return Err(error),
        }
    }
    Ok(refused)
}

/// Tries the commands that scripts use.
async fn refused_in_script(
    connection: &mut RedisConnection,
    keys: &[String; 4],
) -> RedisResult<Vec<Refusal>> {
    let mut call = IN_SCRIPTS.prepare_invoke();
    for key in keys {
        call.key(key);
    }
    match call.invoke_async::<Vec<String>>(connection).await {
        Ok(replies) => Ok(replies.chunks_exact(2).filter_map(in_script).collect()),
        Err(error) => match refusal::classify(&error) {
            Some(ErrorClass::Refused(code)) => Ok(vec![("EVALSHA", code)]),
            _ => Err(error),
        },
    }
}

/// A key to read in order to see whether keys are served.
pub(super) fn key(names: &KeyNames) -> String {
    names.shared(&["{probe}", "s"])
}

/// The commands that are sent outside of scripts.
fn alone(keys: &[String; 4]) -> Vec<(&'static str, Cmd)> {
    let [text, set, ..] = keys;
    let with = |name: &str, args: &[&str]| {
        let mut command = cmd(name);
        command.arg(args);
        command
    };
    vec![
        ("GET", with("GET", &[text])),
        ("MGET", with("MGET", &[text])),
        ("SET", with("SET", &[text, "x", "PX", "1000"])),
        ("ZREM", with("ZREM", &[set, "y"])),
        ("DEL", with("DEL", &[text])),
        (
            "SCRIPT LOAD",
            with("SCRIPT", &["LOAD", include_str!("probe.lua")]),
        ),
    ]
}

fn used(name: &str) -> Option<&'static &'static str> {
    let mut commands = USES.iter().flat_map(|(_, commands)| *commands);
    commands.find(|command| **command == name)
}

fn in_script(pair: &[String]) -> Option<Refusal> {
    let command = used(&pair[0])?;
    let (code, text) = pair[1].split_once(' ').unwrap_or((&pair[1], ""));
    Some((command, refusal::read(code, text)))
}
