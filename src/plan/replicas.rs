//! The arithmetic of a canary without traffic routing: how many pods each set is to have next.
//!
//! Pure numbers, so that every rule can be put in a table. The formulae are those of contract 4.5 and give the same
//! answers as the reference, but for the exceptions that are named here: [`share_for_weight`] never answers
//! zero canaries for want of an option, and [`way_out`] lets unavailable pods go where nothing else can.
//! [`super::canary`] applies the result to ReplicaSets. `golden` compares both with the formulae.

/// What bounds an update: how many pods are wanted, and how far their number may stray meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// spec.replicas.
    pub replicas: i32,
    /// maxSurge, in pods.
    pub surge: i32,
    /// maxUnavailable, in pods; never more than `replicas`.
    pub unavailable: i32,
}

impl Limits {
    /// Limits from rounded values: surge rounded up, unavailable rounded down. Both zero would forbid every move, so
    /// unavailable then counts as one.
    #[must_use]
    pub fn new(replicas: i32, surge: i32, unavailable: i32) -> Self {
        let unavailable = if surge == 0 && unavailable == 0 { 1 } else { unavailable };
        Self { replicas, surge, unavailable: unavailable.min(replicas) }
    }

    /// The most pods that the sets may want together.
    #[must_use]
    pub fn most(self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }

    /// The fewest pods that must stay available.
    #[must_use]
    pub fn least_available(self) -> i32 {
        self.replicas.saturating_sub(self.unavailable)
    }
}

/// A set's size: the pods it is asked to have and those of them that are available.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// spec.replicas of the set.
    pub spec: i32,
    /// status.availableReplicas of the set; may exceed `spec` while pods are on their way out.
    pub available: i32,
}

impl Size {
    /// Pods that are available and meant to stay.
    #[must_use]
    pub fn lasting(self) -> i32 {
        self.spec.min(self.available)
    }

    /// Pods that are wanted and not available.
    #[must_use]
    pub fn missing(self) -> i32 {
        (self.spec - self.available).max(0)
    }

    /// What counts when it is decided how many may go: a set that is to shrink is counted whole, since its pods that are
    /// not available go first.
    fn counted(self, shrinking: Shrinking) -> i32 {
        match shrinking {
            Shrinking::Yes => self.spec,
            Shrinking::No => self.lasting(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shrinking {
    Yes,
    No,
}

/// How pods are shared between the new and the stable set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pods of the new set.
    pub new: i32,
    /// Pods of the stable set.
    pub stable: i32,
}

impl Counts {
    /// The larger of each.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self { new: self.new.max(other.new), stable: self.stable.max(other.stable) }
    }

    /// The same, but growing from `now` by no more pods than there is room for, the stable set first: what the other set would give up is kept
    /// (seed 26934).
    #[must_use]
    pub fn grown_within(self, room: i32, now: Self) -> Self {
        let mut room = room.max(0);
        let mut take = |now: i32, next: i32| {
            let more = (next - now).clamp(0, room);
            room -= more;
            next.min(now + more)
        };
        let stable = take(now.stable, self.stable);
        Self { new: take(now.new, self.new), stable }
    }
}

/// The sets of a rollout by their part in an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The new set; `None` while it does not exist.
    pub new: Option<Size>,
    /// The stable set; `None` where there is none or where it is the new one.
    pub stable: Option<Size>,
    /// spec.replicas of all other sets together.
    pub older: i32,
}

/// The counts that come closest to `weight` of `max_weight`, once everything has settled (contract 4.5).
///
/// With surge there may be one pod more than `replicas` where that comes closer. A weight that is neither nothing nor
/// everything leaves each side at least one pod, if there are two.
#[must_use]
pub fn share_for_weight(replicas: i32, weight: i32, max_weight: i32, surge: i32) -> Counts {
    if replicas <= 0 {
        return Counts::default();
    }
    let (max_weight, exact) = (max_weight.max(1), i64::from(replicas) * i64::from(weight));
    let floor = narrow(exact.div_euclid(i64::from(max_weight)));
    let ceil = narrow(-(-exact).div_euclid(i64::from(max_weight)));
    let zero_allowed = weight == max_weight || weight == 0 || (replicas == 1 && surge == 0);

    let mut options: Vec<(i32, i32)> = Vec::with_capacity(4);
    let mut offer = |total: i32, ceil_allowed: bool| {
        if ceil_allowed {
            options.push((ceil, total));
        }
        if !tied(total, weight, max_weight) && (floor != 0 || zero_allowed) {
            options.push((floor, total));
        }
    };
    offer(replicas, ceil < replicas || zero_allowed);
    if surge > 0 {
        offer(replicas.saturating_add(1), true);
    }

    // Exception (a): without surge, a tie whose upper value takes every pod (2 pods at 75) leaves no option; the reference
    // then gives the canary nothing, which no weight but zero asks for.
    let mut best = options.first().copied().unwrap_or((replicas - 1, replicas));
    for option in options {
        if distance(option, weight, max_weight) < distance(best, weight, max_weight) {
            best = option;
        }
    }
    Counts { new: best.0, stable: best.1 - best.0 }
}

/// Whether rounding up and rounding down are equally far from the weight; then up is taken.
fn tied(total: i32, weight: i32, max_weight: i32) -> bool {
    // In floating point as the reference has it: the question is whether *it* sees a tie.
    (f64::from(total) * (f64::from(weight) / f64::from(max_weight))).fract() == 0.5
}

fn distance((canary, total): (i32, i32), weight: i32, max_weight: i32) -> f64 {
    (f64::from(canary) * f64::from(max_weight) / f64::from(total) - f64::from(weight)).abs()
}

/// The next sizes of the new and the stable set on their way to `wanted`, within the limits (contract 4.5).
///
/// Growing uses what room there is, the stable set first. Shrinking waits until older sets are gone and until enough pods
/// are available.
#[must_use]
pub fn next_counts(limits: Limits, wanted: Counts, sizes: Sizes) -> Counts {
    // Without a stable set of its own there are no shares: the new set takes everything.
    let wanted = match sizes.stable {
        Some(_) => wanted,
        None => Counts { new: limits.replicas, stable: 0 },
    };
    let new = sizes.new.unwrap_or_default();
    let stable = sizes.stable.unwrap_or_default();
    let grown = grow(limits, wanted, new, stable, sizes.older);
    if sizes.older > 0 {
        return grown;
    }
    shrink(limits, wanted, sizes, grown)
}

fn grow(limits: Limits, wanted: Counts, new: Size, stable: Size, older: i32) -> Counts {
    let mut room = limits.most() - new.spec - stable.spec - older;
    let mut take = |size: Size, wanted: i32| {
        let more = (wanted - size.spec).clamp(0, room.max(0));
        room -= more;
        size.spec + more
    };
    let stable = take(stable, wanted.stable);
    let new = take(new, wanted.new);
    Counts { new, stable }
}

fn shrink(limits: Limits, wanted: Counts, sizes: Sizes, grown: Counts) -> Counts {
    let new = sizes.new.unwrap_or_default();
    let increasing = sizes.new.is_none_or(|new| wanted.new >= new.spec);
    let (new_part, stable_part) =
        if increasing { (Shrinking::No, Shrinking::Yes) } else { (Shrinking::Yes, Shrinking::No) };
    let counted = new.counted(new_part) + sizes.stable.map_or(0, |stable| stable.counted(stable_part));
    let spare = counted - limits.least_available();
    if spare <= 0 {
        return grown;
    }
    let drained = |size: Size, wanted: i32, grown: i32| {
        if size.spec > wanted { wanted.max(size.spec - spare) } else { grown }
    };
    if !increasing {
        let draining = drained(new, wanted.new, grown.new);
        let (new, stable) = within_limits(limits, (new, draining), (sizes.stable, grown.stable));
        Counts { new, stable }
    } else if let Some(stable) = sizes.stable {
        let draining = drained(stable, wanted.stable, grown.stable);
        let (stable, new) = within_limits(limits, (stable, draining), (sizes.new, grown.new));
        Counts { new, stable }
    } else {
        grown
    }
}

/// Brings two counts back within surge, taking from the side that is not draining first, but no available pod of it that is
/// still needed (`adjustReplicaWithinLimits` of contract 4.5).
fn within_limits(
    limits: Limits,
    (drain, drain_count): (Size, i32),
    (adjust, adjust_count): (Option<Size>, i32),
) -> (i32, i32) {
    let Some(adjust) = adjust else { return (drain_count, adjust_count) };
    let over = |drain: i32, adjust: i32| (drain + adjust - limits.most()).max(0);
    let reduced = adjust_count - over(drain_count, adjust_count);
    let available = drain.available.min(drain_count) + adjust.available.min(reduced);
    let lost = (adjust.available - reduced).max(0);
    let needed = (limits.least_available() - available).max(0);
    let adjusted = reduced + lost.min(needed);
    (drain_count - over(drain_count, adjusted), adjusted)
}

/// The next sizes of older sets, given newest first: pods that are not available go at once, the others as far as enough pods
/// stay available in all sets together (`lasting`: Σ min(spec, available) over every set).
#[must_use]
pub fn next_older(limits: Limits, lasting: i32, older: &[Size]) -> Vec<i32> {
    let mut spare = (lasting - limits.least_available()).max(0);
    older
        .iter()
        .map(|size| {
            let healthy = size.lasting();
            let going = healthy.min(spare);
            spare -= going;
            healthy - going
        })
        .collect()
}

/// A way out of a state in which the formula moves nothing and never will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayOut {
    /// The new set is on its way out (an abort): its pods that are not available make room for the stable set.
    ShedNew(Counts),
    /// The stable set's pods that are not available give their places to the new set. Both are to be written
    /// together, the stable set first: the formula would give the room back to it.
    Swap(Counts),
}

/// Exception (b): where surge is used up and neither the formula nor the older sets can move, pods that are not available make
/// room, so that an update that supersedes another always goes on.
///
/// `None` when nothing needs it. Costs no available pod. A swap is only right for pods that had their time to start.
#[must_use]
pub fn way_out(limits: Limits, wanted: Counts, sizes: Sizes) -> Option<WayOut> {
    let (new, stable) = (sizes.new?, sizes.stable?);
    let excess = new.spec + stable.spec + sizes.older - limits.most();
    if excess < 0 {
        return None;
    }
    if new.spec < wanted.new && new.missing() == 0 && stable.missing() > 0 {
        // What there is beyond the limits goes for good: others, or an earlier spec, wanted it.
        let short = wanted.new - new.spec;
        let going = stable.missing().min(excess + short);
        let grows = (going - excess).max(0);
        return Some(WayOut::Swap(Counts { new: new.spec + grows, stable: stable.spec - going }));
    }
    if new.spec > wanted.new && new.missing() > 0 {
        let going = new.missing().min(new.spec - wanted.new);
        return Some(WayOut::ShedNew(Counts { new: new.spec - going, stable: stable.spec }));
    }
    None
}

fn narrow(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
