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

/// Annotation of a ReplicaSet: what its pod template has itself under the keys of [`EPHEMERAL_METADATA`], so that it comes back, as the
/// JSON of a [`PodTemplateMetadata`](super::PodTemplateMetadata).
pub const OVERRIDDEN_METADATA: &str = "rolloutd.dev/overridden-metadata";

/// Annotation of a ReplicaSet: the keys that were put into its pods and that they are losing, in the same form; values are of no matter.
/// It goes once no pod has them any more.
pub const WITHDRAWN_METADATA: &str = "rolloutd.dev/withdrawn-metadata";

/// Annotation of a Rollout: whether its pods carry a status label, `true` or `false`, whatever the server's flag says.
pub const STATUS_LABELS: &str = "rolloutd.dev/status-labels";

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

/// Annotation of a Rollout: which of its labels its children inherit.
pub const INHERIT_LABELS: &str = "rolloutd.dev/inherit-labels";

/// Annotation of a Rollout: which of its annotations its children inherit.
pub const INHERIT_ANNOTATIONS: &str = "rolloutd.dev/inherit-annotations";

/// Annotation of what a Rollout makes: the labels and annotations that it inherited, each with a digest of its value.
pub const INHERITED: &str = "rolloutd.dev/inherited";

/// Annotation of a Rollout: the environment of canary (or preview) pods, a JSON object of strings.
pub const CANARY_ENVIRONMENT: &str = "rolloutd.dev/canary-environment";

/// Annotation of a Rollout: the environment of stable (or active) pods, a JSON object of strings.
pub const STABLE_ENVIRONMENT: &str = "rolloutd.dev/stable-environment";

/// Annotation of a Rollout: where a container of its pods finds the environment as files, as JSON.
pub const ENVIRONMENT_VOLUME: &str = "rolloutd.dev/environment-volume";

/// Annotation of a Rollout: how long pods are watched after a change of their environment.
pub const ENVIRONMENT_WINDOW: &str = "rolloutd.dev/environment-window";

/// Annotation of a Rollout: names of values that look like credentials and are none, separated by commas.
pub const ENVIRONMENT_ALLOW: &str = "rolloutd.dev/environment-allow";

/// Annotation of pods: their environment, as lines that a shell reads. With a dot and the name of a value behind it: that value.
pub const ENVIRONMENT: &str = "rolloutd.dev/environment";

/// Annotation of a ReplicaSet: what is known of the last change of its pods' environment, as JSON.
pub const ENVIRONMENT_STATE: &str = "rolloutd.dev/environment-state";

/// Label of a ControllerRevision that tells of something that was done: the uid of the Rollout that it was done to.
pub const ACTIVITY_OF: &str = "rolloutd.dev/activity-of";

/// Annotation of a ReplicaSet that stays up until its scale-down deadline without having been promoted: going back to it waits for its
/// promotion.
pub const UNPROMOTED: &str = "rolloutd.dev/unpromoted";

/// Annotation that `kubectl apply` keeps its last manifest in; never copied to ReplicaSets.
pub const LAST_APPLIED_CONFIGURATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
