//! What the contract has and this version does not do: refused by name, never ignored.

use rolloutd::pb::v1;
use tonic::Code;

use crate::expect::{Refusal, refused};
use crate::world::{World, name};

fn is_not_implemented(refusal: Refusal, key: &str, value: &str) {
    let refusal = refusal.is(Code::Unimplemented, "NOT_IMPLEMENTED").says(value).says("nothing was done");
    assert_eq!(refusal.metadata[key], value);
    assert!(!refusal.metadata["version"].is_empty());
}

#[tokio::test(start_paused = true)]
async fn methods_without_an_implementation_say_so() {
    let world = World::new().await;
    world.store_rollout("web").await;
    let mut client = world.rollouts();
    macro_rules! check {
        ($($method:ident $request:ident { $field:ident } $name:literal,)+) => {$(
            let mut request = v1::$request::default();
            request.$field = name("web");
            let refusal = refused(world.untouched(client.$method(request)).await);
            is_not_implemented(refusal, "method", $name);
        )+};
    }
    check! {
        set_rollout_metadata SetRolloutMetadataRequest { name } "SetRolloutMetadata",
    }
}
