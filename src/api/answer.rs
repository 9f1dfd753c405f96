//! What mutations answer: each has a message of its own, and all of them say the same.

use super::cluster::Mode;
use super::gitops;
use super::mutation::Done;
use super::token::Token;
use crate::pb::v1;
use crate::store::ResourceVersion;

/// The answer to a mutation.
pub(super) trait Written: prost::Message + Default + 'static {
    /// The rollouts that it shows.
    fn rollouts(&mut self) -> impl Iterator<Item = &mut v1::Rollout> + Send;

    /// The version that it is of; empty when it is of none.
    fn consistency_token(&self) -> &str;

    /// Adds what the caller ought to know.
    fn warn(&mut self, warnings: Vec<v1::Warning>);
}

/// The answer to a mutation of one rollout.
pub(super) trait Answer: Written {
    /// The rollout as it then is, what the caller ought to know, and the version of it.
    fn new(rollout: v1::Rollout, warnings: Vec<v1::Warning>, consistency_token: String) -> Self;
}

macro_rules! answers {
    ($($message:ident,)+) => {$(
        impl Written for v1::$message {
            fn rollouts(&mut self) -> impl Iterator<Item = &mut v1::Rollout> + Send {
                self.rollout.iter_mut()
            }

            fn consistency_token(&self) -> &str {
                &self.consistency_token
            }

            fn warn(&mut self, warnings: Vec<v1::Warning>) {
                self.warnings.extend(warnings);
            }
        }

        impl Answer for v1::$message {
            fn new(rollout: v1::Rollout, warnings: Vec<v1::Warning>, consistency_token: String) -> Self {
                Self { rollout: Some(rollout), warnings, consistency_token }
            }
        }
    )+};
}

answers! {
    CreateRolloutResponse,
    UpdateRolloutResponse,
    SetRolloutImageResponse,
    SetRolloutMetadataResponse,
    PromoteRolloutResponse,
    PauseRolloutResponse,
    ResumeRolloutResponse,
    AbortRolloutResponse,
    RetryRolloutResponse,
    RollbackRolloutResponse,
    RestartRolloutResponse,
    ScaleRolloutResponse,
}

impl Written for v1::ApplyManifestResponse {
    fn rollouts(&mut self) -> impl Iterator<Item = &mut v1::Rollout> + Send {
        self.objects.iter_mut().filter_map(|object| object.rollout.as_mut())
    }

    fn consistency_token(&self) -> &str {
        &self.consistency_token
    }

    fn warn(&mut self, warnings: Vec<v1::Warning>) {
        self.warnings.extend(warnings);
    }
}

impl Written for v1::DeleteRolloutResponse {
    fn rollouts(&mut self) -> impl Iterator<Item = &mut v1::Rollout> + Send {
        std::iter::empty()
    }

    fn consistency_token(&self) -> &str {
        &self.consistency_token
    }

    fn warn(&mut self, _: Vec<v1::Warning>) {}
}

/// The answer that says what was done to a rollout, or would be.
pub(super) fn of<A: Answer>(done: &Done) -> A {
    // A dry run has no version of its own.
    let version = ResourceVersion::parse(done.after.version()).filter(|_| done.mode == Mode::Commit);
    let before = done.before.as_ref();
    let warnings = before.and_then(|before| gitops::warning(&before.object, &done.after, ""));
    A::new(done.after.show(), warnings.into_iter().collect(), Token::of_version(version))
}
