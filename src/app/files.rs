//! Open files: how many the settings may need, and how many the system allows.

use rustix::process::{Resource, getrlimit};

use crate::config::Config;

/// Listeners, Redis, the operations port, certificates, the runtime, log and spans.
const OTHERS: u64 = 128;

/// The warning to log if there are too few.
pub(super) fn warning(config: &Config) -> Option<String> {
    let given = getrlimit(Resource::Nofile).current?;
    let (connections, loads) = (config.grpc.max_connections, config.resolver.max_loads);
    let needed = files(connections.saturating_add(loads)).saturating_add(OTHERS);
    (given < needed).then(|| {
        format!(
            "at most {given} files may be open here, and the settings may need {needed}: {connections} connections of \
             clients, {loads} to CRMs, {OTHERS} others; raise the limit (LimitNOFILE=, ulimit -n), or lower \
             grpc.max_connections or grpc.max_in_flight"
        )
    })
}

fn files(connections: usize) -> u64 {
    u64::try_from(connections).unwrap_or(u64::MAX)
}
