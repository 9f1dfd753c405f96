//! What this process was told when it was started, as far as plans depend on it.
//!
//! Values of [`super::Observed`]: the same rollout is planned differently by a server with other flags.

/// What flags say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The status label of pods.
    pub status_labels: StatusLabels,
}

/// A label of pods that tells what their version is to its rollout (docs/pods.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusLabels {
    /// Whether pods carry it where their rollout does not say (`--enable-canary-status-labels`).
    pub enabled: bool,
    /// Its key.
    pub key: String,
    /// Its value for a canary strategy's versions that are not stable.
    pub canary: String,
    /// Its value for the stable version.
    pub stable: String,
    /// Its value for a blue-green strategy's versions that are not active.
    pub preview: String,
    /// Its value for the active version.
    pub active: String,
}

impl Default for StatusLabels {
    fn default() -> Self {
        Self {
            enabled: false,
            key: "argo-rollouts-status".to_owned(),
            canary: "canary".to_owned(),
            stable: "stable".to_owned(),
            preview: "preview".to_owned(),
            active: "active".to_owned(),
        }
    }
}
