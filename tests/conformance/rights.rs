//! What users of the real API server may do in the namespace of a world.

use std::time::Duration;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rolloutd::clock::real_sleep;
use serde_json::{Value, json};

use crate::world::World;

/// How long the API server may take to learn of a role.
const DEADLINE: Duration = Duration::from_secs(60);

/// How often it is asked meanwhile.
const LOOK: Duration = Duration::from_millis(50);

/// Grants a user these rules and no others, by a Role of the same name.
pub async fn grant(world: &World, user: &str, rules: Value) {
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": user }, "rules": rules });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user },
        "subjects": [{ "kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io" }] });
    let apply = PatchParams::apply("test").force();
    let roles: Api<Role> = Api::namespaced(world.client.clone(), &world.namespace);
    roles.patch(user, &apply, &Patch::Apply(role)).await.expect("the role is stored");
    let bindings: Api<RoleBinding> = Api::namespaced(world.client.clone(), &world.namespace);
    bindings.patch(user, &apply, &Patch::Apply(binding)).await.expect("the binding is stored");
}

/// Waits until a user may do something, or may not: the API server learns of roles a little later.
pub async fn until(user: &Client, what: Value, wanted: bool) {
    let review = json!({ "spec": { "resourceAttributes": what } });
    let review: SelfSubjectAccessReview = serde_json::from_value(review).unwrap();
    let reviews: Api<SelfSubjectAccessReview> = Api::all(user.clone());
    let settled = async {
        loop {
            let answer = reviews.create(&PostParams::default(), &review).await.expect("it is reviewed");
            if answer.status.is_some_and(|status| status.allowed == wanted) {
                return;
            }
            real_sleep(LOOK).await;
        }
    };
    tokio::time::timeout(DEADLINE, settled).await.expect("the right is known in time");
}
