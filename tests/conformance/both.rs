//! Tests that run on each cluster: once, or by each driver with several sizes.

/// Runs scenarios on both clusters, by both drivers, with several sizes; and once under Argo Rollouts' own ClusterRole.
macro_rules! scenarios {
    ($($name:ident)+) => {
        mod on_the_embedded_cluster {
            $(#[test] fn $name() { crate::scenarios::embedded(super::$name); })+
        }

        mod on_kubernetes {
            $(#[test] fn $name() { crate::scenarios::real(super::$name); })+
        }

        mod under_argo_rollouts_cluster_role_on_the_embedded_cluster {
            $(#[test] fn $name() { crate::scenarios::embedded_under_its_role(super::$name); })+
        }

        mod under_argo_rollouts_cluster_role_on_kubernetes {
            $(#[test] fn $name() { crate::scenarios::real_under_its_role(super::$name); })+
        }
    };
}

/// Runs a scenario on both clusters.
macro_rules! on_both {
    ($($name:ident)+) => {
        mod on_the_embedded_cluster {
            $(#[test] fn $name() {
                crate::scenarios::in_virtual_time(async || super::$name(crate::world::World::embedded().await).await);
            })+
        }

        mod on_kubernetes {
            $(#[test] fn $name() {
                crate::kubernetes::runtime().block_on(async {
                    match crate::world::World::real().await {
                        Some(world) => super::$name(world).await,
                        None => println!("skipped: KUBEBUILDER_ASSETS is not set"),
                    }
                });
            })+
        }
    };
}
