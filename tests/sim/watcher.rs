//! Looks at every write: keeps a journal of them, and checks the properties after each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};

use anyhow::{anyhow, ensure};
use jiff::{SignedDuration, Timestamp};
use rolloutd::apiserver::{GroupResource, Verb, Write};
use rolloutd::crd::{Rollout, keys};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::labels;
use crate::plugins::Attempt;
use crate::properties::{BeyondLimits, By, Judged, Properties, Version};
use crate::weather::Wire;

/// How old what a decision was made from may be where pods fail: events come late, requests take time, and a control plane that was away
/// acts on what it knew.
const MEMORY: SignedDuration = SignedDuration::from_secs(60);

/// The most writes of one member to one rollout and what belongs to it within [`SPELL`]: whoever writes more goes round in a circle.
const MOST_WRITES: usize = 120;
const SPELL: SignedDuration = SignedDuration::from_secs(10);

/// How long a request may be under way.
const UNDER_WAY: SignedDuration = SignedDuration::from_secs(5);

/// The User-Agent of those who act on the rollout, but for RPCs.
pub const SOMEBODY: &str = "test";

/// Kinds whose names and contents are not of one seed: they hold ids that are unique everywhere, or the time of the machine.
const UNREPEATABLE: [&str; 3] = ["controllerrevisions", "events", "leases"];

pub struct Watcher {
    /// A line for each write and each act.
    pub journal: Vec<String>,
    properties: Properties,
    /// The first property that was broken.
    broken: Option<anyhow::Error>,
    /// Writes until somebody dies.
    doomed: Option<(usize, Wire)>,
    /// When workers of ours wrote, of late.
    recent: Vec<Timestamp>,
    /// The same of labels of pods, which are paced by themselves.
    labelled: Vec<Timestamp>,
    /// Writes of our workers.
    pub writes: usize,
    /// Until when it is not judged how many pods an eviction leaves, because some may fail.
    disturbed: Option<Timestamp>,
    /// The rollout by each spec that may be acted on: the last that was observed, newer ones, and those that another was observed after
    /// just now, with that time. A changed spec.replicas makes no eviction wrong that was decided before (design.md).
    specs: Vec<(Rollout, Option<Timestamp>)>,
    attempt: Attempt,
    /// What pods are to the API, once there is one.
    pods: Option<GroupResource>,
}

impl Default for Watcher {
    fn default() -> Self {
        Self {
            journal: Vec::new(),
            properties: Properties::new(MEMORY),
            broken: None,
            doomed: None,
            recent: Vec::new(),
            labelled: Vec::new(),
            writes: 0,
            disturbed: None,
            specs: Vec::new(),
            attempt: Attempt::default(),
            pods: None,
        }
    }
}

impl Watcher {
    /// Notes a write, checks it, and lets a control plane die whose last it was.
    pub fn note(&mut self, write: &Write<'_>) {
        self.journal.push(line(write));
        let by = if write.user_agent.ends_with("(workers)") { By::Us } else { By::Others };
        if by == By::Us {
            self.writes += 1;
            if let Some((left, wire)) = &mut self.doomed {
                match left.checked_sub(1) {
                    Some(fewer) => *left = fewer,
                    None => {
                        wire.cut();
                        self.doomed = None;
                    }
                }
            }
        }
        if self.broken.is_none()
            && let Err(error) = self.check(write, by)
        {
            self.broken = Some(error.context(line(write)));
        }
    }

    /// Something is done to the rollout.
    pub fn act(&mut self, act: &str, now: Timestamp) {
        self.journal.push(format!("{now} -- {act}"));
    }

    /// Pods may fail from now on: evictions are not judged for a while. Sizes are: pods that were there a while ago count.
    pub fn disturb_pods(&mut self, now: Timestamp) {
        self.disturbed = now.checked_add(MEMORY).ok();
    }

    /// Others change what sizes are decided on.
    pub fn disturb_sizes(&mut self) {
        self.properties.disturb();
    }

    /// How many resizes were judged.
    pub fn judged(&self) -> Judged {
        self.properties.judged
    }

    /// Whoever holds `wire` dies right after so many more writes.
    pub fn doom(&mut self, writes: usize, wire: Wire) {
        self.doomed = Some((writes, wire));
    }

    /// Nobody dies any more.
    pub fn pardon(&mut self) {
        self.doomed = None;
    }

    /// The first property that was broken.
    pub fn verdict(&mut self) -> anyhow::Result<()> {
        match self.broken.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn check(&mut self, write: &Write<'_>, by: By) -> anyhow::Result<()> {
        if by == By::Us {
            let recent = if is_label(write) { &mut self.labelled } else { &mut self.recent };
            check_pace(recent, write.time)?;
        }
        match write.resource.resource.as_str() {
            "rollouts" => self.check_rollout(write, by),
            "replicasets" => match write.new {
                Some(set) if is_owned(set) => {
                    check_names(write)?;
                    let checked = self.properties.next(Version::Set(&parse(set)?), by, write.time);
                    // While pods are restarted, they are looked at one by one, and tell more than the sets' statuses.
                    checked.or_else(|error| match error.is::<BeyondLimits>() && self.holds_by_pods(write) {
                        true => Ok(()),
                        false => Err(error),
                    })
                }
                Some(_) => Ok(()),
                None => {
                    let name = write.old.and_then(|old| old.pointer("/metadata/name")?.as_str());
                    self.properties.next(Version::NoSet(name.unwrap_or_default()), by, write.time)
                }
            },
            "services" => match write.new {
                Some(service) => self.properties.next(Version::Service(&parse(service)?), by, write.time),
                None => Ok(()),
            },
            "pods" => {
                self.pods.get_or_insert_with(|| write.resource.clone());
                match by {
                    By::Us if is_label(write) => labels::check_write(write),
                    By::Us => self.check_eviction(write),
                    By::Others => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// Whether a resize keeps to the limits by the pods that are ready.
    fn holds_by_pods(&self, write: &Write<'_>) -> bool {
        let Some(resource) = &self.pods else { return false };
        let number = |set: &Value, pointer: &str| {
            set.pointer(pointer).and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok())
        };
        let changed = write.new.and_then(|set| set.pointer("/metadata/uid"));
        let (mut before, mut after) = ((0, 0), (0, 0));
        for set in write.objects.list(write.resource, None).filter(|set| is_owned(set)) {
            let uid = set.pointer("/metadata/uid");
            let seconds = number(set, "/spec/minReadySeconds").unwrap_or(0);
            let is_up = |pod: &&Value| {
                let since = ready_since(pod);
                pod.pointer("/metadata/ownerReferences/0/uid") == uid
                    && since.is_some_and(|since| write.time.duration_since(since).as_secs() >= seconds.into())
            };
            let up =
                i32::try_from(write.objects.list(resource, None).filter(is_up).count()).unwrap_or(i32::MAX);
            let now = number(set, "/spec/replicas").unwrap_or(1);
            let was = match write.old.filter(|_| uid == changed) {
                Some(old) => number(old, "/spec/replicas").unwrap_or(1),
                None => now,
            };
            before = (before.0 + was, before.1 + was.min(up));
            after = (after.0 + now, after.1 + now.min(up));
        }
        self.properties.permits(before, after)
    }

    fn check_rollout(&mut self, write: &Write<'_>, by: By) -> anyhow::Result<()> {
        let Some(new) = write.new else { return Ok(()) };
        let rollout: Rollout = parse(new)?;
        check_abort(write)?;
        // Where the stable version is gone, there is nothing to go back to.
        let stable = write.old.and_then(|old| old.pointer("/status/stableRS")?.as_str());
        let has_stable = stable.is_some_and(|stable| self.properties.has_set(stable));
        self.attempt.check(write, by, has_stable)?;
        if by == By::Us {
            check_intentions(write, has_stable)?;
        }
        self.properties.next(Version::Rollout(&rollout), by, write.time)?;
        let observed = rollout.status().observed_generation();
        let is_recent = |at: &Timestamp| write.time.duration_since(*at) < UNDER_WAY;
        for (spec, outdated) in &mut self.specs {
            if spec.metadata.generation < observed {
                outdated.get_or_insert(write.time);
            }
        }
        self.specs.retain(|(_, outdated)| outdated.as_ref().is_none_or(is_recent));
        if self.specs.last().is_none_or(|(last, _)| last.metadata.generation != rollout.metadata.generation) {
            self.specs.push((rollout, None));
        }
        Ok(())
    }

    /// Pods are but labelled or evicted by us, and evicted only while enough others are available.
    fn check_eviction(&self, write: &Write<'_>) -> anyhow::Result<()> {
        ensure!(write.subresource == "eviction", "a pod is written by a worker");
        ensure!(!self.specs.is_empty(), "a pod of no rollout is evicted");
        let Some(evicted) = write.old else { return Ok(()) };
        ensure!(
            self.specs.iter().any(|(spec, _)| is_to_restart(evicted, spec, write.time)),
            "a pod is evicted unasked"
        );
        if self.disturbed.is_some_and(|until| write.time < until) {
            return Ok(());
        }
        let leaves: Vec<(i32, i32)> = self
            .specs
            .iter()
            .map(|(spec, _)| spec)
            .filter(|spec| is_available(evicted, spec, write.time))
            .map(|spec| {
                let left = pods(write).filter(|pod| is_available(pod, spec, write.time)).count();
                (i32::try_from(left).unwrap_or(i32::MAX), least_available(spec))
            })
            .collect();
        // By one of the specs, what was evicted was not available, or enough others are.
        ensure!(
            leaves.len() < self.specs.len() || leaves.iter().any(|(left, least)| left >= least),
            "an eviction leaves too few pods: (available, least) {leaves:?}"
        );
        Ok(())
    }
}

/// Whether a restart is asked for by now that a pod is older than.
fn is_to_restart(pod: &Value, rollout: &Rollout, now: Timestamp) -> bool {
    let created = pod.pointer("/metadata/creationTimestamp").and_then(Value::as_str);
    let created: Option<Timestamp> = created.and_then(|created| created.parse().ok());
    let restart_at = rollout.spec.restart_at.as_ref().map(rolloutd::crd::Time::instant);
    restart_at.filter(|at| *at <= now).zip(created).is_some_and(|(at, created)| created < at)
}

/// Whether a worker writes a pod itself: its labels or annotations.
fn is_label(write: &Write<'_>) -> bool {
    write.resource.resource == "pods" && write.subresource.is_empty()
}

fn check_pace(recent: &mut Vec<Timestamp>, now: Timestamp) -> anyhow::Result<()> {
    let since = now.checked_sub(SPELL).unwrap_or(Timestamp::MIN);
    recent.retain(|at| *at > since);
    recent.push(now);
    ensure!(recent.len() <= MOST_WRITES, "{} writes within {SPELL:#}", recent.len());
    Ok(())
}

fn least_available(rollout: &Rollout) -> i32 {
    use rolloutd::crd::{Rounding, Strategy};
    let replicas = rollout.spec.replicas();
    let unavailable = match rollout.spec.strategy() {
        Ok(Strategy::Canary(canary)) => canary.max_unavailable(),
        Ok(Strategy::BlueGreen(strategy)) => strategy.max_unavailable(),
        Err(_) => return 0,
    };
    // Restarting pods one by one is always permitted: a restart could not be otherwise (contract 4.8).
    let unavailable = unavailable.scaled(replicas, Rounding::Down).unwrap_or(0).max(1);
    replicas - unavailable.min(replicas)
}

/// Pods with a version of the rollout's, as of a write.
fn pods<'a>(write: &Write<'a>) -> impl Iterator<Item = &'a Value> + use<'a> {
    let all = write.objects.list(write.resource, None);
    all.filter(|pod| {
        pod.pointer("/metadata/labels").is_some_and(|labels| labels[keys::POD_TEMPLATE_HASH].is_string())
    })
}

/// Whether a pod is ready for so long that it counts.
fn is_available(pod: &Value, rollout: &Rollout, now: Timestamp) -> bool {
    let least = SignedDuration::from_secs(rollout.spec.min_ready_seconds().into());
    ready_since(pod).is_some_and(|since| now.duration_since(since) >= least)
}

/// Since when a pod is ready; `None` while it is not, or is on its way out.
fn ready_since(pod: &Value) -> Option<Timestamp> {
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return None;
    }
    let conditions = pod.pointer("/status/conditions")?.as_array()?;
    let ready =
        conditions.iter().find(|condition| condition["type"] == "Ready" && condition["status"] == "True")?;
    ready["lastTransitionTime"].as_str()?.parse().ok()
}

fn is_owned(set: &Value) -> bool {
    let owners = set.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner["kind"] == "Rollout" && owner["controller"] == true)
}

fn parse<T: DeserializeOwned>(object: &Value) -> anyhow::Result<T> {
    Ok(T::deserialize(object)?)
}

/// What the user wants is never overwritten: neither the spec, nor an abort of the version that runs.
fn check_intentions(write: &Write<'_>, has_stable: bool) -> anyhow::Result<()> {
    let (Some(old), Some(new)) = (write.old, write.new) else { return Ok(()) };
    ensure!(old["spec"] == new["spec"], "a worker changed the spec");
    let at = |object: &Value, field: &str| object.pointer(&format!("/status/{field}")).cloned();
    let begins_anew =
        ["currentPodHash", "currentStepHash"].iter().any(|field| at(old, field) != at(new, field));
    // Where nothing is being updated, there is nothing to abort.
    let is_void = !has_stable || at(old, "currentPodHash") == at(old, "stableRS");
    let is_promoted = at(old, "promoteFull") == Some(Value::Bool(true)) && at(old, "abortedAt").is_some();
    ensure!(!aborts(old) || aborts(new) || begins_anew || is_void || is_promoted, "an abort was taken back");
    ensure!(!aborts(new) || !begins_anew, "an update begins aborted");
    Ok(())
}

/// Only somebody aborts, by a patch or by RPC: no program has a rollout that aborts by itself.
fn check_abort(write: &Write<'_>) -> anyhow::Result<()> {
    let was_aborted = write.old.is_some_and(aborts);
    let is_somebody = write.user_agent == SOMEBODY || write.user_agent.ends_with("(api)");
    ensure!(!write.new.is_some_and(aborts) || was_aborted || is_somebody, "it was aborted unasked");
    Ok(())
}

fn aborts(rollout: &Value) -> bool {
    rollout.pointer("/status/abort") == Some(&Value::Bool(true))
}

/// No two ReplicaSets have the same version.
fn check_names(write: &Write<'_>) -> anyhow::Result<()> {
    let mut templates = BTreeMap::new();
    for set in write.objects.list(write.resource, None).filter(|set| is_owned(set)) {
        if set.pointer("/metadata/deletionTimestamp").is_some() {
            continue;
        }
        let image = set.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str);
        let name = set.pointer("/metadata/name").and_then(Value::as_str);
        if let Some(other) = templates.insert(image, name) {
            return Err(anyhow!("{other:?} and {name:?} have the same template"));
        }
    }
    Ok(())
}

fn line(write: &Write<'_>) -> String {
    let Write { user_agent, verb, resource, subresource, time, revision, .. } = write;
    let (resource, verb) = (&resource.resource, verb.as_str());
    let mut line = format!("{time} {revision} {user_agent} {verb} {resource}");
    if !subresource.is_empty() {
        let _ = write!(line, "/{subresource}");
    }
    if UNREPEATABLE.contains(&resource.as_str()) {
        return line;
    }
    let object = write.new.or(write.old).unwrap_or(&Value::Null);
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    object.to_string().hash(&mut hasher);
    let gone = if write.new.is_none() { " gone" } else { "" };
    let _ = write!(line, " {name}{gone}{} {:016x}", summary(resource, object), hasher.finish());
    debug_assert!(write.verb != Verb::Get);
    line
}

/// What one wants to know of an object at a glance.
fn summary(resource: &str, object: &Value) -> String {
    let at = |pointer: &str| object.pointer(pointer).cloned().unwrap_or(Value::Null);
    match resource {
        "rollouts" => format!(
            " generation={} replicas={} image={} phase={} message={} step={} hash={} stable={} abort={} pauses={} promoteFull={} observed={}",
            at("/metadata/generation"),
            at("/spec/replicas"),
            at("/spec/template/spec/containers/0/image"),
            at("/status/phase"),
            at("/status/message"),
            at("/status/currentStepIndex"),
            at("/status/currentPodHash"),
            at("/status/stableRS"),
            at("/status/abort"),
            at("/status/pauseConditions").as_array().map_or(0, Vec::len),
            at("/status/promoteFull"),
            at("/status/observedGeneration"),
        ),
        "replicasets" => format!(
            " image={} wanted={} replicas={} available={}",
            at("/spec/template/spec/containers/0/image"),
            at("/spec/replicas"),
            at("/status/replicas"),
            at("/status/availableReplicas"),
        ),
        "services" => format!(" selector={}", at("/spec/selector")),
        "pods" => format!(
            " phase={} ready={} deleted={}",
            at("/status/phase"),
            ready_since(object).is_some(),
            at("/metadata/deletionTimestamp")
        ),
        _ => String::new(),
    }
}

#[test]
fn whoever_writes_in_a_circle_is_noticed() {
    let (mut recent, now) = (Vec::new(), Timestamp::UNIX_EPOCH);
    for _ in 0..MOST_WRITES {
        check_pace(&mut recent, now).unwrap();
    }
    assert!(check_pace(&mut recent, now).is_err());
    check_pace(&mut recent, now + SPELL).unwrap();
}
