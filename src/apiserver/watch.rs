//! Watches: who is told of a change, and how a watch is carried on until it ends.
//!
//! Depends on the store's changes and the selectors. [`super::state`] publishes each change to the [`Hub`];
//! [`super::stream`] turns a [`Subscription`] into the body of an answer.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::mpsc;

use super::object::Object;
use super::resource::Rules;
use super::selector::{FieldSelector, LabelSelector};
use super::status::GroupResource;
use super::store::{Change, at_revision};

/// Events that a watcher may be behind before it is closed: kube-apiserver's cacher allows a watcher about as many
/// (its channel of 10 to 1000, by resource, plus what the response buffers). The client lists and watches again.
pub(crate) const BUFFER: usize = 1024;

/// What objects a list or a watch is about.
#[derive(Clone)]
pub(crate) struct Selection {
    /// `None` for all namespaces, and for objects of cluster scope.
    pub(crate) namespace: Option<String>,
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    pub(crate) rules: Arc<dyn Rules>,
}

impl Selection {
    /// Whether an object of the resource is selected.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| object.namespace() == namespace)
            && self.labels.matches(object.labels())
            && (self.fields.is_empty()
                || self.fields.matches(|field| field_value(&*self.rules, object, field)))
    }
}

/// The value of a field that a selector may name.
pub(crate) fn field_value(rules: &dyn Rules, object: &Value, field: &str) -> String {
    match field {
        "metadata.name" => object.name().to_owned(),
        "metadata.namespace" => object.namespace().to_owned(),
        other => rules.field(object, other).unwrap_or_default(),
    }
}

/// What happened to an object, as one watcher sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// An event of a watch.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) kind: EventType,
    pub(crate) object: Arc<Value>,
}

/// The event that a change is for a watcher with this selection, if it is one: an object that comes to be selected
/// is added, one that is no longer selected is deleted.
pub(crate) fn event(change: &Change, selection: &Selection) -> Option<Event> {
    let selected =
        |object: &Option<Arc<Value>>| object.as_deref().is_some_and(|object| selection.matches(object));
    let kind = match (selected(&change.old), selected(&change.new)) {
        (false, true) => EventType::Added,
        (true, true) => EventType::Modified,
        (true, false) => EventType::Deleted,
        (false, false) => return None,
    };
    let object = match (kind, &change.old) {
        (EventType::Deleted, Some(old)) => at_revision(old, change.revision),
        _ => change.object(),
    };
    Some(Event { kind, object })
}

/// One watcher's end: first what it missed, then what comes.
pub(crate) struct Subscription {
    pub(crate) backlog: VecDeque<Event>,
    pub(crate) events: mpsc::Receiver<Event>,
}

struct Watcher {
    selection: Selection,
    /// Changes up to and including this revision are not for this watcher.
    after: u64,
    events: mpsc::Sender<Event>,
}

/// All watchers, by resource.
#[derive(Default)]
pub(crate) struct Hub {
    watchers: BTreeMap<GroupResource, Vec<Watcher>>,
}

impl Hub {
    /// Adds a watcher of changes after the revision `after`, with the events that it missed already.
    pub(crate) fn subscribe(
        &mut self,
        resource: &GroupResource,
        selection: Selection,
        after: u64,
        backlog: VecDeque<Event>,
    ) -> Subscription {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let watchers = self.watchers.entry(resource.clone()).or_default();
        watchers.retain(|watcher| !watcher.events.is_closed());
        watchers.push(Watcher { selection, after, events: sender });
        Subscription { backlog, events: receiver }
    }

    /// Tells the watchers of a change. One that does not keep up is dropped, which ends its watch.
    pub(crate) fn publish(&mut self, change: &Change) {
        let Some(watchers) = self.watchers.get_mut(&change.resource) else { return };
        watchers.retain(|watcher| {
            if change.revision <= watcher.after {
                return !watcher.events.is_closed();
            }
            match event(change, &watcher.selection) {
                Some(event) => watcher.events.try_send(event).is_ok(),
                None => !watcher.events.is_closed(),
            }
        });
    }

    /// Ends the watches of a resource that is no longer served, or served differently.
    pub(crate) fn close(&mut self, resource: &GroupResource) {
        self.watchers.remove(resource);
    }

    /// How many watches are open.
    pub(crate) fn len(&self) -> usize {
        self.watchers.values().flatten().filter(|watcher| !watcher.events.is_closed()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kind;
    use crate::apiserver::store::Store;
    use serde_json::json;

    fn pods() -> GroupResource {
        GroupResource::new("", "pods")
    }

    fn selection(labels: &str) -> Selection {
        let resource = kind::resources().into_iter().find(|r| r.id == pods()).unwrap();
        Selection {
            namespace: Some("a".to_owned()),
            labels: LabelSelector::parse(labels).unwrap(),
            fields: FieldSelector::default(),
            rules: resource.versions[0].rules.clone(),
        }
    }

    fn pod(name: &str, app: &str) -> Value {
        json!({"metadata": {"namespace": "a", "name": name, "labels": {"app": app}}})
    }

    #[test]
    fn leaving_a_selection_is_a_deletion_and_entering_it_an_addition() {
        let mut store = Store::new(10);
        let mut hub = Hub::default();
        let mut subscription =
            hub.subscribe(&pods(), selection("app=web"), store.revision(), VecDeque::new());
        for app in ["api", "web", "web2", "web"] {
            let change = store.put(&pods(), pod("x", app));
            hub.publish(&change);
        }
        let removed = store.remove(&pods(), &crate::apiserver::store::Key::new("a", "x")).unwrap();
        hub.publish(&removed);
        let mut seen = Vec::new();
        while let Ok(event) = subscription.events.try_recv() {
            seen.push(format!(
                "{} {} {}",
                event.kind.as_str(),
                event.object.text("/metadata/labels/app"),
                event.object.resource_version()
            ));
        }
        // Gone from the selection means: the last selected state, at the revision of the change.
        assert_eq!(seen, ["ADDED web 3", "DELETED web 4", "ADDED web 5", "DELETED web 6"]);
    }

    #[test]
    fn a_watcher_that_does_not_keep_up_is_closed() {
        let mut store = Store::new(10);
        let mut hub = Hub::default();
        let mut slow = hub.subscribe(&pods(), selection(""), store.revision(), VecDeque::new());
        for index in 0..=BUFFER {
            let change = store.put(&pods(), pod(&format!("p{index}"), "web"));
            hub.publish(&change);
        }
        assert_eq!(hub.len(), 0);
        let mut received = 0;
        while slow.events.try_recv().is_ok() {
            received += 1;
        }
        assert_eq!(received, BUFFER);
        assert!(slow.events.is_closed());
    }

    #[test]
    fn a_watch_from_a_later_revision_sees_only_what_follows() {
        let mut store = Store::new(10);
        let mut hub = Hub::default();
        let mut ahead = hub.subscribe(&pods(), selection(""), store.revision() + 1, VecDeque::new());
        for name in ["x", "y"] {
            let change = store.put(&pods(), pod(name, "web"));
            hub.publish(&change);
        }
        assert_eq!(ahead.events.try_recv().unwrap().object.name(), "y");
        assert!(ahead.events.try_recv().is_err());
    }
}
