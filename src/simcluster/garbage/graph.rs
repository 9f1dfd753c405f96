//! Who owns whom.
//!
//! Pure. A [`Graph`] holds one [`Node`] for each object seen, and finds dependents by their owner's uid; each
//! change answers which objects must be looked at again. `decide` judges them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

/// An object's uid.
pub(super) type Uid = String;

/// The finalizer of an object that goes after its dependents.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object whose dependents stay.
pub(super) const ORPHAN: &str = "orphan";

/// A kind, by which requests find their path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) api_version: String,
    pub(super) kind: String,
}

impl Kind {
    /// The group, empty for the core group; the version does not tell objects apart.
    pub(super) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

/// One object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) uid: Uid,
    pub(super) kind: Kind,
    /// None for cluster-scoped objects.
    pub(super) namespace: Option<String>,
    pub(super) name: String,
    pub(super) resource_version: Option<String>,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) finalizers: Vec<String>,
    pub(super) deleting: bool,
}

impl Node {
    /// An object of `kind`, by its metadata; none if the server left out what every object has.
    pub(super) fn new(kind: &Kind, meta: &ObjectMeta) -> Option<Self> {
        Some(Self {
            uid: meta.uid.clone()?,
            kind: kind.clone(),
            namespace: meta.namespace.clone().filter(|namespace| !namespace.is_empty()),
            name: meta.name.clone()?,
            resource_version: meta.resource_version.clone(),
            owners: meta.owner_references.clone().unwrap_or_default(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        })
    }

    fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == name)
    }

    /// It waits for its dependents to go first.
    pub(super) fn awaits_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(FOREGROUND)
    }

    /// It waits for its dependents to be set free.
    pub(super) fn frees_dependents(&self) -> bool {
        self.deleting && self.has_finalizer(ORPHAN)
    }

    /// Whether `reference`, found on an object in `namespace`, means this object and not only its uid.
    pub(super) fn is_meant_by(&self, reference: &OwnerReference, namespace: Option<&str>) -> bool {
        let of_kind = Kind { api_version: reference.api_version.clone(), kind: reference.kind.clone() };
        reference.uid == self.uid
            && reference.name == self.name
            && of_kind.kind == self.kind.kind
            && of_kind.group() == self.kind.group()
            && (self.namespace.is_none() || self.namespace.as_deref() == namespace)
    }
}

/// All objects seen.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: BTreeMap<Uid, Node>,
    dependents: BTreeMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// The objects that name `uid` as an owner, sorted by uid.
    pub(super) fn dependents(&self, uid: &str) -> Vec<&Node> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| self.nodes.get(uid)).collect()
    }

    /// Takes in an object as it now is; answers what to look at.
    pub(super) fn put(&mut self, node: Node) -> Vec<Uid> {
        let uid = node.uid.clone();
        let old = self.take(&uid);
        let changed = old.as_ref().is_none_or(|old| {
            old.owners != node.owners || old.deleting != node.deleting || old.finalizers != node.finalizers
        });
        let waits = |node: &Node| node.awaits_dependents();
        let begins_to_wait = waits(&node) && !old.as_ref().is_some_and(waits);
        let has_owners = !node.owners.is_empty();
        let busy = node.awaits_dependents() || node.frees_dependents();
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        // An owner that waits may have waited for a reference that is now gone.
        let former = old.iter().flat_map(|old| &old.owners).map(|owner| owner.uid.clone());
        let mut look_at: Vec<Uid> = former.filter(|uid| self.nodes.get(uid).is_some_and(waits)).collect();
        self.nodes.insert(uid.clone(), node);
        if begins_to_wait {
            look_at.extend(self.dependents.get(&uid).into_iter().flatten().cloned());
        }
        if changed && (has_owners || busy) {
            look_at.push(uid);
        }
        look_at
    }

    /// An object is gone; answers what to look at.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let Some(old) = self.take(uid) else { return Vec::new() };
        let dependents = self.dependents.get(uid).into_iter().flatten().cloned();
        let owners = old.owners.into_iter().map(|owner| owner.uid);
        let waiting = owners.filter(|uid| self.nodes.get(uid).is_some_and(Node::awaits_dependents));
        dependents.chain(waiting).collect()
    }

    fn take(&mut self, uid: &str) -> Option<Node> {
        let old = self.nodes.remove(uid)?;
        for owner in &old.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(uid: &str, owners: &[&str]) -> Node {
        let reference = |uid: &&str| OwnerReference {
            api_version: "example.com/v1".to_owned(),
            kind: "Thing".to_owned(),
            name: format!("name-{uid}"),
            uid: (*uid).to_owned(),
            ..OwnerReference::default()
        };
        Node {
            uid: uid.to_owned(),
            kind: Kind { api_version: "example.com/v1".to_owned(), kind: "Thing".to_owned() },
            namespace: Some("ns".to_owned()),
            name: format!("name-{uid}"),
            resource_version: None,
            owners: owners.iter().map(reference).collect(),
            finalizers: Vec::new(),
            deleting: false,
        }
    }

    fn waiting(uid: &str) -> Node {
        Node { deleting: true, finalizers: vec![FOREGROUND.to_owned()], ..node(uid, &[]) }
    }

    #[test]
    fn an_owned_object_is_looked_at_when_it_appears_and_when_its_owners_change_only() {
        let mut graph = Graph::default();
        assert_eq!(graph.put(node("a", &[])), Vec::<Uid>::new());
        assert_eq!(graph.put(node("b", &["a"])), ["b"]);
        assert_eq!(
            graph.put(Node { resource_version: Some("7".to_owned()), ..node("b", &["a"]) }),
            Vec::<Uid>::new()
        );
        assert_eq!(graph.put(node("b", &["a", "c"])), ["b"]);
        assert_eq!(graph.dependents("c").len(), 1);
    }

    #[test]
    fn the_dependents_of_an_object_that_goes_are_looked_at() {
        let mut graph = Graph::default();
        graph.put(node("a", &[]));
        graph.put(node("c", &["a"]));
        graph.put(node("b", &["a"]));
        assert_eq!(graph.remove("a"), ["b", "c"]);
        assert_eq!(graph.remove("a"), Vec::<Uid>::new());
    }

    #[test]
    fn an_object_that_begins_to_wait_and_its_dependents_are_looked_at() {
        let mut graph = Graph::default();
        graph.put(node("a", &[]));
        graph.put(node("b", &["a"]));
        assert_eq!(graph.put(waiting("a")), ["b", "a"]);
        assert_eq!(graph.put(waiting("a")), Vec::<Uid>::new());
    }

    #[test]
    fn an_owner_that_waits_is_looked_at_when_a_dependent_goes_or_is_set_free() {
        let mut graph = Graph::default();
        graph.put(waiting("a"));
        graph.put(node("b", &["a"]));
        graph.put(node("c", &["a"]));
        assert_eq!(graph.remove("b"), ["a"]);
        assert_eq!(graph.put(node("c", &[])), ["a"]);
    }

    #[test]
    fn a_reference_means_an_object_by_more_than_its_uid() {
        let owner = node("a", &[]);
        let reference = node("b", &["a"]).owners.remove(0);
        assert!(owner.is_meant_by(&reference, Some("ns")));
        let later_version = OwnerReference { api_version: "example.com/v2".to_owned(), ..reference.clone() };
        assert!(owner.is_meant_by(&later_version, Some("ns")));
        assert!(!owner.is_meant_by(&reference, Some("elsewhere")));
        for wrong in [
            OwnerReference { name: "other".to_owned(), ..reference.clone() },
            OwnerReference { kind: "Other".to_owned(), ..reference.clone() },
            OwnerReference { api_version: "example.org/v1".to_owned(), ..reference.clone() },
        ] {
            assert!(!owner.is_meant_by(&wrong, Some("ns")), "{wrong:?}");
        }
        let cluster_scoped = Node { namespace: None, ..owner };
        assert!(cluster_scoped.is_meant_by(&reference, Some("ns")));
    }
}
