//! Which resources are served: the built-in ones and those that definitions add.
//!
//! Depends on [`super::resource`]. [`super::state`] keeps it in step with the stored definitions; routing, discovery
//! and OpenAPI read it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::custom;
use super::kind;
use super::object::Object;
use super::resource::{Origin, Resource};
use super::status::GroupResource;

/// An API group with its served versions, the preferred one first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) versions: Vec<String>,
}

/// The served resources.
#[derive(Clone)]
pub(crate) struct Catalog {
    resources: BTreeMap<GroupResource, Arc<Resource>>,
}

impl Catalog {
    /// The built-in resources.
    pub(crate) fn built_in() -> Self {
        let resources = kind::resources().into_iter();
        Self { resources: resources.map(|resource| (resource.id.clone(), Arc::new(resource))).collect() }
    }

    pub(crate) fn get(&self, id: &GroupResource) -> Option<&Arc<Resource>> {
        self.resources.get(id)
    }

    /// A resource under a path, if it is served in that version.
    pub(crate) fn served(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.get(&GroupResource::new(group, plural)).filter(|resource| resource.version(version).is_some())
    }

    /// Whether any resource of the group is served in this version.
    pub(crate) fn has_version(&self, group: &str, version: &str) -> bool {
        self.in_version(group, version).next().is_some()
    }

    /// Whether the server itself has resources in this group, in whatever version.
    pub(crate) fn is_built_in(&self, group: &str) -> bool {
        self.resources.iter().any(|(id, resource)| id.group == group && resource.origin == Origin::BuiltIn)
    }

    pub(crate) fn has_group(&self, group: &str) -> bool {
        self.resources.keys().any(|id| id.group == group)
    }

    /// The resources of a group in one version, by name.
    pub(crate) fn in_version<'c>(
        &'c self,
        group: &'c str,
        version: &'c str,
    ) -> impl Iterator<Item = &'c Arc<Resource>> {
        self.resources.values().filter(move |r| r.id.group == group && r.version(version).is_some())
    }

    /// All groups but the core group: built-in ones first, then those of definitions, each by name.
    pub(crate) fn groups(&self) -> Vec<Group> {
        let mut groups: BTreeMap<(bool, &str), Vec<&str>> = BTreeMap::new();
        for resource in self.resources.values().filter(|r| !r.id.group.is_empty()) {
            let key = (resource.origin == Origin::Definition, resource.id.group.as_str());
            let versions = groups.entry(key).or_default();
            for version in resource.versions.iter().filter(|v| v.served) {
                if !versions.contains(&version.name.as_str()) {
                    versions.push(&version.name);
                }
            }
        }
        let group = |(key, mut versions): ((bool, &str), Vec<&str>)| {
            versions.sort_by_key(|version| std::cmp::Reverse(custom::priority(version)));
            Group { name: key.1.to_owned(), versions: versions.into_iter().map(str::to_owned).collect() }
        };
        groups.into_iter().map(group).filter(|group| !group.versions.is_empty()).collect()
    }

    /// Serves what a definition defines; returns it. A built-in resource keeps its place.
    pub(crate) fn define(&mut self, definition: &Value) -> Option<Arc<Resource>> {
        let resource = Arc::new(custom::resource(definition));
        if self.get(&resource.id).is_some_and(|known| known.origin == Origin::BuiltIn) {
            return None;
        }
        self.resources.insert(resource.id.clone(), resource.clone());
        Some(resource)
    }

    /// Stops serving what a definition defined.
    pub(crate) fn remove(&mut self, definition: &Value) {
        let id = defined(definition);
        if self.get(&id).is_some_and(|known| known.origin == Origin::Definition) {
            self.resources.remove(&id);
        }
    }
}

/// The resource that a definition is about.
pub(crate) fn defined(definition: &Value) -> GroupResource {
    GroupResource::new(definition.text("/spec/group"), definition.text("/spec/names/plural"))
}

/// Whether objects may be created: a definition that is being deleted takes no more.
pub(crate) fn takes_objects(definition: &Value) -> bool {
    let terminating =
        |condition: &Value| condition["type"] == json!("Terminating") && condition["status"] == json!("True");
    !definition.list("/status/conditions").iter().any(terminating)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(version: &str) -> Value {
        json!({"spec": {"group": "ex.dev", "scope": "Namespaced", "names": {"plural": "gizmos", "kind": "Gizmo"},
            "versions": [{"name": version, "served": true, "storage": true}, {"name": "v1", "served": true},
                         {"name": "v0", "served": false}]}})
    }

    #[test]
    fn a_definition_adds_a_group_and_its_removal_takes_it_away() {
        let mut catalog = Catalog::built_in();
        let before = catalog.groups();
        assert!(before.iter().any(|group| group.name == "apps"));
        catalog.define(&definition("v1beta1"));
        let groups = catalog.groups();
        let expected =
            Group { name: "ex.dev".to_owned(), versions: vec!["v1".to_owned(), "v1beta1".to_owned()] };
        assert_eq!(groups.last(), Some(&expected));
        assert!(catalog.served("ex.dev", "v1", "gizmos").is_some());
        assert!(catalog.served("ex.dev", "v0", "gizmos").is_none());
        catalog.remove(&definition("v1beta1"));
        assert_eq!(catalog.groups(), before);
    }

    #[test]
    fn a_definition_cannot_replace_a_built_in_resource() {
        let mut catalog = Catalog::built_in();
        let mut pods = definition("v2");
        pods["spec"]["group"] = json!("apps");
        pods["spec"]["names"]["plural"] = json!("replicasets");
        assert!(catalog.define(&pods).is_none());
        catalog.remove(&pods);
        assert!(catalog.served("apps", "v1", "replicasets").is_some());
    }
}
