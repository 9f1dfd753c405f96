//! The properties of design.md, over the versions of a rollout's objects one after the other.
//!
//! Whoever records the versions says who wrote each: only our own writes can break a property. What others do, and pods that
//! fail by themselves, may make a decision wrong that was right when it was made; for a while afterwards it is judged by what
//! could be known when it was made.

use std::collections::{BTreeMap, VecDeque};

use anyhow::ensure;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use rolloutd::crd::{Rollout, Rounding, Strategy, keys};

/// How long a write may take to arrive.
const UNDER_WAY: SignedDuration = SignedDuration::from_secs(5);

/// Who wrote a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A worker of ours.
    Us,
    /// Anybody else.
    Others,
}

/// A version of one of the rollout's objects.
#[derive(Clone, Copy, Debug)]
pub enum Version<'a> {
    Rollout(&'a Rollout),
    Set(&'a ReplicaSet),
    Service(&'a Service),
    /// A ReplicaSet that is gone, by its name.
    NoSet(&'a str),
}

/// What was seen of a rollout so far.
pub struct Properties {
    /// How old what a decision was made from may be.
    memory: SignedDuration,
    now: Timestamp,
    /// Until when only the surge is judged, because others changed what sizes are decided on.
    disturbed: Option<Timestamp>,
    rollout: Option<Rollout>,
    /// Limits (most pods, least available) of the specs that the controller may act on: the last that it observed and newer ones.
    limits: Vec<(i64, i32, i32)>,
    sets: BTreeMap<String, Set>,
    /// When others made sets larger of late, and by how many pods.
    raised: VecDeque<(Timestamp, i32)>,
    /// The Service that is active, and the hash that it selects.
    active: (String, String),
    /// What promotion requires, by the specs that the controller may act on.
    required: Vec<(i64, i32)>,
    /// What outdated specs required, and when a newer one was observed: a write that was decided by them may still be on its way
    /// (seed 41008).
    was_required: VecDeque<(Timestamp, i32)>,
    /// How many of our resizes were judged by the limits, and how many were not.
    pub judged: Judged,
}

/// A resize leaves too few pods by what is known of them, or wants too many.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BeyondLimits(String);

/// How many resizes were judged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    pub judged: u64,
    /// Others had just changed what sizes are decided on, or nothing was served yet.
    pub excused: u64,
}

/// A ReplicaSet: the pods wanted of it, those that are available, and its hash.
#[derive(Default)]
struct Set {
    spec: i32,
    available: i32,
    /// What was available before, and until when.
    before: VecDeque<(Timestamp, i32)>,
    hash: String,
}

impl Set {
    /// The most that was available since then.
    fn available_since(&self, since: Timestamp) -> i32 {
        let before = self.before.iter().filter(|(until, _)| *until > since).map(|(_, available)| *available);
        before.chain([self.available]).max().unwrap_or(0)
    }
}

impl Properties {
    /// Decisions may have been made from what is as old as `memory`: nothing where nothing fails by itself.
    pub fn new(memory: SignedDuration) -> Self {
        Self {
            memory,
            now: Timestamp::UNIX_EPOCH,
            disturbed: None,
            rollout: None,
            limits: Vec::new(),
            sets: BTreeMap::new(),
            raised: VecDeque::new(),
            active: Default::default(),
            required: Vec::new(),
            was_required: VecDeque::new(),
            judged: Judged::default(),
        }
    }

    /// Checks the next version, written at `now`.
    pub fn next(&mut self, version: Version<'_>, by: By, now: Timestamp) -> anyhow::Result<()> {
        self.now = now;
        match version {
            Version::Rollout(rollout) => self.rollout(rollout, by),
            // Its pods are on their way out; nobody counts on it any more.
            Version::Set(set) if set.metadata.deletion_timestamp.is_some() => self.gone(&set.name_any(), by),
            Version::Set(set) => self.set(set, by),
            Version::Service(service) => self.service(service, by),
            Version::NoSet(name) => self.gone(name, by),
        }
    }

    fn gone(&mut self, name: &str, by: By) -> anyhow::Result<()> {
        if self.sets.remove(name).is_some_and(|set| set.spec > 0) {
            ensure!(by == By::Others, "{name} is deleted with pods wanted");
            self.disturb();
        }
        Ok(())
    }

    /// Whether there is a ReplicaSet of this version.
    pub fn has_set(&self, hash: &str) -> bool {
        self.sets.values().any(|set| set.hash == hash)
    }

    /// Whether a resize keeps to the limits by these numbers: pods wanted, and available ones that stay.
    pub fn permits(&self, before: (i32, i32), after: (i32, i32)) -> bool {
        self.check_sizes("", before, after).is_ok()
    }

    /// Others changed what sizes are decided on.
    pub fn disturb(&mut self) {
        self.disturbed = self.now.checked_add(self.memory).ok();
    }

    /// The rollout is gone.
    pub fn forget(&mut self) {
        *self = Self { judged: self.judged, ..Self::new(self.memory) };
    }

    fn rollout(&mut self, rollout: &Rollout, by: By) -> anyhow::Result<()> {
        let generation = rollout.metadata.generation.unwrap_or(0);
        let observed = rollout.status().observed_generation().unwrap_or(0);
        self.limits.retain(|(of, ..)| *of >= observed);
        self.blue_green(rollout, generation, observed);
        if self.limits.last().is_none_or(|(of, ..)| *of != generation)
            && let Some(canary) = rollout.spec.strategy.as_ref().and_then(|strategy| strategy.canary.as_ref())
        {
            let replicas = rollout.spec.replicas();
            let surge = canary.max_surge().scaled(replicas, Rounding::Up).unwrap_or(0);
            let unavailable = canary.max_unavailable().scaled(replicas, Rounding::Down).unwrap_or(0);
            let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable.min(replicas) };
            self.limits.push((generation, replicas + surge, replicas - unavailable));
        }
        let before = self.rollout.replace(rollout.clone());
        if let Some(before) = before.filter(|_| by == By::Us) {
            let steps = rollout.spec.strategy.as_ref().and_then(|strategy| strategy.canary.as_ref());
            let steps = steps.map_or(0, |canary| canary.steps().len());
            let (before, after) = (before.status(), rollout.status());
            // Somebody may have set one that does not exist.
            let existed = before
                .current_step_index
                .is_none_or(|step| usize::try_from(step).is_ok_and(|step| step <= steps && steps > 0));
            let same = existed
                && before.current_pod_hash() == after.current_pod_hash()
                && before.current_step_hash() == after.current_step_hash()
                && !before.abort()
                && !after.abort();
            ensure!(
                !same || after.current_step_index >= before.current_step_index,
                "the step went back: {before:?} -> {after:?}"
            );
        }
        Ok(())
    }

    /// What a blue-green spec requires; other strategies require nothing, and blue-green has no limits of sizes.
    fn blue_green(&mut self, rollout: &Rollout, generation: i64, observed: i64) {
        let now = self.now;
        let outdated = self.required.extract_if(.., |(of, _)| *of < observed);
        self.was_required.extend(outdated.map(|(_, required)| (now, required)));
        if let Ok(Strategy::BlueGreen(strategy)) = rollout.spec.strategy() {
            self.active.0.clone_from(&strategy.active_service);
            if self.required.last().is_none_or(|(of, _)| *of != generation) {
                self.limits.push((generation, i32::MAX, 0));
                self.required.push((generation, rollout.spec.replicas()));
            }
        }
    }

    /// The active Service never gets fewer available pods than promotion requires, unless it had fewer still.
    fn service(&mut self, service: &Service, by: By) -> anyhow::Result<()> {
        if service.name_any() != self.active.0 {
            return Ok(());
        }
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let hash =
            selector.and_then(|labels| labels.get(keys::POD_TEMPLATE_HASH)).cloned().unwrap_or_default();
        let before = std::mem::replace(&mut self.active.1, hash.clone());
        if before == hash || hash.is_empty() || by == By::Others {
            return Ok(());
        }
        // Whoever deleted it may have been quicker than what was decided before (seed 8686).
        if !self.has_set(&hash) && self.disturbed.is_some_and(|until| self.now < until) {
            return Ok(());
        }
        let least = self.least_required();
        let available = |hash: &str, since: Timestamp| {
            let set = self.sets.values().find(|set| !hash.is_empty() && set.hash == hash);
            set.map_or(0, |set| set.available_since(since))
        };
        let could_be = available(&hash, self.since());
        let is_way_back = self.rollout.as_ref().is_some_and(|rollout| rollout.status().stable_rs() == hash);
        ensure!(
            could_be >= least
                || (is_way_back && !before.is_empty() && could_be > available(&before, self.now)),
            "the active Service goes from {before:?} to {hash:?} with {could_be} of {least} pods"
        );
        Ok(())
    }

    /// The least that a spec requires of a switch that arrives now; nothing where no spec that may be acted on is blue-green.
    fn least_required(&mut self) -> i32 {
        let under_way = self.now.checked_sub(self.memory.min(UNDER_WAY)).unwrap_or(Timestamp::MIN);
        self.was_required.retain(|(until, _)| *until > under_way);
        let least = self.required.iter().map(|(_, least)| *least).min();
        let was_least = self.was_required.iter().map(|(_, least)| *least).min();
        least.map_or(0, |least| least.min(was_least.unwrap_or(least)))
    }

    fn set(&mut self, set: &ReplicaSet, by: By) -> anyhow::Result<()> {
        let name = set.name_any();
        let spec = set.spec.replicas.unwrap_or(1);
        let status = set.status.as_ref();
        let told = status.and_then(|status| status.observed_generation).unwrap_or(0);
        let told = told >= set.metadata.generation.unwrap_or(0);
        let available = status.and_then(|status| status.available_replicas).unwrap_or(0);
        let hash = hash_of(set);
        let (sums, were) = (self.sums(self.now), self.sums(self.since()));
        let old = self.sets.get(&name).map(|set| set.spec);
        let judged = self.check_active(&hash, old, spec);
        let (now, since) = (self.now, self.since());
        let entry = self.sets.entry(name.clone()).or_default();
        // A status about a larger size counts pods that are on their way out.
        let available = if told { available } else { available.min(entry.available) };
        if entry.available != available {
            entry.before.push_back((now, entry.available));
            entry.before.retain(|(until, _)| *until > since);
        }
        (entry.spec, entry.available, entry.hash) = (spec, available, hash);
        if by == By::Us && old.is_some_and(|old| spec < old) {
            // What we take away ourselves we may not count on.
            entry.available = available.min(spec);
            entry.before.iter_mut().for_each(|(_, before)| *before = (*before).min(spec));
        }
        if old == Some(spec) {
            return Ok(());
        }
        if by == By::Others {
            self.raised.push_back((now, (spec - old.unwrap_or(0)).max(0)));
            self.disturb();
            return Ok(());
        }
        // The first deployment serves nobody yet.
        if self.rollout.as_ref().is_none_or(|rollout| rollout.status().stable_rs().is_empty()) {
            self.judged.excused += 1;
            return Ok(());
        }
        let (after, would_be) = (self.sums(self.now), self.sums(self.since()));
        self.check_surge(&name, sums.0, after.0)?;
        if self.disturbed.is_some_and(|until| now < until) {
            self.judged.excused += 1;
            return Ok(());
        }
        self.judged.judged += 1;
        judged?;
        // By what was available when it may have been decided, or by what is now.
        let by_memory = self.check_sizes(&name, were, would_be);
        by_memory.or_else(|error| self.check_sizes(&name, sums, after).map_err(|_| error))
    }

    /// Not more pods are wanted than any spec that may be acted on permits, but for those that others want since it was decided. Pods
    /// that fail, and sets that are gone, change nothing about it.
    fn check_surge(&mut self, name: &str, before: i32, after: i32) -> anyhow::Result<()> {
        // An API server that was away for minutes tells of it only when it is back (seed 1798).
        let since = self.now.checked_sub(self.memory * 5).unwrap_or(Timestamp::MIN);
        self.raised.retain(|(at, _)| *at > since);
        let raised: i32 = self.raised.iter().map(|(_, pods)| pods).sum();
        let most = self.limits.iter().map(|(_, most, _)| *most).max();
        ensure!(
            most.is_none_or(|most| after <= most.saturating_add(raised).max(before)),
            "{name} resized: {before} -> {after} pods wanted, allowed {:?}",
            self.limits
        );
        Ok(())
    }

    /// Not too many pods are wanted, and not too few are left, by the limits of any spec that may be acted on.
    fn check_sizes(&self, name: &str, before: (i32, i32), after: (i32, i32)) -> anyhow::Result<()> {
        let holds = |(_, most, least): &(i64, i32, i32)| {
            after.0 <= (*most).max(before.0) && after.1 >= (*least).min(before.1)
        };
        if self.limits.is_empty() || self.limits.iter().any(holds) {
            return Ok(());
        }
        let limits = &self.limits;
        let resized =
            format!("{name} resized: (wanted, available) {before:?} -> {after:?}, allowed {limits:?}");
        Err(BeyondLimits(resized).into())
    }

    /// The version that the active Service selects loses no pods, but for those beyond what any spec wants.
    fn check_active(&self, hash: &str, old: Option<i32>, spec: i32) -> anyhow::Result<()> {
        let is_active = !hash.is_empty() && hash == self.active.1;
        let (Some(old), Some(least)) = (old, self.required.iter().map(|(_, required)| *required).min())
        else {
            return Ok(());
        };
        // Other strategies may be on their way, too.
        if is_active
            && self.required.len() == self.limits.iter().filter(|(_, most, _)| *most == i32::MAX).count()
        {
            ensure!(spec >= old.min(least), "the active version goes from {old} to {spec} pods");
        }
        Ok(())
    }

    /// Pods wanted by all sets, and available pods that are to stay: of those that were at any time since then.
    fn sums(&self, since: Timestamp) -> (i32, i32) {
        let all = self.sets.values();
        let stay = all.clone().map(|set| set.spec.min(set.available_since(since)));
        (all.map(|set| set.spec).sum(), stay.sum())
    }

    fn since(&self) -> Timestamp {
        self.now.checked_sub(self.memory).unwrap_or(Timestamp::MIN)
    }
}

/// The hash of a set: its label's, or where somebody took that away, its pods' (seed 329).
fn hash_of(set: &ReplicaSet) -> String {
    let of_pods =
        || set.spec.template.as_ref()?.metadata.as_ref()?.labels.as_ref()?.get(keys::POD_TEMPLATE_HASH);
    set.labels().get(keys::POD_TEMPLATE_HASH).or_else(of_pods).cloned().unwrap_or_default()
}
