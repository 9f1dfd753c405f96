//! What mutations answer: each has a message of its own, and all of them say the same.

use super::cluster::Mode;
use super::mutation::Subject;
use super::token::Token;
use crate::pb::v1;
use crate::store::ResourceVersion;

/// The answer to a mutation of one rollout.
pub(super) trait Answer: prost::Message + Default + 'static {
    /// The rollout as it then is, what the caller ought to know, and the version of it.
    fn new(rollout: v1::Rollout, warnings: Vec<v1::Warning>, consistency_token: String) -> Self;
}

macro_rules! answers {
    ($($message:ident,)+) => {$(
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
    PromoteRolloutResponse,
    PauseRolloutResponse,
    ResumeRolloutResponse,
    AbortRolloutResponse,
    RetryRolloutResponse,
    RollbackRolloutResponse,
    ScaleRolloutResponse,
}

/// The answer that shows a rollout as it was written, or would be.
pub(super) fn of<A: Answer>(subject: &Subject, mode: Mode) -> A {
    // A dry run has no version of its own.
    let version = ResourceVersion::parse(subject.version()).filter(|_| mode == Mode::Commit);
    A::new(subject.show(), Vec::new(), Token::of_version(version))
}
