//! App Connect's `proxyConfig`, read as the same tree.

use super::super::tree::{Fault, Node, of_json};

pub(super) fn translated(source: &str) -> Result<Node, Vec<Fault>> {
    of_json(source).map(|(node, _)| node)
}
