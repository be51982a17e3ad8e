//! The most memory that the process can take with its settings, in the worst case that clients and
//! CRMs can cause. `deploy/SECURITY.md` has the same sum and explains each part.

use crate::config::Config;
use crate::grpc;
use crate::ops;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// The program, including the metadata of all numbering plans.
const PROGRAM: u64 = 48 * MIB;

/// The patterns of numbering plans, which are compiled on first use and kept: 532 MiB were measured
/// after numbers of every kind in all regions.
const NUMBERING_PLANS: u64 = 544 * MIB;

/// What the allocator keeps for itself.
const ALLOCATOR: u64 = 48 * MIB;

/// Credentials, identities, refusals and invalidations, 100,000 of each. 185 MiB were measured,
/// with one identity per user.
const REMEMBERED: u64 = 256 * MIB;

/// The memory of one load, in multiples of `lookup.max_reply`: the reply as bytes, as JSON, which
/// is several times as large, and as an answer.
const FORMS_OF_A_REPLY: u64 = 6;

/// What each of `grpc.max_in_flight` may hold: two calls in progress, each with request and answer,
/// and one incomplete request. An incomplete request is a list of up to one MiB in a buffer that
/// doubles.
const CALL: u64 = 512 * KIB + 2 * MIB;

/// A batch of 10,000 numbers.
const JOB: u64 = 4 * MIB;

/// A connection's unread bytes, and its own state.
const CONNECTION: u64 = 320 * KIB;

/// A health stream.
const OPEN_STREAM: u64 = 12 * KIB;

/// A reflection stream, with its request.
const REFLECTION: u64 = 128 * KIB;

/// A connection of the operations port, with its page.
const OPERATIONS: u64 = 256 * KIB;

/// The sum in bytes.
pub(super) fn bytes(config: &Config) -> u64 {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let loads = count(config.resolver.max_loads).saturating_mul(FORMS_OF_A_REPLY);
    let connection = CONNECTION + count(grpc::HEALTH_STREAMS) * OPEN_STREAM;
    let parts = [
        PROGRAM,
        NUMBERING_PLANS,
        config.memory.bytes.saturating_mul(2),
        loads.saturating_mul(count(config.limits.reply_bytes)),
        count(config.grpc.max_in_flight).saturating_mul(CALL),
        count(config.grpc.max_prefetch_jobs).saturating_mul(JOB),
        count(config.grpc.max_connections).saturating_mul(connection),
        count(grpc::REFLECTIONS).saturating_mul(REFLECTION),
        count(ops::CONNECTIONS).saturating_mul(OPERATIONS),
        REMEMBERED,
        ALLOCATOR,
    ];
    parts.into_iter().fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_is_the_sum_that_the_security_page_states() {
        let text = "[grpc]\nmax_in_flight = 16\nmax_prefetch_jobs = 2\nmax_connections = 64\n[cache]\n\
                    memory = \"8MiB\"\n[lookup]\nmax_reply = \"256KiB\"\n\
                    [connectors.pipedrive]\nkind = \"pipedrive\"\n";
        let config = crate::config::read(text, []).unwrap().config;
        let expected = 48
            + 544
            + 2 * 8
            + 2 * 16 * 6 / 4
            + 16 * 5 / 2
            + 4 * 2
            + 64 / 2
            + 16 / 8
            + 64 / 4
            + 256
            + 48;
        assert_eq!(bytes(&config), expected * MIB);
        let page = include_str!("../../deploy/SECURITY.md");
        for row in [
            "  48 MiB  ",
            "+ 544 MiB  ",
            "+ 2    x cache.memory  ",
            "+ 2    x grpc.max_in_flight x 6 x lookup.max_reply  ",
            "+ 2.5 MiB x grpc.max_in_flight  ",
            "+ 4 MiB   x grpc.max_prefetch_jobs  ",
            "+ 512 KiB x grpc.max_connections  ",
            "+ 18 MiB  ",
            "+ 256 MiB  ",
            "+ 48 MiB  ",
        ] {
            assert!(page.contains(row), "{row}");
        }
    }

    #[test]
    fn the_settings_for_a_small_machine_fit_into_the_limit_that_the_runbook_names() {
        let connector = "[connectors.pipedrive]\nkind = \"pipedrive\"\n";
        let ceiling = |text: &str| {
            let settings = crate::config::read(&format!("{text}{connector}"), []);
            bytes(&settings.unwrap().config)
        };
        let page = include_str!("../../deploy/RUNBOOK.md");
        let (_, memory) = page.split_once("### Memory").unwrap();
        let (memory, _) = memory.split_once("### Redis").unwrap();
        let (_, example) = memory.split_once("```toml\n").unwrap();
        let (example, _) = example.split_once("```").unwrap();
        assert!(memory.contains("MemoryMax=1600M") && memory.contains("1554 MiB"));
        assert_eq!(ceiling(example) / MIB, 1554);
        assert!(memory.contains("MemoryMax=1G"));
        assert!(include_str!("../../deploy/systemd/contactd.service").contains("MemoryMax=1G"));
        assert!(memory.contains("about 53 GiB"));
        assert_eq!((ceiling("") + 512 * MIB) / (1024 * MIB), 53);
    }

    #[test]
    fn settings_without_measure_have_a_ceiling_without_measure() {
        let text = "[cache]\nmemory = \"16EiB\"\n[connectors.pipedrive]\nkind = \"pipedrive\"\n";
        if let Ok(effective) = crate::config::read(text, []) {
            assert_eq!(bytes(&effective.config), u64::MAX);
        }
    }
}
