//! What a simulated cluster does, as its users see it: the same scenarios on every kind of API server.
//!
//! `lab` gives each scenario a namespace, a client and a cluster, and waits by watching. A kind of API server is one
//! module below; a scenario is one line in the list.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "all of it is tests")]

#[path = "../support/kubernetes.rs"]
mod kubernetes;

mod budgets;
mod faults;
mod garbage;
mod lab;
mod namespaces;
mod nodes;
mod pods;
mod replica_sets;

/// One test for each scenario, run by `$run`.
macro_rules! tests {
    ($run:path: $($module:ident { $($scenario:ident,)+ })+) => {
        $(mod $module {
            $(#[test]
            fn $scenario() {
                $run(stringify!($scenario), crate::$module::$scenario);
            })+
        })+
    };
}

/// Every scenario that needs nothing but what any API server offers.
macro_rules! every_scenario {
    ($run:path) => {
        tests! { $run:
            replica_sets {
                a_set_is_scaled_up_and_down,
                pods_that_start_together_become_ready_together,
                terminating_pods_do_not_count,
                the_cheapest_pod_goes_first,
                min_ready_seconds_delay_availability,
                three_hundred_pods_become_ready_and_go,
            }
            pods {
                a_pod_reports_what_a_kubelet_reports,
                a_pod_may_never_become_ready,
                a_crashing_pod_backs_off,
                an_image_may_not_be_pulled,
                a_malformed_annotation_is_told_by_an_event,
                a_pod_becomes_unready_and_ready_again,
                a_crashed_pod_is_restarted,
                a_killed_pod_is_replaced,
                a_pod_of_nobody_is_placed_and_run,
                a_readiness_gate_holds_a_pod_back,
            }
            garbage {
                pods_go_after_their_set_in_the_background,
                pods_go_before_their_set_in_the_foreground,
                orphaned_pods_stay,
                a_custom_owner_takes_sets_and_pods_along,
                a_custom_owner_waits_for_sets_and_pods_in_the_foreground,
                another_owner_keeps_an_object,
                an_object_born_to_a_missing_owner_goes,
            }
            budgets {
                a_budget_gives_one_pod_at_a_time,
            }
            namespaces {
                a_deleted_namespace_is_emptied,
            }
            faults {
                no_pod_is_made_twice_and_all_goes_well_in_the_end,
            }
            nodes {
                pods_of_a_lost_node_are_replaced_and_go_when_it_is_back,
                another_cluster_goes_on_where_one_stopped,
                an_idle_cluster_asks_nothing,
            }
        }
    };
}

mod on_embedded {
    every_scenario!(crate::lab::on_embedded);

    /// What takes minutes, which only virtual time has.
    mod minutes {
        #[test]
        fn an_eviction_that_deletes_nothing_is_given_back() {
            crate::lab::on_embedded(
                "eviction_given_back",
                crate::budgets::an_eviction_that_deletes_nothing_is_given_back,
            );
        }
    }
}

mod on_kubernetes {
    every_scenario!(crate::lab::on_kubernetes);

    /// Admission as only the real server has it.
    mod admission {
        #[test]
        fn a_refused_creation_is_told_until_it_succeeds() {
            crate::lab::on_kubernetes(
                "refused_creation",
                crate::replica_sets::a_refused_creation_is_told_until_it_succeeds,
            );
        }
    }
}
