//! A tree in one line, for where there is no screen to draw on.
//!
//! Pure, and without ages: it changes when the rollout does, so that «one line per change» is what it says.

use super::header;
use crate::cli::words;
use crate::pb::v1;

/// The tree in one line: state and message, step, weight, pods by revision, and what it waits for.
#[must_use]
pub fn summary(tree: &v1::RolloutTree) -> String {
    let missing = v1::Rollout::default();
    let rollout = tree.rollout.as_ref().unwrap_or(&missing);
    let status = rollout.status.clone().unwrap_or_default();
    let mut parts = Vec::new();

    let message = words::one_line(&status.message);
    let state = format!("{} {}", words::short_name(&rollout.name), words::state(status.state))
        .trim_start()
        .to_owned();
    parts.push(if message.is_empty() { state } else { format!("{state} ({message})") });
    if let Some(step) = header::step(tree) {
        parts.push(format!("step {step}"));
        parts.push(format!("weight {}", header::weight(tree)));
    }
    let sets: Vec<String> = tree.revisions.iter().filter_map(pods).collect();
    parts.push(if sets.is_empty() { "no pods".to_owned() } else { format!("pods {}", sets.join(", ")) });
    if let Some(first) = tree.blockers.first() {
        let more = match tree.blockers.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        parts.push(format!("waiting: {}{more}", header::what(first)));
    }
    parts.join(" | ")
}

/// `revision 2 canary 1/1`; nothing for a version that has no pods and wants none.
fn pods(revision: &v1::RevisionTree) -> Option<String> {
    let set = revision.replica_set.as_ref()?;
    if set.desired_replicas == 0 && set.replicas == 0 {
        return None;
    }
    let role = words::role(set.role);
    let space = if role.is_empty() { "" } else { " " };
    let (available, desired) = (set.available_replicas, set.desired_replicas);
    Some(format!("revision {}{space}{role} {available}/{desired}", revision.revision))
}
