//! What requests that change something have in common, whatever they change.

use crate::pb::v1;

/// A request that changes something.
pub(super) trait Mutating: prost::Message + 'static {
    /// Its method.
    const METHOD: &'static str;

    /// Its id; empty when it has none.
    fn request_id(&self) -> &str;

    /// Whether nothing is to be written.
    fn validate_only(&self) -> bool;

    /// How long the answer may be held back.
    fn wait(&self) -> Option<&prost_types::Duration>;
}

macro_rules! mutating {
    ($($message:ident $method:literal $(($wait:ident))?,)+) => {$(
        impl Mutating for v1::$message {
            const METHOD: &'static str = $method;

            fn request_id(&self) -> &str {
                &self.request_id
            }

            fn validate_only(&self) -> bool {
                self.validate_only
            }

            fn wait(&self) -> Option<&prost_types::Duration> {
                None$(.or(self.$wait.as_ref()))?
            }
        }
    )+};
}

mutating! {
    CreateRolloutRequest "CreateRollout" (wait),
    UpdateRolloutRequest "UpdateRollout" (wait),
    DeleteRolloutRequest "DeleteRollout",
    ApplyManifestRequest "ApplyManifest" (wait),
    SetRolloutImageRequest "SetRolloutImage" (wait),
    PromoteRolloutRequest "PromoteRollout" (wait),
    PauseRolloutRequest "PauseRollout" (wait),
    ResumeRolloutRequest "ResumeRollout" (wait),
    AbortRolloutRequest "AbortRollout" (wait),
    RetryRolloutRequest "RetryRollout" (wait),
    RollbackRolloutRequest "RollbackRollout" (wait),
    RestartRolloutRequest "RestartRollout" (wait),
    ScaleRolloutRequest "ScaleRollout" (wait),
}
