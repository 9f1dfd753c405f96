//! The kinds that take part in garbage collection, and how each is reached.
//!
//! Depends on `kube`'s types; does no I/O but for [`Kinds::resolve`], which asks discovery about kinds that
//! nobody watches. Custom kinds come and go with their definitions.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use kube::Client;
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{self, Scope};
use serde::Deserialize;

use super::graph::Kind;
use crate::simcluster::request::{Refusal, SyncError};

/// A kind whose watch does not come about holds up foreground deletion for this long.
const SYNC_PATIENCE: Duration = Duration::from_secs(10);

/// How objects of a kind are reached.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Served {
    pub(super) resource: ApiResource,
    pub(super) scope: Scope,
}

impl Served {
    pub(super) fn kind(&self) -> Kind {
        Kind { api_version: self.resource.api_version.clone(), kind: self.resource.kind.clone() }
    }
}

/// The kinds that are watched.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    watched: Mutex<BTreeMap<(String, String), Watched>>,
}

#[derive(Debug)]
struct Watched {
    served: Served,
    synced: bool,
    since: Timestamp,
}

impl Kinds {
    /// A watch of this kind has been started.
    pub(super) fn add(&self, served: Served, now: Timestamp) {
        let key = (served.resource.group.clone(), served.resource.kind.clone());
        self.watched().insert(key, Watched { served, synced: false, since: now });
    }

    /// Its objects have all been listed once.
    pub(super) fn synced(&self, kind: &Kind) {
        if let Some(watched) = self.watched().get_mut(&key(kind)) {
            watched.synced = true;
        }
    }

    /// It is not watched any longer.
    pub(super) fn remove(&self, kind: &Kind) {
        self.watched().remove(&key(kind));
    }

    /// Whether absence from the graph means anything yet.
    pub(super) fn all_synced(&self, now: Timestamp) -> bool {
        let given_up = |since: Timestamp| since.checked_add(SYNC_PATIENCE).is_ok_and(|until| until <= now);
        self.watched().values().all(|watched| watched.synced || given_up(watched.since))
    }

    /// How to reach objects of a kind that some reference names.
    pub(super) async fn resolve(&self, client: &Client, kind: &Kind) -> Result<Served, SyncError> {
        if let Some(watched) = self.watched().get(&key(kind)) {
            return Ok(watched.served.clone());
        }
        let (group, version) = kind.api_version.split_once('/').unwrap_or(("", &kind.api_version));
        match discovery::pinned_kind(client, &GroupVersionKind::gvk(group, version, &kind.kind)).await {
            Ok((resource, capabilities)) => Ok(Served { resource, scope: capabilities.scope }),
            Err(error)
                if matches!(error, kube::Error::Discovery(_)) || Refusal::of(&error) == Refusal::NotFound =>
            {
                Err(SyncError::UnknownKind { api_version: kind.api_version.clone(), kind: kind.kind.clone() })
            }
            Err(error) => Err(error.into()),
        }
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<(String, String), Watched>> {
        self.watched.lock().expect("no holder of this lock panics")
    }
}

fn key(kind: &Kind) -> (String, String) {
    (kind.group().to_owned(), kind.kind.clone())
}

/// What matters of a CustomResourceDefinition; its schemas, which are large, are not kept.
#[derive(Clone, Debug, Deserialize)]
struct Definition {
    spec: DefinitionSpec,
    #[serde(default)]
    status: DefinitionStatus,
}

#[derive(Clone, Debug, Deserialize)]
struct DefinitionSpec {
    group: String,
    names: Names,
    scope: String,
    versions: Vec<Version>,
}

#[derive(Clone, Debug, Deserialize)]
struct Names {
    kind: String,
    plural: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Version {
    name: String,
    served: bool,
    storage: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct DefinitionStatus {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// The kind that a CustomResourceDefinition (without its metadata) defines, once it is served.
pub(super) fn defined(definition: &serde_json::Value) -> Option<Served> {
    let definition = Definition::deserialize(definition).ok()?;
    let established = |condition: &Condition| condition.kind == "Established" && condition.status == "True";
    if !definition.status.conditions.iter().any(established) {
        return None;
    }
    let DefinitionSpec { group, names, scope, versions } = definition.spec;
    let served = || versions.iter().filter(|version| version.served);
    let version = served().find(|version| version.storage).or_else(|| served().next())?;
    let gvk = GroupVersionKind::gvk(&group, &version.name, &names.kind);
    let scope = if scope == "Cluster" { Scope::Cluster } else { Scope::Namespaced };
    Some(Served { resource: ApiResource::from_gvk_with_plural(&gvk, &names.plural), scope })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition(versions: &serde_json::Value, established: &str) -> serde_json::Value {
        json!({
            "spec": {
                "group": "example.com",
                "names": { "kind": "Thing", "plural": "things" },
                "scope": "Namespaced",
                "versions": versions,
            },
            "status": { "conditions": [{ "type": "Established", "status": established }] },
        })
    }

    #[test]
    fn the_stored_version_is_watched_if_it_is_served_else_another() {
        for (versions, expected) in [
            (
                json!([
                    { "name": "v1", "served": true, "storage": false },
                    { "name": "v2", "served": true, "storage": true },
                ]),
                Some("example.com/v2"),
            ),
            (
                json!([
                    { "name": "v1", "served": true, "storage": false },
                    { "name": "v2", "served": false, "storage": true },
                ]),
                Some("example.com/v1"),
            ),
            (json!([{ "name": "v1", "served": false, "storage": true }]), None),
        ] {
            let served = defined(&definition(&versions, "True"));
            assert_eq!(served.map(|served| served.resource.api_version).as_deref(), expected, "{versions}");
        }
    }

    #[test]
    fn a_definition_that_is_not_established_or_malformed_defines_nothing() {
        let versions = json!([{ "name": "v1", "served": true, "storage": true }]);
        assert_eq!(defined(&definition(&versions, "False")), None);
        assert_eq!(defined(&json!({ "spec": {} })), None);
        assert_eq!(defined(&json!("text")), None);
    }

    #[test]
    fn a_kind_that_never_syncs_is_waited_for_only_so_long() {
        let kinds = Kinds::default();
        let served =
            defined(&definition(&json!([{ "name": "v1", "served": true, "storage": true }]), "True"))
                .unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(kinds.all_synced(at(0)));
        kinds.add(served.clone(), at(0));
        assert!(!kinds.all_synced(at(9)));
        assert!(kinds.all_synced(at(10)));
        kinds.synced(&served.kind());
        assert!(kinds.all_synced(at(1)));
    }
}
