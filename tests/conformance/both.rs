//! Tests that run once on each cluster.

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
