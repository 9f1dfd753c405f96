//! Labels, annotations and label values that Argo Rollouts and its clients agree on (contract 4.1).
//!
//! Depends on nothing. Every module that reads or writes one of them takes it from here, so that a key is
//! spelled once.

/// Label with the pod-template hash: on ReplicaSets and their pods, in the selectors of ReplicaSets and
/// Services, on AnalysisRuns and Experiments, and in DestinationRule subsets.
pub const POD_TEMPLATE_HASH: &str = "rollouts-pod-template-hash";

/// Annotation of a ReplicaSet: when it may be scaled away, RFC 3339 in UTC.
///
/// A bare key without a prefix; clients read exactly this one.
pub const SCALE_DOWN_DEADLINE: &str = "scale-down-deadline";

/// Annotation of a Service, Ingress, VirtualService or DestinationRule: the name of the Rollout that
/// changes it without owning it.
pub const MANAGED_BY_ROLLOUTS: &str = "argo-rollouts.argoproj.io/managed-by-rollouts";

/// Annotation of pods and ReplicaSets: the restart time after which they were created anew.
pub const RESTARTED_AFTER: &str = "argo-rollouts.argoproj.io/restarted-after";

/// Label of Rollouts and of all their children: which controller instance they belong to. A controller
/// without an instance id takes only objects that lack this label.
pub const CONTROLLER_INSTANCE_ID: &str = "argo-rollouts.argoproj.io/controller-instance-id";

/// Annotation of Rollouts, ReplicaSets and AnalysisRuns: the revision number, decimal, from 1.
pub const REVISION: &str = "rollout.argoproj.io/revision";

/// Annotation of a ReplicaSet: the earlier revision numbers that it had, separated by commas.
pub const REVISION_HISTORY: &str = "rollout.argoproj.io/revision-history";

/// Annotation of a ReplicaSet: `spec.replicas` of its Rollout when it was last scaled, decimal.
pub const DESIRED_REPLICAS: &str = "rollout.argoproj.io/desired-replicas";

/// Annotation of a Rollout: the generation of the workload that `spec.workloadRef` names, decimal.
pub const WORKLOAD_GENERATION: &str = "rollout.argoproj.io/workload-generation";

/// Annotation of a Rollout while it takes over from the Deployment that `spec.workloadRef` names: how many replicas that had before,
/// decimal.
pub const WORKLOAD_REPLICAS: &str = "rolloutd.dev/workload-replicas";

/// Annotation of a ReplicaSet: the ephemeral metadata injected into its pods, as the JSON of a
/// [`PodTemplateMetadata`](super::PodTemplateMetadata).
pub const EPHEMERAL_METADATA: &str = "rollout.argoproj.io/ephemeral-metadata";

/// Annotation of a ReplicaSet of an Experiment: the Experiment's name.
pub const EXPERIMENT_NAME: &str = "experiment.argoproj.io/name";

/// Annotation of a ReplicaSet of an Experiment: the name of the template it was made from.
pub const EXPERIMENT_TEMPLATE_NAME: &str = "experiment.argoproj.io/template-name";

/// Label of an AnalysisRun: what started it, one of the `ROLLOUT_TYPE_*` values.
pub const ROLLOUT_TYPE: &str = "rollout-type";

/// Value of [`ROLLOUT_TYPE`]: a canary step.
pub const ROLLOUT_TYPE_STEP: &str = "Step";

/// Value of [`ROLLOUT_TYPE`]: the background analysis of a canary.
pub const ROLLOUT_TYPE_BACKGROUND: &str = "Background";

/// Value of [`ROLLOUT_TYPE`]: the analysis before a blue-green promotion.
pub const ROLLOUT_TYPE_PRE_PROMOTION: &str = "PrePromotion";

/// Value of [`ROLLOUT_TYPE`]: the analysis after a blue-green promotion.
pub const ROLLOUT_TYPE_POST_PROMOTION: &str = "PostPromotion";

/// Label of an AnalysisRun of a canary step: the step's index, decimal, from 0.
pub const STEP_INDEX: &str = "step-index";

/// Prefix of annotations of a Rollout that subscribe to notifications; `<trigger>.<service>` follows.
pub const NOTIFICATIONS_SUBSCRIBE_PREFIX: &str = "notifications.argoproj.io/subscribe.";

/// Annotation of a Rollout: which notifications were delivered.
pub const NOTIFIED: &str = "notified.notifications.argoproj.io";

/// Annotation of a Rollout: the last requests with an id that changed it, so that each is carried out once.
pub const REQUESTS: &str = "rolloutd.dev/requests";

/// Label of a ControllerRevision that tells of something that was done: the uid of the Rollout that it was done to.
pub const ACTIVITY_OF: &str = "rolloutd.dev/activity-of";

/// Annotation of a ReplicaSet that stays up until its scale-down deadline without having been promoted: going back to it waits for its
/// promotion.
pub const UNPROMOTED: &str = "rolloutd.dev/unpromoted";

/// Annotation that `kubectl apply` keeps its last manifest in; never copied to ReplicaSets.
pub const LAST_APPLIED_CONFIGURATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
