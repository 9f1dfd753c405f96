//! What requests that change something have in common, whatever they change.

use crate::pb::v1;

/// A request that changes something.
pub(super) trait Mutating: prost::Message + 'static {
    /// Its method.
    const METHOD: &'static str;

    /// Its id; empty when it has none.
    fn request_id(&self) -> &str;

    /// The name of the rollout that it is about; `None` where it names none that exists.
    fn rollout(&self) -> Option<&str>;

    /// Whether nothing is to be written.
    fn validate_only(&self) -> bool;

    /// How long the answer may be held back.
    fn wait(&self) -> Option<&prost_types::Duration>;
}

macro_rules! mutating {
    ($($message:ident $method:literal $(($wait:ident))? [$($name:tt)*],)+) => {$(
        impl Mutating for v1::$message {
            const METHOD: &'static str = $method;

            fn request_id(&self) -> &str {
                &self.request_id
            }

            fn rollout(&self) -> Option<&str> {
                mutating!(@name self $($name)*)
            }

            fn validate_only(&self) -> bool {
                self.validate_only
            }

            fn wait(&self) -> Option<&prost_types::Duration> {
                None$(.or(self.$wait.as_ref()))?
            }
        }
    )+};
    (@name $self:ident) => { None };
    (@name $self:ident name) => { Some(&$self.name) };
    (@name $self:ident rollout) => { $self.rollout.as_ref().map(|rollout| rollout.name.as_str()) };
}

mutating! {
    CreateRolloutRequest "CreateRollout" (wait) [],
    UpdateRolloutRequest "UpdateRollout" (wait) [rollout],
    DeleteRolloutRequest "DeleteRollout" [name],
    ApplyManifestRequest "ApplyManifest" (wait) [],
    SetRolloutImageRequest "SetRolloutImage" (wait) [name],
    SetRolloutMetadataRequest "SetRolloutMetadata" (wait) [name],
    PromoteRolloutRequest "PromoteRollout" (wait) [name],
    PauseRolloutRequest "PauseRollout" (wait) [name],
    ResumeRolloutRequest "ResumeRollout" (wait) [name],
    AbortRolloutRequest "AbortRollout" (wait) [name],
    RetryRolloutRequest "RetryRollout" (wait) [name],
    RollbackRolloutRequest "RollbackRollout" (wait) [name],
    RestartRolloutRequest "RestartRollout" (wait) [name],
    ScaleRolloutRequest "ScaleRollout" (wait) [name],
}
