//! Programs that found something in the engine, each by its seed and by what it found: they must not find it again.
//!
//! A seed tells its story as long as the generator of programs stands still. What can be told without a race is in a unit test of the
//! code that was mended as well.

use crate::program::Program;
use crate::run::{replay_line, simulate};

/// A test for each program.
macro_rules! found {
    ($($(#[$about:meta])* $name:ident: $seed:literal,)*) => {
        $($(#[$about])* #[test] fn $name() { passes($seed); })*
    };
}

found! {
    a_set_that_is_created_without_labels_to_inherit_inherits_later_ones: 131,
    a_restart_leaves_a_version_its_pods_where_the_cache_of_pods_is_behind: 2_230,
    taking_over_from_a_deployment_begins_also_where_the_first_revision_was_superseded: 2_516,
    what_a_new_leader_withdraws_from_pods_stays_withdrawn: 4_740,
    evictions_do_not_count_on_pods_that_are_being_deleted: 6_268,
    what_was_withdrawn_is_remembered_until_the_cache_shows_it: 6_877,
    the_deadline_runs_for_a_stable_version_that_was_put_onto_a_plugin: 8_287,
    a_set_that_lost_its_hash_label_before_it_was_ever_listed_is_found_by_its_pods: 8_356,
    a_set_that_is_deleted_after_it_lost_its_hash_label_is_followed_to_its_end: 9_643,
    taking_over_that_is_over_is_not_begun_again_by_a_scale_up: 9_659,
    evictions_do_not_count_on_pods_that_the_cache_shows_for_too_long: 10_823,
    a_restart_that_comes_before_the_first_status_is_carried_out: 11_711,
    a_stable_set_without_pods_and_hash_label_is_not_taken_for_gone: 13_579,
    evictions_do_not_count_on_pods_that_a_set_had_before_it_shrank_and_grew: 16_245,
    a_set_that_lost_its_hash_label_is_read_again_before_a_service_selects_it: 18_492,
    what_is_withdrawn_is_remembered_while_pods_are_written: 19_891,
    where_nothing_may_shrink_yet_nothing_grows_into_its_room: 26_934,
    a_plugin_is_not_asked_by_what_it_was_before_it_answered: 27_918,
    a_step_that_a_plugin_ended_after_it_was_left_is_not_ended_once_more: 30_665,
    a_restart_is_not_done_before_the_first_pods_are_seen: 34_569,
    nor_before_their_controller_has_counted_them: 35_529,
    a_version_that_is_switched_to_is_not_made_a_preview_again: 109_746,
}

fn passes(seed: u64) {
    let outcome = simulate(&Program::of(seed), None);
    assert_eq!(outcome.error, None, "{}", replay_line(seed));
}
