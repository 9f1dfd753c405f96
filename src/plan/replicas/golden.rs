//! The formulae of contract 4.5 written down again, literally and apart from the engine, and compared with it over every small rollout.
//!
//! The engine departs from them in the cases of [`Exception`] and in no other. The sizes are those of [`super::super::canary`], which
//! adds to the arithmetic what it knows of ReplicaSets.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::crd::{CanaryStrategy, Strategy};
use crate::plan::revision::{NewSet, Revisions};
use crate::plan::stance::Stance;
use crate::plan::{Observed, ReplicaSet, SetStatus, canary};

const MOST_REPLICAS: i32 = 20;

/// Where the engine answers otherwise than the formula, each with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exception {
    /// (a) Without surge, a tie whose upper value takes every pod leaves no option; the reference answers no canary at all, which only
    /// weight 0 asks for. One pod stays stable instead.
    NoOption,
    /// (b) Surge is used up and the formula moves nothing: pods of the stable set that are not available give their places to the new
    /// one, or the update would stand still for ever.
    PlacesOfDeadStablePods,
    /// (b) The same where the new set is on its way out: its pods that are not available make room for the stable set.
    PlacesOfDeadNewPods,
    /// A set's status is about an older spec: pods that it calls available may be on their way out already, so that nothing shrinks on
    /// its word. The reference would shrink by counts that are out of date, below what maxUnavailable permits.
    StaleStatus,
}

/// The formula's answer to how pods are shared; `None` where it has no option at all.
fn share(r: i32, w: i32, max: i32, s: i32) -> Option<(i32, i32)> {
    if r == 0 {
        return Some((0, 0));
    }
    let exact = f64::from(r * w) / f64::from(max);
    let (c, f) = (whole(exact.ceil()), whole(exact.floor()));
    let tied = |t: i32| (f64::from(t) * (f64::from(w) / f64::from(max))).fract() == 0.5;
    let zero_ok = w == max || w == 0 || (r == 1 && s == 0);
    let mut opts = vec![];
    if c < r || zero_ok {
        opts.push((c, r));
    }
    if !tied(r) && (f != 0 || zero_ok) {
        opts.push((f, r));
    }
    if s > 0 {
        opts.push((c, r + 1));
        if !tied(r + 1) && (f != 0 || zero_ok) {
            opts.push((f, r + 1));
        }
    }
    let delta =
        |(canary, total): (i32, i32)| (f64::from(canary * max) / f64::from(total) - f64::from(w)).abs();
    let mut best = *opts.first()?;
    for o in opts {
        if delta(o) < delta(best) {
            best = o;
        }
    }
    Some((best.0, best.1 - best.0))
}

#[expect(clippy::cast_possible_truncation, reason = "a small whole number")]
fn whole(number: f64) -> i32 {
    number as i32
}

/// The formula's answer to what the new and the stable set are to have next.
fn next(l: Limits, want: (i32, i32), new: Option<Size>, stable: Option<Size>, old: i32) -> (i32, i32) {
    let rfs = |set: Option<Size>, ignore: bool| match set {
        None => 0,
        Some(s) if s.spec < s.available || ignore => s.spec,
        Some(s) => s.available,
    };
    let (mut want_new, mut want_stable) = want;
    if stable.is_none() {
        (want_new, want_stable) = (l.replicas, 0);
    }
    let spec = |s: Option<Size>| s.map_or(0, |s| s.spec);
    let (mut n, mut st) = (spec(new), spec(stable));
    let mut up = l.replicas + l.surge - spec(new) - spec(stable) - old;
    if spec(stable) < want_stable && up > 0 {
        let used = up.min(want_stable - spec(stable));
        st = spec(stable) + used;
        up -= used;
    }
    if spec(new) < want_new && up > 0 {
        n = spec(new) + up.min(want_new - spec(new));
    }
    if old > 0 {
        return (n, st);
    }
    let min_avail = l.replicas - l.unavailable;
    let inc = new.is_none() || want_new >= spec(new);
    let avail = rfs(new, !inc) + rfs(stable, inc);
    if avail <= min_avail {
        return (n, st);
    }
    let down = avail - min_avail;
    let adjust = |d: Option<Size>, a: Option<Size>, mut dc: i32, mut ac: i32| {
        let (da, Some(a)) = (d.map_or(0, |d| d.available), a) else { return (dc, ac) };
        let max = l.replicas + l.surge;
        let over = 0.max(ac + dc - max);
        ac -= over;
        let tot = da.min(dc) + a.available.min(ac);
        let extra = 0.max(a.available - ac);
        let need = 0.max(min_avail - tot);
        ac += extra.min(need);
        dc -= 0.max(ac + dc - max);
        (dc, ac)
    };
    if !inc {
        if spec(new) > want_new {
            n = want_new.max(spec(new) - down);
        }
        (n, st) = adjust(new, stable, n, st);
    } else if stable.is_some() {
        if spec(stable) > want_stable {
            st = want_stable.max(spec(stable) - down);
        }
        (st, n) = adjust(stable, new, st, n);
    }
    (n, st)
}

/// Fenceposts as the contract has them.
fn fenceposts(r: i32, s: i32, u: i32) -> Limits {
    let u = if s == 0 && u == 0 { 1 } else { u };
    Limits { replicas: r, surge: s, unavailable: u.min(r) }
}

/// Numbers that look random and are the same every time.
struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: i32) -> i32 {
        // The constants of Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bound = u64::try_from(bound).expect("bounds are not negative");
        i32::try_from((self.0 >> 33) % bound).expect("it is below a bound that fits")
    }

    /// A size that a set may be found with: up to one pod more than is wanted may be available.
    fn size(&mut self, most: i32) -> Size {
        let spec = self.below(most + 1);
        Size { spec, available: self.below(spec + 2) }
    }

    fn perhaps(&mut self, size: Size) -> Option<Size> {
        (self.below(8) > 0).then_some(size)
    }
}

/// All limits of rollouts of up to so many pods.
fn limits_up_to(replicas: i32) -> impl Iterator<Item = Limits> {
    (0..=replicas).flat_map(|r| (0..=r).flat_map(move |s| (0..=r).map(move |u| fenceposts(r, s, u))))
}

#[test]
fn fenceposts_are_those_of_the_contract() {
    for r in 0..=MOST_REPLICAS {
        for (s, u) in (0..=r).flat_map(|s| (0..=r + 1).map(move |u| (s, u))) {
            assert_eq!(Limits::new(r, s, u), fenceposts(r, s, u), "r={r} s={s} u={u}");
        }
    }
}

#[test]
fn shares_are_those_of_the_contract_but_for_exception_a() {
    let mut exceptions = BTreeSet::new();
    for r in 0..=MOST_REPLICAS {
        for (w, s) in (0..=100).flat_map(|w| (0..=r).map(move |s| (w, s))) {
            let ours = share_for_weight(r, w, 100, s);
            let theirs = share(r, w, 100, s).unwrap_or_else(|| {
                exceptions.insert((r, w, s));
                (r - 1, 1)
            });
            assert_eq!((ours.new, ours.stable), theirs, "r={r} w={w} s={s}");
        }
    }
    // All of them, worked out by hand: without surge, where pods times weight is half a pod short of all pods.
    let by_hand = (2..=MOST_REPLICAS).flat_map(|r| (1..100).map(move |w| (r, w, 0)));
    let by_hand: BTreeSet<_> = by_hand.filter(|(r, w, _)| 2 * r * w == 100 * (2 * r - 1)).collect();
    assert_eq!(exceptions, by_hand);
    assert!(by_hand.is_superset(&[(2, 75, 0), (5, 90, 0), (10, 95, 0)].into()), "{by_hand:?}");
}

#[test]
fn of_few_pods_every_growth_and_every_shrinking_is_that_of_the_contract() {
    const FEW: i32 = 3;
    let mut compared = 0;
    for limits in limits_up_to(FEW) {
        let most = limits.most();
        let sizes: Vec<Size> = (0..=most)
            .flat_map(|spec| (0..=spec + 1).map(move |available| Size { spec, available }))
            .collect();
        let sets: Vec<Option<Size>> = std::iter::once(None).chain(sizes.into_iter().map(Some)).collect();
        let shares: BTreeSet<(i32, i32)> = (0..=100)
            .map(|weight| share_for_weight(limits.replicas, weight, 100, limits.surge))
            .map(|counts| (counts.new, counts.stable))
            .collect();
        for (&want, older) in shares.iter().flat_map(|share| (0..=1).map(move |older| (share, older))) {
            for (&new, &stable) in sets.iter().flat_map(|new| sets.iter().map(move |stable| (new, stable))) {
                let wanted = Counts { new: want.0, stable: want.1 };
                let ours = next_counts(limits, wanted, Sizes { new, stable, older });
                let theirs = next(limits, want, new, stable, older);
                assert_eq!((ours.new, ours.stable), theirs, "{limits:?} {want:?} {new:?} {stable:?} {older}");
                compared += 1;
            }
        }
    }
    assert!(compared > 50_000, "{compared}");
}

/// A ReplicaSet of a size, with a status that is about its spec or about an older one.
fn set(name: &str, size: Size, observed_generation: i64) -> ReplicaSet {
    ReplicaSet {
        name: name.to_owned(),
        generation: 2,
        replicas: size.spec,
        status: SetStatus { available: size.available, observed_generation, ..SetStatus::default() },
        ..ReplicaSet::default()
    }
}

fn observed(limits: Limits) -> Observed {
    let canary = json!({ "maxSurge": limits.surge, "maxUnavailable": limits.unavailable, "steps": [{ "setWeight": 0 }] });
    // Progress was last made long ago: pods have had their time to start.
    let progressing = json!({
        "type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "message": "",
        "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let rollout = json!({
        "metadata": { "name": "web" },
        "spec": { "replicas": limits.replicas, "strategy": { "canary": canary } },
        "status": { "conditions": [progressing] },
    });
    Observed::alone(Arc::new(serde_json::from_value(rollout).unwrap()))
}

/// A rollout with its sets, as they are drawn.
struct Case {
    limits: Limits,
    weight: i32,
    sizes: Sizes,
    /// Whether the new set's status is about an older spec.
    stale: bool,
}

impl Case {
    fn drawn(limits: Limits, weight: i32, draw: &mut Draw) -> Self {
        let most = limits.most();
        let new = draw.size(most);
        // Nearly always they are about as many as there may be, as sets are that were sized by these limits.
        let stable = match draw.below(4) {
            0 => draw.size(most),
            _ => Size { spec: (most - new.spec - draw.below(2)).max(0), available: draw.below(most + 1) },
        };
        let older = if draw.below(4) == 0 { draw.below(3) } else { 0 };
        let sizes = Sizes { new: draw.perhaps(new), stable: draw.perhaps(stable), older };
        Self { limits, weight, stale: draw.below(6) == 0, sizes }
    }

    /// What the engine decides.
    fn ours(&self, seen: &Observed, canary: &CanaryStrategy, now: Timestamp) -> (i32, i32) {
        let observed_generation = if self.stale { 1 } else { 2 };
        let new = self.sizes.new.map(|size| set("web-new", size, observed_generation));
        let stable = self.sizes.stable.map(|size| set("web-stable", size, 2));
        let older = set("web-older", Size { spec: self.sizes.older, available: self.sizes.older }, 2);
        let revisions = Revisions {
            new: new.as_ref().map_or(NewSet::Missing, NewSet::Found),
            hash: "new".to_owned(),
            step_hash: String::new(),
            stable: stable.as_ref(),
            others: if self.sizes.older > 0 { vec![&older] } else { Vec::new() },
            number: 2,
        };
        let stance = Stance { step: Some(0), stable: "stable".to_owned(), ..Stance::seen(seen, &revisions) };
        let sizing = canary::sizing(seen, &revisions, &stance, canary, now);
        (sizing.new, sizing.stable)
    }

    /// What the formula decides, and what the engine makes of it by an exception.
    fn theirs(&self) -> ((i32, i32), Option<Exception>) {
        let Self { limits, weight, sizes, stale } = self;
        let (by_share, wanted) = match share(limits.replicas, *weight, 100, limits.surge) {
            Some(share) => (None, share),
            None => (Some(Exception::NoOption), (limits.replicas - 1, 1)),
        };
        let spec = |size: Option<Size>| size.map_or(0, |size| size.spec);
        let now = (spec(sizes.new), spec(sizes.stable));
        let next = next(*limits, wanted, sizes.new, sizes.stable, sizes.older);
        let most = limits.replicas + limits.surge;
        if *stale && sizes.new.is_some() && (next.0 < now.0 || next.1 < now.1) {
            let room = (most - now.0 - now.1 - sizes.older).max(0);
            let stable = next.1.clamp(now.1, now.1 + room);
            let new = next.0.clamp(now.0, now.0 + room - (stable - now.1));
            return ((new, stable), Some(Exception::StaleStatus));
        }
        // Older sets move by themselves where more pods are available than must be.
        let (Some(new), Some(stable)) = (sizes.new, sizes.stable) else { return (next, by_share) };
        let lasting = new.spec.min(new.available) + stable.spec.min(stable.available) + sizes.older;
        let older_moves = sizes.older > 0 && lasting > limits.replicas - limits.unavailable;
        let total = new.spec + stable.spec + sizes.older;
        if *stale || next != now || older_moves || total < most {
            return (next, by_share);
        }
        let dead = |size: Size| (size.spec - size.available).max(0);
        if new.spec < wanted.0 && dead(new) == 0 && dead(stable) > 0 {
            // One by one: a pod goes, and its place is passed on where that keeps to the limits.
            let (mut to, mut total) = ((new.spec, stable.spec), total);
            for _ in 0..dead(stable) {
                if total <= most && to.0 == wanted.0 {
                    break;
                }
                (to.1, total) = (to.1 - 1, total - 1);
                if total < most {
                    (to.0, total) = (to.0 + 1, total + 1);
                }
            }
            return (to, Some(Exception::PlacesOfDeadStablePods));
        }
        if new.spec > wanted.0 && dead(new) > 0 {
            let going = dead(new).min(new.spec - wanted.0);
            return ((new.spec - going, stable.spec), Some(Exception::PlacesOfDeadNewPods));
        }
        (next, by_share)
    }
}

#[test]
fn growth_and_shrinking_are_those_of_the_contract_but_for_the_exceptions() {
    let now: Timestamp = "2026-01-02T00:00:00Z".parse().unwrap();
    let mut draw = Draw(0);
    let mut exceptions = BTreeSet::new();
    for limits in limits_up_to(MOST_REPLICAS) {
        let seen = observed(limits);
        let Ok(Strategy::Canary(canary)) = seen.rollout.spec.strategy() else { panic!("it is a canary") };
        let mut canary = canary.clone();
        for weight in 0..=100 {
            canary.steps.as_mut().unwrap()[0].set_weight = Some(weight);
            let case = Case::drawn(limits, weight, &mut draw);
            let (theirs, exception) = case.theirs();
            let ours = case.ours(&seen, &canary, now);
            assert_eq!(ours, theirs, "{limits:?} weight {weight} {:?} {exception:?}", case.sizes);
            exceptions.extend(exception);
        }
    }
    let all = [
        Exception::NoOption,
        Exception::PlacesOfDeadStablePods,
        Exception::PlacesOfDeadNewPods,
        Exception::StaleStatus,
    ];
    assert_eq!(exceptions, all.into(), "each of them is met");
}
