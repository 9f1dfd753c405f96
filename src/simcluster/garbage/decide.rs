//! What becomes of an object, given its owners and dependents.
//!
//! Pure. The rules are those of Kubernetes' `pkg/controller/garbagecollector`: an object goes when none of its
//! owners is left, each missing one verified; an owner that is deleted in the foreground goes after the dependents
//! that block it. (A ring of objects that own each other and are deleted in the foreground waits for ever here;
//! Kubernetes cuts it open.)

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PropagationPolicy;

use super::graph::{FOREGROUND, Graph, Node, ORPHAN, Uid};

/// What is known of an owner by asking the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verified {
    /// It exists.
    Present,
    /// It exists and waits for its dependents to go.
    AwaitsDependents,
    /// It does not exist.
    Gone,
}

/// What to do with an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    /// Ask the server whether these owners exist, and decide again.
    Verify(Vec<OwnerReference>),
    /// Take these owners off it; another one keeps it.
    DropOwners(Vec<Uid>),
    /// Delete it.
    Delete(PropagationPolicy),
    /// Take it off its dependents as an owner, then take off this finalizer.
    FreeDependents,
    /// Nothing holds it any longer: take off the finalizer.
    Release,
    /// Wait for these dependents; they are looked at.
    Await(Vec<Uid>),
}

/// Decides about one object.
pub(super) fn action(graph: &Graph, node: &Node, verified: &BTreeMap<Uid, Verified>) -> Action {
    if node.frees_dependents() {
        return Action::FreeDependents;
    }
    if node.awaits_dependents() {
        return await_dependents(graph, node);
    }
    if node.deleting || node.owners.is_empty() {
        return Action::Nothing;
    }
    let mut unknown = Vec::new();
    let (mut solid, mut waiting, mut gone) = (0, Vec::new(), Vec::new());
    for reference in &node.owners {
        match owner_state(graph, node, reference, verified) {
            None => unknown.push(reference.clone()),
            Some(Verified::Present) => solid += 1,
            Some(Verified::AwaitsDependents) => waiting.push(reference.uid.clone()),
            Some(Verified::Gone) => gone.push(reference.uid.clone()),
        }
    }
    if !unknown.is_empty() {
        return Action::Verify(unknown);
    }
    match (solid, waiting.is_empty() && gone.is_empty()) {
        (0, _) if !waiting.is_empty() && !graph.dependents(&node.uid).is_empty() => {
            Action::Delete(PropagationPolicy::Foreground)
        }
        (0, _) => Action::Delete(policy(node)),
        (_, true) => Action::Nothing,
        (_, false) => Action::DropOwners([gone, waiting].concat()),
    }
}

/// What is known of an owner: by the graph, else by the server.
fn owner_state(
    graph: &Graph,
    node: &Node,
    reference: &OwnerReference,
    verified: &BTreeMap<Uid, Verified>,
) -> Option<Verified> {
    let known = graph.get(&reference.uid);
    match known.filter(|owner| owner.is_meant_by(reference, node.namespace.as_deref())) {
        Some(owner) if owner.awaits_dependents() => Some(Verified::AwaitsDependents),
        Some(_) => Some(Verified::Present),
        None => verified.get(&reference.uid).copied(),
    }
}

fn await_dependents(graph: &Graph, node: &Node) -> Action {
    let blocks = |dependent: &&Node| {
        dependent.owners.iter().any(|owner| owner.uid == node.uid && owner.block_owner_deletion == Some(true))
    };
    let blocking: Vec<&Node> = graph.dependents(&node.uid).into_iter().filter(blocks).collect();
    if blocking.is_empty() {
        return Action::Release;
    }
    Action::Await(
        blocking
            .iter()
            .filter(|dependent| !dependent.deleting)
            .map(|dependent| dependent.uid.clone())
            .collect(),
    )
}

/// A finalizer that is already on the object decides what becomes of its own dependents.
fn policy(node: &Node) -> PropagationPolicy {
    let has = |name: &str| node.finalizers.iter().any(|finalizer| finalizer == name);
    if has(ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simcluster::garbage::graph::Kind;

    fn reference(uid: &str) -> OwnerReference {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Thing".to_owned(),
            name: uid.to_owned(),
            uid: uid.to_owned(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        }
    }

    fn node(uid: &str, owners: &[&str]) -> Node {
        Node {
            uid: uid.to_owned(),
            kind: Kind { api_version: "v1".to_owned(), kind: "Thing".to_owned() },
            namespace: Some("ns".to_owned()),
            name: uid.to_owned(),
            resource_version: None,
            owners: owners.iter().map(|uid| reference(uid)).collect(),
            finalizers: Vec::new(),
            deleting: false,
        }
    }

    fn deleting(uid: &str, finalizer: &str) -> Node {
        Node { deleting: true, finalizers: vec![finalizer.to_owned()], ..node(uid, &[]) }
    }

    /// Decides about the last of `nodes`.
    fn decide(nodes: &[Node], verified: &[(&str, Verified)]) -> Action {
        let mut graph = Graph::default();
        for node in nodes {
            graph.put(node.clone());
        }
        let verified = verified.iter().map(|(uid, state)| ((*uid).to_owned(), *state)).collect();
        action(&graph, nodes.last().unwrap(), &verified)
    }

    #[test]
    fn an_object_with_a_living_owner_or_none_stays() {
        assert_eq!(decide(&[node("a", &[])], &[]), Action::Nothing);
        assert_eq!(decide(&[node("a", &[]), node("b", &["a"])], &[]), Action::Nothing);
        assert_eq!(decide(&[node("b", &["a"])], &[("a", Verified::Present)]), Action::Nothing);
    }

    #[test]
    fn a_missing_owner_is_verified_before_anything_is_deleted() {
        let orphan = [node("b", &["a"])];
        assert_eq!(decide(&orphan, &[]), Action::Verify(vec![reference("a")]));
        assert_eq!(decide(&orphan, &[("a", Verified::Gone)]), Action::Delete(PropagationPolicy::Background));
    }

    #[test]
    fn an_owner_in_another_namespace_is_no_owner() {
        let elsewhere = Node { namespace: Some("elsewhere".to_owned()), ..node("a", &[]) };
        assert_eq!(decide(&[elsewhere, node("b", &["a"])], &[]), Action::Verify(vec![reference("a")]));
    }

    #[test]
    fn one_living_owner_keeps_an_object_and_the_others_are_taken_off() {
        let waiting = deleting("w", FOREGROUND);
        let nodes = [node("a", &[]), waiting, node("b", &["gone", "a", "w"])];
        let action = decide(&nodes, &[("gone", Verified::Gone)]);
        assert_eq!(action, Action::DropOwners(vec!["gone".to_owned(), "w".to_owned()]));
    }

    #[test]
    fn the_dependents_of_a_waiting_owner_go_in_the_foreground_if_they_have_dependents() {
        let owner = deleting("a", FOREGROUND);
        assert_eq!(
            decide(&[owner.clone(), node("b", &["a"])], &[]),
            Action::Delete(PropagationPolicy::Background)
        );
        let nodes = [owner, node("c", &["b"]), node("b", &["a"])];
        assert_eq!(decide(&nodes, &[]), Action::Delete(PropagationPolicy::Foreground));
        let verified = [("a", Verified::AwaitsDependents)];
        assert_eq!(decide(&[node("b", &["a"])], &verified), Action::Delete(PropagationPolicy::Background));
    }

    #[test]
    fn a_waiting_owner_is_released_when_nothing_blocks_it() {
        let owner = deleting("a", FOREGROUND);
        assert_eq!(decide(std::slice::from_ref(&owner), &[]), Action::Release);
        let mut harmless = node("b", &["a"]);
        harmless.owners[0].block_owner_deletion = None;
        assert_eq!(decide(&[harmless, owner.clone()], &[]), Action::Release);
        let leaving = Node { deleting: true, ..node("b", &["a"]) };
        assert_eq!(decide(&[leaving, node("c", &["a"]), owner], &[]), Action::Await(vec!["c".to_owned()]));
    }

    #[test]
    fn an_owner_that_orphans_frees_its_dependents_first() {
        let owner = deleting("a", ORPHAN);
        assert_eq!(decide(&[node("b", &["a"]), owner], &[]), Action::FreeDependents);
    }

    #[test]
    fn an_object_that_is_being_deleted_is_left_alone() {
        let leaving = Node { deleting: true, ..node("b", &["a"]) };
        assert_eq!(decide(&[leaving], &[("a", Verified::Gone)]), Action::Nothing);
    }

    #[test]
    fn a_finalizer_on_the_object_decides_how_it_is_deleted() {
        for (finalizer, policy) in [
            (ORPHAN, PropagationPolicy::Orphan),
            (FOREGROUND, PropagationPolicy::Foreground),
            ("example.com/own", PropagationPolicy::Background),
        ] {
            let node = Node { finalizers: vec![finalizer.to_owned()], ..node("b", &["a"]) };
            assert_eq!(decide(&[node], &[("a", Verified::Gone)]), Action::Delete(policy));
        }
    }
}
