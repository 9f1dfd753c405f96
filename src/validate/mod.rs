//! Is a spec valid? Pure checks that answer with field violations, all of them at once.
//!
//! Used by the planner (condition InvalidSpec), by the API (INVALID_ARGUMENT) and by the client's offline lint, so that all of them
//! agree. Depends on L0. Rules and wording follow Argo Rollouts' validation (contract A13) and, for pod templates, Kubernetes'.

mod canary;
mod change;
mod credential;
mod environment;
mod ephemeral;
mod inheritance;
mod labels;
mod metadata;
mod path;
mod pod_template;
mod reference;
mod spec;
mod status_labels;
mod violation;

pub use change::{Unheeded, unheeded};
pub use environment::{
    EnvironmentVolume, Side, Values, allowed, environment, environment_volume, environment_window_or_default,
    values_of,
};
pub use inheritance::Inheritance;
pub use labels::{key_rule, matches as selects, value_rule};
pub use metadata::metadata;
pub use path::{Path, Segment};
pub use reference::{ServiceFacts, service, workload};
pub use spec::{has_own_template, resolved, rollout};
pub use status_labels::status_labels;
pub use violation::{Kind, Violation};
