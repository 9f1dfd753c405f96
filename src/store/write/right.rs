//! Objects that an account may update, and not patch: Argo Rollouts' own ClusterRole (contract A13) grants that of pods and Deployments.
//! Then the whole object is read and put back with nothing changed but what the patch says, under its own version.

use std::sync::atomic::{AtomicBool, Ordering};

use kube::ResourceExt as _;
use kube::api::DynamicObject;

use super::{Fate, Version, WriteError};

/// Whether an object that was read is the one that was decided on.
pub(super) fn is_at(object: &DynamicObject, version: &Version) -> bool {
    object.uid().as_deref() == Some(&*version.uid)
        && object.resource_version().as_deref() == Some(&*version.resource_version)
}

/// Writes by a patch, or where that is forbidden by an update; `updates` remembers which it is.
pub(super) async fn patch_or_update<T>(
    updates: &AtomicBool,
    patch: impl Future<Output = Result<T, WriteError>>,
    update: impl Future<Output = Result<T, WriteError>>,
) -> Result<T, WriteError> {
    if updates.load(Ordering::Relaxed) {
        return update.await;
    }
    let refusal = match patch.await {
        Err(WriteError::Refused(refusal)) if refusal.lacks_right() => refusal,
        answer => return answer,
    };
    match update.await {
        // Of the two refusals the first says which right would be enough.
        Err(WriteError::Refused(second)) if second.fate == Fate::Denied => Err(WriteError::Refused(refusal)),
        updated => {
            updates.fetch_or(updated.is_ok(), Ordering::Relaxed);
            updated
        }
    }
}
