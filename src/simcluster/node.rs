//! The simulated nodes: names, addresses, and which are lost.
//!
//! Depends on nothing but time as a value. Nodes are not API objects here; pods only name them. The ReplicaSet
//! controller and the scheduler place pods on them, the kubelet asks whether they still run.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;

use jiff::Timestamp;

/// As many as show that pods are spread, and leave two when one is lost.
const NODE_COUNT: u8 = 3;

/// Whether a node runs its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeState {
    /// It does.
    Up,
    /// It has not been heard of since this moment.
    Lost(Timestamp),
    /// No node of ours; somebody else may run it.
    Foreign,
}

/// All nodes of the cluster.
#[derive(Debug)]
pub(super) struct Nodes {
    names: Vec<String>,
    lost: Mutex<BTreeMap<String, Timestamp>>,
}

impl Nodes {
    pub(super) fn new() -> Self {
        let names = (1..=NODE_COUNT).map(|number| format!("sim-node-{number}")).collect();
        Self { names, lost: Mutex::new(BTreeMap::new()) }
    }

    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// The node for the `ordinal`th pod, taking those that run in turn; none when all are lost.
    pub(super) fn place(&self, ordinal: u64) -> Option<String> {
        let lost = self.lost();
        let up: Vec<&String> = self.names.iter().filter(|name| !lost.contains_key(*name)).collect();
        let index = usize::try_from(ordinal % up.len().max(1) as u64).expect("less than the number of nodes");
        up.get(index).map(|name| (*name).clone())
    }

    pub(super) fn state(&self, name: &str) -> NodeState {
        if let Some(since) = self.lost().get(name) {
            return NodeState::Lost(*since);
        }
        if self.names.iter().any(|known| known == name) { NodeState::Up } else { NodeState::Foreign }
    }

    /// The node's own address, which its pods report as `hostIP`.
    pub(super) fn address(&self, name: &str) -> Option<Ipv4Addr> {
        let index = self.names.iter().position(|known| known == name)?;
        let last = u8::try_from(index).ok()?.checked_add(1)?;
        Some(Ipv4Addr::new(192, 168, 0, last))
    }

    /// Marks a node as lost; whether there is such a node.
    pub(super) fn lose(&self, name: &str, now: Timestamp) -> bool {
        let known = self.names.iter().any(|known| known == name);
        if known {
            self.lost().entry(name.to_owned()).or_insert(now);
        }
        known
    }

    /// Takes a lost node back; whether there is such a node.
    pub(super) fn restore(&self, name: &str) -> bool {
        self.lost().remove(name);
        self.names.iter().any(|known| known == name)
    }

    fn lost(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Timestamp>> {
        self.lost.lock().expect("no holder of this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_placed_on_running_nodes_in_turn() {
        let nodes = Nodes::new();
        let place = |ordinals: std::ops::Range<u64>| -> Vec<String> {
            ordinals.filter_map(|ordinal| nodes.place(ordinal)).collect()
        };
        assert_eq!(place(0..4), ["sim-node-1", "sim-node-2", "sim-node-3", "sim-node-1"]);
        assert!(nodes.lose("sim-node-2", Timestamp::UNIX_EPOCH));
        assert_eq!(place(0..3), ["sim-node-1", "sim-node-3", "sim-node-1"]);
        assert_eq!(nodes.state("sim-node-2"), NodeState::Lost(Timestamp::UNIX_EPOCH));
        nodes.lose("sim-node-1", Timestamp::UNIX_EPOCH);
        nodes.lose("sim-node-3", Timestamp::UNIX_EPOCH);
        assert_eq!(nodes.place(0), None);
        assert!(nodes.restore("sim-node-2"));
        assert_eq!(place(0..2), ["sim-node-2", "sim-node-2"]);
    }

    #[test]
    fn unknown_nodes_are_foreign() {
        let nodes = Nodes::new();
        assert_eq!(nodes.state("elsewhere"), NodeState::Foreign);
        assert_eq!(nodes.address("elsewhere"), None);
        assert!(!nodes.lose("elsewhere", Timestamp::UNIX_EPOCH));
    }
}
