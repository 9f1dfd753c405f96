//! How large each set of a canary without traffic routing is to be next.
//!
//! Brings the arithmetic of [`super::replicas`] to ReplicaSets. The sizes follow from where the update stands in the
//! status that was *seen*: a step that this very plan completes changes sizes only after its status is written.

use jiff::{SignedDuration, Timestamp};

use super::observed::{Observed, ReplicaSet};
use super::replicas::{
    Counts, Limits, Size, Sizes, WayOut, next_counts, next_older, share_for_weight, way_out,
};
use super::revision::Revisions;
use super::sizing::{Deadlines, Sizing};
use super::stance::Stance;
use crate::crd::{CanaryStrategy, ConditionType, ProgressType, ReplicaProgressThreshold, Rounding};

const MAX_WEIGHT: i32 = 100;

/// How long stable pods that are not available keep their places when nothing else can move: long enough for pods that are
/// only starting, short beside what people wait for.
const PLACES_KEPT: SignedDuration = SignedDuration::from_secs(10);

/// The limits of a canary (contract 4.5 «Fenceposts»).
#[must_use]
pub fn limits(seen: &Observed, canary: &CanaryStrategy) -> Limits {
    let replicas = seen.rollout.spec.replicas();
    // Validation refuses what is no percentage; should one get here, it counts as nothing.
    let surge = canary.max_surge().scaled(replicas, Rounding::Up).unwrap_or(0).max(0);
    let unavailable = canary.max_unavailable().scaled(replicas, Rounding::Down).unwrap_or(0).max(0);
    Limits::new(replicas, surge, unavailable)
}

/// The sizes to go to from here.
#[must_use]
pub fn sizing(
    seen: &Observed,
    revisions: &Revisions<'_>,
    stance: &Stance,
    canary: &CanaryStrategy,
    now: Timestamp,
) -> Sizing {
    let limits = limits(seen, canary);
    let sizes = sizes(revisions);
    let weight = stance.weight(revisions, canary);
    if !seen.rollout.spec.paused() {
        let wanted = share_for_weight(limits.replicas, weight, MAX_WEIGHT, limits.surge);
        let sizing = toward(limits, wanted, sizes, revisions, canary);
        if sizing.changes || !are_observed(revisions) {
            return sizing;
        }
        let kept_until = places_kept_until(seen);
        let sizing = unless_stuck(sizing, limits, sizes, kept_until, now);
        let is_waited_for = !sizing.reached
            && !sizing.changes
            && is_short_of_stable(revisions)
            && are_as_wanted(revisions, canary, wanted);
        return if is_waited_for { with_stand_ins(sizing, kept_until, now) } else { sizing };
    }
    let held = match is_resized(seen, revisions) {
        true => toward(limits, frozen_share(limits, sizes), sizes, revisions, canary),
        false => unchanged(limits, weight, sizes, revisions),
    };
    Sizing { first: 0, ..held }
}

/// A sum that stays within what replicas can be, whatever others wrote.
pub(super) fn total(counts: impl Iterator<Item = i32>) -> i32 {
    counts.fold(0, i32::saturating_add)
}

fn sizes(revisions: &Revisions<'_>) -> Sizes {
    Sizes {
        new: revisions.new_set().map(ReplicaSet::size),
        stable: revisions.stable_apart().map(ReplicaSet::size),
        older: total(revisions.others.iter().map(|set| set.replicas)),
    }
}

fn toward(
    limits: Limits,
    wanted: Counts,
    sizes: Sizes,
    revisions: &Revisions<'_>,
    canary: &CanaryStrategy,
) -> Sizing {
    let older: Vec<Size> = revisions.others.iter().map(|set| set.size()).collect();
    let lasting = total(revisions.all().map(|set| set.size().lasting()));
    let others = next_older(limits, lasting, &older);
    let are_observed = are_observed(revisions);
    let others_change = older.iter().zip(&others).any(|(size, &next)| size.spec != next);

    let now = Counts { new: spec(sizes.new), stable: spec(sizes.stable) };
    let room = limits.most() - now.new - now.stable - sizes.older;
    let next = next_counts(limits, wanted, sizes);
    let changes = next != now || others_change;
    // Nothing shrinks on the word of a status about an older spec: its available pods may be on their way out. Nor does anything grow into
    // the room that it would have given.
    let (next, others) = match are_observed {
        true => (next, others),
        false => (next.at_least(now).grown_within(room, now), older.iter().map(|size| size.spec).collect()),
    };
    Sizing {
        new: next.new,
        first: next.new,
        stable: next.stable,
        deadlines: Deadlines::none(others.len()),
        others,
        wanted,
        swaps: false,
        wake_at: None,
        changes,
        reached: !changes && reached(revisions, canary, wanted),
    }
}

/// Whether the statuses of all sets are about their current specs.
fn are_observed(revisions: &Revisions<'_>) -> bool {
    revisions.all().all(ReplicaSet::is_observed)
}

/// Takes the way out where nothing moves and nothing ever would.
fn unless_stuck(
    sizing: Sizing,
    limits: Limits,
    sizes: Sizes,
    swaps_at: Option<Timestamp>,
    now: Timestamp,
) -> Sizing {
    match way_out(limits, sizing.wanted, sizes) {
        None => sizing,
        Some(WayOut::ShedNew(Counts { new, stable })) => {
            Sizing { new, stable, changes: true, reached: false, ..sizing }
        }
        Some(WayOut::Swap(Counts { new, stable })) if swaps_at.is_some_and(|at| at <= now) => {
            Sizing { new, stable, swaps: true, changes: true, reached: false, ..sizing }
        }
        Some(WayOut::Swap(_)) => Sizing { wake_at: swaps_at, ..sizing },
    }
}

/// Pods of older sets that stay because as many stable ones are missing stand in for them. A step waits for their going as
/// little as for stable pods that had their time: neither may ever come (a stable version that was never available).
fn with_stand_ins(sizing: Sizing, kept_until: Option<Timestamp>, now: Timestamp) -> Sizing {
    match kept_until {
        Some(at) if at <= now => Sizing { reached: true, ..sizing },
        at => Sizing { wake_at: at, ..sizing },
    }
}

fn is_short_of_stable(revisions: &Revisions<'_>) -> bool {
    revisions.stable_apart().is_some_and(|stable| stable.size().missing() > 0)
}

/// When pods that are not available have had their time, counted from the last progress that was noted.
fn places_kept_until(seen: &Observed) -> Option<Timestamp> {
    let progressing = seen.rollout.status().condition(&ConditionType::Progressing)?;
    progressing.last_update_time.instant().checked_add(PLACES_KEPT).ok()
}

/// Held by hand: every set stays as it is.
fn unchanged(limits: Limits, weight: i32, sizes: Sizes, revisions: &Revisions<'_>) -> Sizing {
    Sizing {
        new: spec(sizes.new),
        first: spec(sizes.new),
        stable: spec(sizes.stable),
        others: revisions.others.iter().map(|set| set.replicas).collect(),
        deadlines: Deadlines::none(revisions.others.len()),
        wanted: share_for_weight(limits.replicas, weight, MAX_WEIGHT, limits.surge),
        swaps: false,
        wake_at: None,
        changes: false,
        reached: false,
    }
}

fn reached(revisions: &Revisions<'_>, canary: &CanaryStrategy, wanted: Counts) -> bool {
    let are_gone = revisions.others.iter().all(|set| set.status.available == 0);
    are_gone && are_as_wanted(revisions, canary, wanted)
}

/// Whether enough of the new pods are available and the stable ones exist.
fn are_as_wanted(revisions: &Revisions<'_>, canary: &CanaryStrategy, wanted: Counts) -> bool {
    let Some(new) = revisions.new_set().filter(|new| new.is_observed()) else { return false };
    let stable = revisions.stable_apart();
    let are_enough = match &canary.replica_progress_threshold {
        None => new.status.available == new.replicas,
        Some(threshold) => {
            // Where some may be missing, it is not by their availability that the share is known to be reached.
            let has_share =
                |stable: &ReplicaSet| (new.replicas, stable.replicas) == (wanted.new, wanted.stable);
            new.status.available >= enough(threshold, new.replicas) && stable.is_none_or(has_share)
        }
    };
    are_enough && stable.is_none_or(|stable| stable.status.replicas == stable.replicas)
}

/// How many of the wanted pods must be available for a step to be done (contract 4.5). Never more than are wanted: no step would ever
/// have them.
#[must_use]
pub(super) fn enough(threshold: &ReplicaProgressThreshold, wanted: i32) -> i32 {
    const ALL: i64 = 100;
    match threshold.progress_type {
        ProgressType::Percent => {
            let exact = i64::from(wanted) * i64::from(threshold.value);
            i32::try_from(-(-exact).div_euclid(ALL)).unwrap_or(wanted).min(wanted)
        }
        ProgressType::Pods => threshold.value.min(wanted),
        // Validation refuses it.
        ProgressType::Other(_) => wanted,
    }
}

/// Whether spec.replicas changed since the sets were sized: paused by hand, the update holds, and resizing still works
/// (contract 4.7).
fn is_resized(seen: &Observed, revisions: &Revisions<'_>) -> bool {
    let replicas = seen.rollout.spec.replicas();
    revisions
        .new_set()
        .into_iter()
        .chain(revisions.stable_apart())
        .filter(|set| set.replicas > 0)
        .any(|set| set.desired_replicas().is_some_and(|desired| desired != replicas))
}

/// The share that the sets have among them now, of the replicas wanted now: what resizing keeps while the update is held.
fn frozen_share(limits: Limits, sizes: Sizes) -> Counts {
    let (new, stable) = (spec(sizes.new), spec(sizes.stable));
    let total = i64::from(new) + i64::from(stable);
    if total == 0 || limits.replicas == 0 {
        return Counts { new: 0, stable: limits.replicas };
    }
    let exact = i64::from(limits.replicas) * i64::from(new);
    let rounded = i32::try_from((exact * 2 + total) / (total * 2)).unwrap_or(limits.replicas);
    // A version that has pods keeps at least one, if there are two to share.
    let least = i32::from(new > 0).min(limits.replicas - i32::from(stable > 0)).max(0);
    let most = limits.replicas - i32::from(stable > 0).min(limits.replicas - least);
    let new = rounded.clamp(least, most.max(least));
    Counts { new, stable: limits.replicas - new }
}

fn spec(size: Option<Size>) -> i32 {
    size.map_or(0, |size| size.spec)
}
