//! What stands above the tree: state, step, weight, images, and what the rollout waits for.
//!
//! Pure. The rows below it are in [`super::rows`].

use jiff::Timestamp;

use crate::cli::style::{Detail, Line, Tone};
use crate::cli::words;
use crate::pb::v1;
use v1::rollout_spec::Strategy;

/// Columns of a label and the blanks after it.
const LABEL: usize = 12;

/// The header's lines.
pub(super) fn lines(tree: &v1::RolloutTree, now: Timestamp, detail: Detail) -> Vec<Line> {
    let missing = v1::Rollout::default();
    let rollout = tree.rollout.as_ref().unwrap_or(&missing);
    let status = rollout.status.clone().unwrap_or_default();
    let mut header = Header::default();
    header.add("Name", words::short_name(&rollout.name));
    header.add("Namespace", words::namespace(&rollout.name));
    header.line("State", state(&status));
    if let Some(time) = &rollout.delete_time {
        header.add("Deletion", &format!("asked for {} ago", words::age(Some(time), now)));
    }
    header.add("Strategy", strategy(rollout));
    if let Some(step) = step(tree) {
        header.add("Step", &step);
    }
    if is_canary(rollout) {
        header.add("Weight", &weight(tree));
    }
    if let Some(workload) = &tree.workload {
        header.add("Template", &template_of(workload));
    }
    header.all("Images", images(tree));
    header.add("Pods", &pods(rollout, &status));
    header.all("Services", services(tree));
    if let Some(labelling) = &tree.pod_labelling {
        header.add("Labels", &labels(labelling));
    }
    if detail == Detail::Wide {
        wide(&mut header, tree, rollout, &status, now);
    }
    for (index, blocker) in tree.blockers.iter().enumerate() {
        let label = if index == 0 { "Waiting" } else { "" };
        header.line(label, Line::default().with(Tone::Held, waits_for(blocker, now)));
    }
    header.0
}

#[derive(Default)]
struct Header(Vec<Line>);

impl Header {
    /// A line, unless there is nothing to say.
    fn add(&mut self, label: &str, text: &str) {
        if !text.is_empty() {
            self.line(label, Line::default().with(Tone::Plain, words::one_line(text)));
        }
    }

    /// A line for each text; the label stands in the first.
    fn all(&mut self, label: &str, texts: Vec<String>) {
        for (index, text) in texts.into_iter().enumerate() {
            self.add(if index == 0 { label } else { "" }, &text);
        }
    }

    fn line(&mut self, label: &str, rest: Line) {
        let label = if label.is_empty() { String::new() } else { format!("{label}:") };
        self.0.push(Line::default().with(Tone::Label, format!("{label:LABEL$}")).then(rest));
    }
}

/// What only the wide form tells.
fn wide(
    header: &mut Header,
    tree: &v1::RolloutTree,
    rollout: &v1::Rollout,
    status: &v1::RolloutStatus,
    now: Timestamp,
) {
    let hashes = [("new", &status.current_pod_hash), ("stable", &status.stable_pod_hash)];
    let known = hashes.iter().filter(|(_, hash)| !hash.is_empty());
    header
        .add("Hashes", &known.map(|(role, hash)| format!("{hash} ({role})")).collect::<Vec<_>>().join(", "));
    let seen = status.observed_generation;
    header.add("Generation", &format!("{}, the controller saw {seen}", rollout.generation));
    header.add("Etag", &rollout.etag);
    let current = status.current_step_index;
    let steps = tree.steps.iter().map(|step| {
        let mark = match current {
            Some(current) if step.index < current => "(done)",
            Some(current) if step.index == current => "(now)",
            _ => "",
        };
        format!("{} {} {mark}", step.index, step.description)
    });
    header.all("Steps", steps.collect());
    let conditions = status.conditions.iter().map(|condition| {
        let since = words::age(condition.transition_time.as_ref(), now);
        let (kind, value, reason) = (&condition.r#type, &condition.status, &condition.reason);
        format!("{kind}={value} for {since}, {reason}: {}", condition.message)
    });
    header.all("Conditions", conditions.collect());
}

fn state(status: &v1::RolloutStatus) -> Line {
    let word = words::state(status.state);
    let line = Line::default().with(Tone::of_state(&word), word);
    let message = words::one_line(&status.message);
    if message.is_empty() { line } else { line.with(Tone::Plain, format!("  {message}")) }
}

/// Where the pod template is, when it is not the rollout's own.
fn template_of(workload: &v1::WorkloadSummary) -> String {
    let v1::WorkloadSummary { kind, name, exists, replicas, .. } = workload;
    match (exists, kind.as_str()) {
        (false, _) => format!("{kind} {name}, which does not exist"),
        (true, "PodTemplate") => format!("{kind} {name}"),
        (true, _) => format!("{kind} {name}, of which {replicas} pods are wanted"),
    }
}

fn strategy(rollout: &v1::Rollout) -> &'static str {
    match rollout.spec.as_ref().and_then(|spec| spec.strategy.as_ref()) {
        Some(Strategy::Canary(_)) => "canary",
        Some(Strategy::BlueGreen(_)) => "blue-green",
        None => "",
    }
}

fn is_canary(rollout: &v1::Rollout) -> bool {
    matches!(rollout.spec.as_ref().and_then(|spec| spec.strategy.as_ref()), Some(Strategy::Canary(_)))
}

/// `1/4 (pause: 10m)`: the index of the current step, counted from 0 as everywhere in the API, so that `4/4` is the end.
pub(in crate::cli) fn step(tree: &v1::RolloutTree) -> Option<String> {
    let status = tree.rollout.as_ref()?.status.as_ref()?;
    let current = status.current_step_index?;
    if status.step_count == 0 {
        return None;
    }
    let description = match tree.steps.iter().find(|step| step.index == current) {
        Some(step) => words::one_line(&step.description),
        None if current == status.step_count => "all done".to_owned(),
        None => return Some(format!("{current}/{}", status.step_count)),
    };
    Some(format!("{current}/{} ({description})", status.step_count))
}

/// `20%`, or `10%, going to 20%`.
pub(super) fn weight(tree: &v1::RolloutTree) -> String {
    let (actual, desired) = (tree.actual_weight, tree.desired_weight);
    if actual == desired { format!("{actual}%") } else { format!("{actual}%, going to {desired}%") }
}

/// The images of the versions that have pods or want some, newest first.
fn images(tree: &v1::RolloutTree) -> Vec<String> {
    let sets = tree.revisions.iter().filter_map(|revision| revision.replica_set.as_ref());
    let alive = sets.filter(|set| set.desired_replicas > 0 || set.replicas > 0);
    let named = alive.flat_map(|set| {
        let role = words::role(set.role);
        let suffix = if role.is_empty() { String::new() } else { format!(" ({role})") };
        set.images.iter().map(move |image| format!("{image}{suffix}"))
    });
    named.collect()
}

fn pods(rollout: &v1::Rollout, status: &v1::RolloutStatus) -> String {
    // Kubernetes' default; the message leaves unset what the manifest left unset.
    let desired = rollout.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let v1::RolloutStatus { replicas, updated_replicas, ready_replicas, available_replicas, .. } = status;
    format!(
        "{desired} desired, {replicas} current, {updated_replicas} updated, {ready_replicas} ready, \
         {available_replicas} available"
    )
}

fn services(tree: &v1::RolloutTree) -> Vec<String> {
    let line = |service: &v1::ServiceSummary| {
        let hash = if service.pod_template_hash.is_empty() { "nothing" } else { &service.pod_template_hash };
        format!("{} ({}) selects {hash}", service.name, service.role)
    };
    tree.services.iter().map(line).collect()
}

/// What pods are given, and how many have it.
fn labels(labelling: &v1::PodLabelling) -> String {
    let v1::PodLabelling { pods, labelled_pods, status_label, status_label_is_own } = labelling;
    let count = format!("{labelled_pods}/{pods} pods labelled");
    match (status_label.as_str(), status_label_is_own) {
        ("", _) => count,
        (key, false) => format!("{key}, {count}"),
        (key, true) => format!("{key} is the rollout's own, {count}"),
    }
}

/// What is waited for, since when, what happens next, and when.
fn waits_for(blocker: &v1::Blocker, now: Timestamp) -> String {
    let mut text = what(blocker);
    if blocker.since_time.is_some() {
        text += &format!(" (for {})", words::age(blocker.since_time.as_ref(), now));
    }
    let next = words::one_line(&blocker.next);
    match words::moment(blocker.next_time.as_ref()) {
        Some(at) => text += &format!("; next, in {}: {next}", words::span(at.duration_since(now))),
        None if !next.is_empty() => text += &format!("; next: {next}"),
        None => {}
    }
    text
}

/// What is waited for: the object, where it is another than the rollout, and the sentence.
pub(super) fn what(blocker: &v1::Blocker) -> String {
    let message = words::one_line(&blocker.message);
    let message = if message.is_empty() { words::one_line(&blocker.condition) } else { message };
    match &blocker.object {
        // A sentence that names its object need not be told whose it is.
        Some(object) if object.kind != "Rollout" && !message.contains(&object.name) => {
            format!("{} {}: {message}", object.kind, object.name)
        }
        _ => message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_tells_where_it_goes_while_it_moves() {
        let tree = |actual_weight, desired_weight| v1::RolloutTree {
            actual_weight,
            desired_weight,
            ..v1::RolloutTree::default()
        };
        assert_eq!(
            (weight(&tree(20, 20)), weight(&tree(10, 20))),
            ("20%".into(), "10%, going to 20%".into())
        );
    }

    #[test]
    fn pods_that_are_labelled_are_counted() {
        let labelling = v1::PodLabelling { pods: 300, labelled_pods: 120, ..v1::PodLabelling::default() };
        assert_eq!(labels(&labelling), "120/300 pods labelled");
        let labelling = v1::PodLabelling { status_label: "argo-rollouts-status".to_owned(), ..labelling };
        assert_eq!(labels(&labelling), "argo-rollouts-status, 120/300 pods labelled");
        let labelling = v1::PodLabelling { status_label_is_own: true, ..labelling };
        assert_eq!(labels(&labelling), "argo-rollouts-status is the rollout's own, 120/300 pods labelled");
    }

    #[test]
    fn a_blocker_without_a_sentence_shows_its_condition_and_a_past_moment_is_now() {
        let blocker = v1::Blocker {
            condition: "status.replicas 3/0".to_owned(),
            object: Some(v1::ObjectReference {
                kind: "ReplicaSet".to_owned(),
                name: "web-1".to_owned(),
                ..v1::ObjectReference::default()
            }),
            next: "tried again".to_owned(),
            next_time: Some(prost_types::Timestamp { seconds: 5, nanos: 0 }),
            ..v1::Blocker::default()
        };
        let now = Timestamp::from_second(60).unwrap();
        assert_eq!(
            waits_for(&blocker, now),
            "ReplicaSet web-1: status.replicas 3/0; next, in 0s: tried again"
        );
    }
}
