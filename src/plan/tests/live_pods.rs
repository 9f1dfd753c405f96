//! Pods one by one, as far as their labels and annotations matter: they are born with what their set's template has, and plans change
//! them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::world::World;
use crate::plan::{Metadata, Pod, PodAction, ReplicaSet, Wanted};

#[derive(Default)]
pub(super) struct LivePods {
    by_set: BTreeMap<String, Vec<Pod>>,
    /// How many were ever created, and written to.
    count: u64,
}

impl LivePods {
    /// As many as the set's status says.
    pub(super) fn follow(&mut self, set: &ReplicaSet) {
        let pods = self.by_set.entry(set.uid.clone()).or_default();
        let wanted = usize::try_from(set.status.replicas).unwrap();
        pods.truncate(wanted);
        while pods.len() < wanted {
            self.count += 1;
            let name = format!("{}-{}", set.name, self.count);
            let marks = Arc::new(Metadata::of_template(&set.template));
            let resource_version = self.count.to_string();
            pods.push(Pod {
                uid: name.clone(),
                name,
                resource_version,
                set: set.uid.clone(),
                marks,
                ..Pod::default()
            });
        }
    }

    pub(super) fn all(&self) -> Vec<Pod> {
        self.by_set.values().flatten().cloned().collect()
    }

    pub(super) fn of(&self, set: &ReplicaSet) -> &[Pod] {
        self.by_set.get(&set.uid).map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn have_what_they_should<'a>(&self, mut sets: impl Iterator<Item = &'a ReplicaSet>) -> bool {
        sets.all(|set| {
            let pods = self.of(set).iter().map(|pod| &*pod.marks);
            Wanted::of(set).is_none_or(|wanted| wanted.is_met_by(set, pods))
        })
    }

    /// Somebody else changes all of them.
    pub(super) fn relabel(&mut self, change: impl Fn(&mut Metadata)) {
        for pod in self.by_set.values_mut().flatten() {
            change(Arc::make_mut(&mut pod.marks));
        }
    }

    /// A pod's write changes labels and annotations, and nothing else.
    pub(super) fn write(&mut self, action: &PodAction) {
        let pod = self.by_set.values_mut().flatten().find(|pod| pod.name == action.pod).unwrap();
        assert_eq!(action.version, pod.version(), "decided on an old version");
        let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&action.patch), ["metadata"]);
        let mut marks = (*pod.marks).clone();
        for field in keys(&action.patch["metadata"]) {
            let map = match &*field {
                "labels" => &mut marks.labels,
                "annotations" => &mut marks.annotations,
                _ => panic!("a pod's {field} is none of ours"),
            };
            for (key, value) in action.patch["metadata"][&field].as_object().unwrap() {
                match value.as_str() {
                    Some(value) => map.insert(key.clone(), value.to_owned()),
                    None => map.remove(key),
                };
            }
        }
        assert_ne!(marks, *pod.marks, "nothing changes");
        self.count += 1;
        pod.resource_version = self.count.to_string();
        pod.marks = Arc::new(marks);
    }
}

impl World {
    /// At rest live pods are as if they had been born now: nobody else labels them here.
    pub(super) fn check_labels(&self) {
        for set in self.sets.values() {
            for pod in self.live.of(set) {
                assert_eq!(
                    *pod.marks,
                    Metadata::of_template(&set.template),
                    "{} of {:?}",
                    pod.name,
                    set.annotations
                );
            }
        }
    }
}
