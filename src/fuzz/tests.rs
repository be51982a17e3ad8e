use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::*;

type Target = (&'static str, fn(&[u8]), u64);

/// Each target with how often each of its seeds is changed.
const TARGETS: [Target; 11] = [
    ("connector_file", connector_file, 60),
    ("formats", formats, 300),
    ("grpc_frame", grpc_frame, 300),
    ("http_json", http_json, 300),
    ("json_reply", json_reply, 60),
    ("number", number, 300),
    ("path", path, 300),
    ("phone_field", phone_field, 300),
    ("redis_url", redis_url, 300),
    ("redis_value", redis_value, 300),
    ("settings", settings, 60),
];

/// As large as the largest connector file, and as a look-up.
const LONGEST: usize = 64 << 10;

/// What no input may take, on a slow machine and without optimisation.
const LONGEST_TIME: Duration = Duration::from_secs(5);

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let directory = fuzz_directory().join("corpus").join(target);
    let files = fs::read_dir(directory).expect("the corpus is in tests/fuzz/corpus");
    let mut seeds: Vec<(String, Vec<u8>)> = files
        .map(|file| {
            let file = file.unwrap().path();
            (file.display().to_string(), fs::read(&file).unwrap())
        })
        .collect();
    seeds.sort();
    seeds
}

/// The time that this thread has worked, whatever else the machine does.
pub(crate) fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.try_into().unwrap(),
        time.tv_nsec.try_into().unwrap(),
    )
}

/// Runs one target over its corpus and over mutations of it.
fn run(name: &str) {
    let mut failures = Vec::new();
    let (_, target, mutations) = TARGETS
        .into_iter()
        .find(|(known, ..)| *known == name)
        .unwrap();
    let seeds = corpus(name);
    assert!(seeds.len() >= 4, "{name} has {} seeds", seeds.len());
    for (file, seed) in &seeds {
        let inputs = (0..mutations).map(|n| (n, mutated(seed, LONGEST, n)));
        for (n, input) in [(u64::MAX, seed.clone())].into_iter().chain(inputs) {
            let shown = || {
                format!(
                    "{file}, mutation {n}: {:?}",
                    String::from_utf8_lossy(&input[..input.len().min(4_000)])
                )
            };
            let begun = worked();
            let run = std::panic::catch_unwind(|| target(&input));
            let time = worked().saturating_sub(begun);
            if run.is_err() || time > LONGEST_TIME {
                failures.push(format!("{time:?} {}", shown()));
                break;
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

macro_rules! every_input_is_read_or_refused {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            super::run(stringify!($target));
        })*

        #[test]
        fn each_target_is_run_and_has_a_binary_for_cargo_fuzz() {
            let run = [$(stringify!($target)),*];
            assert_eq!(super::TARGETS.map(|(name, ..)| name), run);
            let manifest = std::fs::read_to_string(super::fuzz_directory().join("Cargo.toml")).unwrap();
            let binaries = manifest.lines().filter_map(|line| line.strip_prefix("name = \""));
            let binaries: Vec<_> = binaries.skip(1).filter_map(|line| line.strip_suffix('"')).collect();
            assert_eq!(binaries, run);
        }
    };
}

mod every_input_is_read_or_refused {
    every_input_is_read_or_refused! {
        connector_file formats grpc_frame http_json json_reply number path phone_field redis_url redis_value settings
    }
}
