use proptest::prelude::*;

use super::*;

#[test]
fn a_weight_between_nothing_and_everything_leaves_both_sides_a_pod() {
    for r in 2..=20 {
        for w in 1..=99 {
            for s in 0..=2 {
                let counts = share_for_weight(r, w, 100, s);
                assert!(counts.new >= 1 && counts.stable >= 1, "r={r} w={w} s={s}: {counts:?}");
            }
        }
    }
}

#[test]
fn examples_of_shares() {
    for (r, w, s, new, stable) in [
        (10, 10, 1, 1, 9),
        (10, 5, 1, 1, 10),
        (1, 5, 1, 1, 1),
        (1, 95, 1, 1, 1),
        (1, 50, 0, 1, 0),
        (5, 20, 2, 1, 4),
        (5, 100, 2, 5, 0),
        (5, 0, 2, 0, 5),
        (3, 50, 1, 2, 2),
        (0, 50, 1, 0, 0),
    ] {
        assert_eq!(share_for_weight(r, w, 100, s), Counts { new, stable }, "r={r} w={w} s={s}");
    }
}

#[test]
fn rounding_both_limits_to_zero_allows_one_unavailable() {
    assert_eq!(Limits::new(4, 0, 0).unavailable, 1);
    assert_eq!(Limits::new(0, 0, 0), Limits { replicas: 0, surge: 0, unavailable: 0 });
    assert_eq!(Limits::new(2, 1, 5).unavailable, 2);
}

#[test]
fn a_dead_stable_pod_makes_room_for_a_third_revision_when_surge_is_used_up() {
    // R=1, S=1, U=0: the stable pod is dead, revision 2 is available, revision 3 arrives.
    let limits = Limits::new(1, 1, 0);
    let wanted = Counts { new: 1, stable: 1 };
    let sizes = Sizes { new: Some(Size::default()), stable: Some(Size { spec: 1, available: 0 }), older: 1 };
    assert_eq!(
        next_counts(limits, wanted, sizes),
        Counts { new: 0, stable: 1 },
        "the formula alone is stuck"
    );
    assert_eq!(next_older(limits, 1, &[Size { spec: 1, available: 1 }]), [1], "and so are older sets");
    assert_eq!(way_out(limits, wanted, sizes), Some(WayOut::Swap(Counts { new: 1, stable: 0 })));
}

/// Found by the simulation (seed 2462): spec.replicas had fallen while the stable version had no available pod, and the update gave
/// its pods' places to the new version though more pods were wanted than there may be.
#[test]
fn places_beyond_the_limits_are_given_up_and_not_passed_on() {
    let limits = Limits { replicas: 7, surge: 0, unavailable: 6 };
    let wanted = Counts { new: 2, stable: 5 };
    let size = |spec, available| Some(Size { spec, available });
    let next = |stable, older| match way_out(limits, wanted, Sizes { new: size(0, 0), stable, older }) {
        Some(WayOut::Swap(Counts { new, stable })) => (new, stable),
        other => panic!("{other:?}"),
    };
    assert_eq!(next(size(12, 0), 1), (2, 4), "six of them are beyond the limits, two are passed on");
    assert_eq!(next(size(12, 10), 1), (0, 10), "those that are missing are not enough for the limits");
    assert_eq!(next(size(6, 0), 1), (2, 4), "none is beyond the limits");
}

#[test]
fn pods_of_an_aborted_version_that_never_came_up_make_room_for_the_stable_one() {
    // R=1, S=1, U=0: revision 2 stood alone at weight 100, revision 3 never became available and is aborted.
    let limits = Limits::new(1, 1, 0);
    let wanted = Counts { new: 0, stable: 1 };
    let sizes = Sizes {
        new: Some(Size { spec: 1, available: 0 }),
        stable: Some(Size { spec: 0, available: 0 }),
        older: 1,
    };
    assert_eq!(
        next_counts(limits, wanted, sizes),
        Counts { new: 1, stable: 0 },
        "the formula alone is stuck"
    );
    assert_eq!(way_out(limits, wanted, sizes), Some(WayOut::ShedNew(Counts { new: 0, stable: 0 })));
}

#[test]
fn older_sets_lose_unavailable_pods_first_and_the_newest_set_goes_first() {
    let limits = Limits::new(5, 1, 1);
    let older = [Size { spec: 2, available: 2 }, Size { spec: 3, available: 1 }];
    // Lasting: 3 of the older, 2 of the stable set; one pod may go.
    assert_eq!(next_older(limits, 5, &older), [1, 1]);
    // Nothing available may go; what is not available still does.
    assert_eq!(next_older(limits, 4, &older), [2, 1]);
}

prop_compose! {
    fn size()(spec in 0..8_i32, available in 0..10_i32) -> Size { Size { spec, available: available.min(spec + 2) } }
}

prop_compose! {
    fn limits()(replicas in 0..13, surge in 0..6, unavailable in 0..6) -> Limits { Limits::new(replicas, surge, unavailable) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn older_sets_never_take_availability_below_the_least(
        limits in limits(), older in proptest::collection::vec(size(), 0..4), rest in 0..8,
    ) {
        let before = rest + older.iter().map(|size| size.lasting()).sum::<i32>();
        let next = next_older(limits, before, &older);
        let after = rest + older.iter().zip(&next).map(|(size, &spec)| spec.min(size.available)).sum::<i32>();
        prop_assert!(after >= limits.least_available().min(before));
        prop_assert!(older.iter().zip(&next).all(|(size, &spec)| (0..=size.spec).contains(&spec)));
    }

    #[test]
    fn a_way_out_costs_no_available_pod(limits in limits(), weight in 0..=100, new in size(), stable in size(), older in 0..4) {
        let wanted = share_for_weight(limits.replicas, weight, 100, limits.surge);
        let next = match way_out(limits, wanted, Sizes { new: Some(new), stable: Some(stable), older }) {
            None => return Ok(()),
            Some(WayOut::ShedNew(next)) => next,
            Some(WayOut::Swap(next)) => {
                prop_assert!(next.new + next.stable <= new.spec + stable.spec);
                let is_within = next.new + next.stable + older <= limits.most();
                prop_assert!(is_within || next.new == new.spec, "places beyond the limits are not passed on");
                next
            }
        };
        prop_assert!(next.new.min(new.available) >= new.lasting());
        prop_assert!(next.stable.min(stable.available) == stable.lasting());
        prop_assert!(next.new <= wanted.new.max(new.spec));
    }
}

/// Found by the simulation (seed 26934): somebody had resized the stable set below the pods it had; after an abort it was to keep them, and the
/// new set was not to shrink yet, since the stable set's status was about its former spec.
#[test]
fn where_nothing_may_shrink_yet_nothing_grows_into_its_room() {
    let limits = Limits::new(12, 0, 3);
    let next = |new: i32| {
        let sizes = Sizes {
            new: Some(Size { spec: new, available: 0 }),
            stable: Some(Size { spec: 2, available: 3 }),
            older: 0,
        };
        let now = Counts { new, stable: 2 };
        let next = next_counts(limits, Counts { new: 0, stable: 12 }, sizes);
        (next.stable, next.at_least(now).grown_within(limits.most() - new - 2, now))
    };
    assert_eq!(next(10), (3, Counts { new: 10, stable: 2 }));
    assert_eq!(next(9), (3, Counts { new: 9, stable: 3 }));
}
