//! ListRevisions, GetRevision and DiffRevisions: the versions of a rollout that are kept, from the cached ReplicaSets.
//!
//! Each ReplicaSet with a revision number is one revision. A version that came back has had other numbers before; it is found by
//! those too, as undoing finds it.

use std::sync::Arc;

use super::super::convert::{json_to_struct, timestamp};
use super::super::difference;
use super::super::error::Error;
use super::super::kind::ROLLOUT;
use super::super::name;
use super::super::page::Page;
use super::super::status::Reason;
use super::Rollouts;
use super::read::view;
use super::rollback::former_revisions;
use super::summary;
use super::tree::role;
use crate::pb::v1;
use crate::plan::{Observed, ReplicaSet, revision};
use crate::store::Key;
use v1::replica_set_summary::Role;

impl Rollouts {
    /// ListRevisions.
    pub(super) fn list_revisions(
        &self,
        request: &v1::ListRevisionsRequest,
    ) -> Result<v1::ListRevisionsResponse, Error> {
        let key = name::rollout(&request.parent, "parent")?;
        let view = view(request.view, v1::View::Basic)?;
        let binding = [request.parent.as_str(), view.as_str_name()];
        let page = Page::read(request.page_size, &request.page_token, &binding)?;
        let kept = self.revisions(&key)?;
        let after = page.after.as_ref().and_then(|after| after.name.parse().ok()).unwrap_or(i64::MAX);
        let rest: Vec<&Arc<ReplicaSet>> = kept.sets.iter().filter(|set| set.revision() < after).collect();
        let shown: Vec<_> = rest.iter().take(page.size).map(|set| kept.show(set, view)).collect();
        let last = shown.last().map(|revision| Key::new("", revision.revision.to_string()));
        let next_page_token = page.next(rest.len(), shown.len(), last.as_ref());
        Ok(v1::ListRevisionsResponse { revisions: shown, next_page_token })
    }

    /// GetRevision.
    pub(super) fn get_revision(
        &self,
        request: &v1::GetRevisionRequest,
    ) -> Result<v1::GetRevisionResponse, Error> {
        let (key, number) = name::revision(&request.name, "name")?;
        let view = view(request.view, v1::View::Full)?;
        let kept = self.revisions(&key)?;
        Ok(v1::GetRevisionResponse { revision: Some(kept.show(kept.find(number)?, view)) })
    }

    /// DiffRevisions.
    pub(super) fn diff_revisions(
        &self,
        request: &v1::DiffRevisionsRequest,
    ) -> Result<v1::DiffRevisionsResponse, Error> {
        let key = name::rollout(&request.name, "name")?;
        for (field, number) in
            [("from_revision", request.from_revision), ("to_revision", request.to_revision)]
        {
            if number < 0 {
                return Err(Error::field(field, format!("{number} is negative")));
            }
        }
        let kept = self.revisions(&key)?;
        let from = match request.from_revision {
            0 => kept.stable()?,
            number => kept.find(number)?,
        };
        let to = match request.to_revision {
            0 => kept.sets.first().ok_or_else(|| kept.missing(Wanted::Newest))?,
            number => kept.find(number)?,
        };
        let (old, new) = (revision::stripped(from), revision::stripped(to));
        let label = |set: &ReplicaSet| format!("revision {} ({})", set.revision(), set.hash());
        Ok(v1::DiffRevisionsResponse {
            changes: difference::changes(&old, &new),
            unified_diff: difference::unified((&label(from), Some(&old)), (&label(to), Some(&new))),
        })
    }

    /// The revisions of a rollout, newest first.
    fn revisions(&self, key: &Key) -> Result<Revisions, Error> {
        self.context.require_ready()?;
        let store = &self.context.store;
        let not_found = || Error::not_found(ROLLOUT.named(&key.namespace, &key.name));
        let record = store.rollouts.get(key).ok_or_else(not_found)?;
        let uid = kube::Resource::meta(&*record).uid.as_deref().unwrap_or_default();
        let records = store.sets.controlled_by(uid);
        let mut sets: Vec<Arc<ReplicaSet>> = records.iter().map(|record| Arc::clone(&record.set)).collect();
        sets.retain(|set| !set.terminating && set.revision() > 0);
        sets.sort_by_key(|set| std::cmp::Reverse(set.revision()));
        Ok(Revisions { key: key.clone(), sets, seen: store.observe(key) })
    }
}

struct Revisions {
    key: Key,
    /// Newest first.
    sets: Vec<Arc<ReplicaSet>>,
    /// `None` for a rollout that cannot be decoded: then it is not known what its sets are to it.
    seen: Option<Observed>,
}

impl Revisions {
    /// The set of a revision, by the number that it has, or else by one that it had.
    fn find(&self, number: i64) -> Result<&Arc<ReplicaSet>, Error> {
        let now = self.sets.iter().find(|set| set.revision() == number);
        let formerly = || self.sets.iter().find(|set| former_revisions(set).any(|former| former == number));
        now.or_else(formerly).ok_or_else(|| self.missing(Wanted::Number(number)))
    }

    fn stable(&self) -> Result<&Arc<ReplicaSet>, Error> {
        let hash = self.seen.as_ref().map(|seen| seen.rollout.status().stable_rs()).unwrap_or_default();
        let stable = self.sets.iter().find(|set| !hash.is_empty() && set.hash() == hash);
        stable.ok_or_else(|| self.missing(Wanted::Stable))
    }

    fn missing(&self, wanted: Wanted) -> Error {
        let kept: Vec<&ReplicaSet> = self.sets.iter().map(AsRef::as_ref).collect();
        not_kept(&self.key, &kept, wanted)
    }

    fn show(&self, set: &ReplicaSet, view: v1::View) -> v1::Revision {
        let role = self.seen.as_ref().map_or(Role::Unspecified, |seen| {
            let revisions = revision::classify(seen).ok();
            role(seen, revisions.as_ref(), set)
        });
        let summary = summary::replica_set(set, role, Vec::new());
        let rollout = ROLLOUT.named(&self.key.namespace, &self.key.name).name;
        v1::Revision {
            name: format!("{rollout}/revisions/{}", set.revision()),
            revision: set.revision(),
            former_revisions: former_revisions(set).collect(),
            pod_template_hash: summary.pod_template_hash,
            role: summary.role,
            images: summary.images,
            create_time: Some(timestamp(set.created)),
            replicas: summary.desired_replicas,
            available_replicas: summary.available_replicas,
            template: if view == v1::View::Full { json_to_struct(&revision::stripped(set)) } else { None },
        }
    }
}

/// Which revision is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// That of a number.
    Number(i64),
    /// The one before the newest.
    Previous,
    /// The newest.
    Newest,
    /// The one that is stable.
    Stable,
}

/// A revision that is not kept.
pub(super) fn not_kept(key: &Key, kept: &[&ReplicaSet], wanted: Wanted) -> Error {
    let there: Vec<String> = kept.iter().map(|set| set.revision().to_string()).collect();
    let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
    let (number, what) = match wanted {
        Wanted::Number(number) => (number, format!("there is no revision {number}")),
        Wanted::Previous => (0, "there is no revision before the newest".to_owned()),
        Wanted::Newest => (0, "there is no revision yet".to_owned()),
        Wanted::Stable => (0, "no revision is stable".to_owned()),
    };
    let mut resource = ROLLOUT.named(&key.namespace, &key.name);
    resource.kind = "rolloutd.dev/Revision";
    resource.name = format!("{}/revisions/{number}", resource.name);
    let error = Error::new(Reason::RevisionNotFound, format!("{what}; kept revisions: {there}"));
    error.about(resource).with("revisions", there)
}
