//! The two strategies, and what both have.

use super::{Faults, Wire, filled, show, show_all, store, store_all};
use crate::crd::{self, Extra, ProgressType};
use crate::pb::v1;
use crate::validate::Path;
use v1::anti_affinity::Rule;
use v1::replica_progress_threshold::Type;

impl Wire for v1::CanaryStrategy {
    type Stored = crd::CanaryStrategy;

    fn show(stored: &crd::CanaryStrategy) -> Self {
        let crd::CanaryStrategy {
            canary_service,
            stable_service,
            steps,
            traffic_routing,
            max_unavailable,
            max_surge,
            analysis,
            anti_affinity,
            canary_metadata,
            stable_metadata,
            scale_down_delay_seconds,
            scale_down_delay_revision_limit,
            abort_scale_down_delay_seconds,
            dynamic_stable_scale,
            ping_pong,
            min_pods_per_replica_set,
            replica_progress_threshold,
            extra: _,
        } = stored;
        Self {
            canary_service: canary_service.clone().unwrap_or_default(),
            stable_service: stable_service.clone().unwrap_or_default(),
            steps: show_all(steps.as_ref()),
            traffic_routing: show(traffic_routing.as_ref()),
            max_unavailable: show(max_unavailable.as_ref()),
            max_surge: show(max_surge.as_ref()),
            analysis: show(analysis.as_ref()),
            anti_affinity: show(anti_affinity.as_ref()),
            canary_metadata: show(canary_metadata.as_ref()),
            stable_metadata: show(stable_metadata.as_ref()),
            scale_down_delay_seconds: *scale_down_delay_seconds,
            scale_down_delay_revision_limit: *scale_down_delay_revision_limit,
            abort_scale_down_delay_seconds: *abort_scale_down_delay_seconds,
            dynamic_stable_scale: *dynamic_stable_scale,
            ping_pong: show(ping_pong.as_ref()),
            min_pods_per_replica_set: *min_pods_per_replica_set,
            replica_progress_threshold: show(replica_progress_threshold.as_ref()),
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::CanaryStrategy {
        let Self {
            canary_service,
            stable_service,
            steps,
            traffic_routing,
            max_unavailable,
            max_surge,
            analysis,
            anti_affinity,
            canary_metadata,
            stable_metadata,
            scale_down_delay_seconds,
            scale_down_delay_revision_limit,
            abort_scale_down_delay_seconds,
            dynamic_stable_scale,
            ping_pong,
            min_pods_per_replica_set,
            replica_progress_threshold,
        } = self;
        crd::CanaryStrategy {
            canary_service: filled(canary_service),
            stable_service: filled(stable_service),
            steps: store_all(steps, &at.field("steps"), faults),
            traffic_routing: store(traffic_routing, at.field("traffic_routing"), faults),
            max_unavailable: store(max_unavailable, at.field("max_unavailable"), faults),
            max_surge: store(max_surge, at.field("max_surge"), faults),
            analysis: store(analysis, at.field("analysis"), faults),
            anti_affinity: store(anti_affinity, at.field("anti_affinity"), faults),
            canary_metadata: store(canary_metadata, at.field("canary_metadata"), faults),
            stable_metadata: store(stable_metadata, at.field("stable_metadata"), faults),
            scale_down_delay_seconds,
            scale_down_delay_revision_limit,
            abort_scale_down_delay_seconds,
            dynamic_stable_scale,
            ping_pong: store(ping_pong, at.field("ping_pong"), faults),
            min_pods_per_replica_set,
            replica_progress_threshold: store(
                replica_progress_threshold,
                at.field("replica_progress_threshold"),
                faults,
            ),
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::BlueGreenStrategy {
    type Stored = crd::BlueGreenStrategy;

    fn show(stored: &crd::BlueGreenStrategy) -> Self {
        let crd::BlueGreenStrategy {
            active_service,
            preview_service,
            preview_replica_count,
            auto_promotion_enabled,
            auto_promotion_seconds,
            max_unavailable,
            scale_down_delay_seconds,
            scale_down_delay_revision_limit,
            pre_promotion_analysis,
            anti_affinity,
            post_promotion_analysis,
            preview_metadata,
            active_metadata,
            abort_scale_down_delay_seconds,
            extra: _,
        } = stored;
        Self {
            active_service: active_service.clone(),
            preview_service: preview_service.clone().unwrap_or_default(),
            preview_replica_count: *preview_replica_count,
            auto_promotion_enabled: *auto_promotion_enabled,
            auto_promotion_seconds: *auto_promotion_seconds,
            max_unavailable: show(max_unavailable.as_ref()),
            scale_down_delay_seconds: *scale_down_delay_seconds,
            scale_down_delay_revision_limit: *scale_down_delay_revision_limit,
            pre_promotion_analysis: show(pre_promotion_analysis.as_ref()),
            anti_affinity: show(anti_affinity.as_ref()),
            post_promotion_analysis: show(post_promotion_analysis.as_ref()),
            preview_metadata: show(preview_metadata.as_ref()),
            active_metadata: show(active_metadata.as_ref()),
            abort_scale_down_delay_seconds: *abort_scale_down_delay_seconds,
        }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::BlueGreenStrategy {
        let Self {
            active_service,
            preview_service,
            preview_replica_count,
            auto_promotion_enabled,
            auto_promotion_seconds,
            max_unavailable,
            scale_down_delay_seconds,
            scale_down_delay_revision_limit,
            pre_promotion_analysis,
            anti_affinity,
            post_promotion_analysis,
            preview_metadata,
            active_metadata,
            abort_scale_down_delay_seconds,
        } = self;
        crd::BlueGreenStrategy {
            active_service,
            preview_service: filled(preview_service),
            preview_replica_count,
            auto_promotion_enabled,
            auto_promotion_seconds,
            max_unavailable: store(max_unavailable, at.field("max_unavailable"), faults),
            scale_down_delay_seconds,
            scale_down_delay_revision_limit,
            pre_promotion_analysis: store(pre_promotion_analysis, at.field("pre_promotion_analysis"), faults),
            anti_affinity: store(anti_affinity, at.field("anti_affinity"), faults),
            post_promotion_analysis: store(
                post_promotion_analysis,
                at.field("post_promotion_analysis"),
                faults,
            ),
            preview_metadata: store(preview_metadata, at.field("preview_metadata"), faults),
            active_metadata: store(active_metadata, at.field("active_metadata"), faults),
            abort_scale_down_delay_seconds,
            extra: Extra::new(),
        }
    }
}

impl Wire for v1::AntiAffinity {
    type Stored = crd::AntiAffinity;

    fn show(stored: &crd::AntiAffinity) -> Self {
        let crd::AntiAffinity {
            preferred_during_scheduling_ignored_during_execution: preferred,
            required_during_scheduling_ignored_during_execution: required,
            extra: _,
        } = stored;
        let preferred = preferred.as_ref().map(|preferred| Rule::PreferredWeight(preferred.weight));
        Self { rule: preferred.or(required.as_ref().map(|_| Rule::Required(true))) }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::AntiAffinity {
        let mut stored = crd::AntiAffinity::default();
        match self.rule {
            // Found by validation, with the same words as for a manifest.
            None => {}
            Some(Rule::PreferredWeight(weight)) => {
                stored.preferred_during_scheduling_ignored_during_execution =
                    Some(crd::PreferredAntiAffinity { weight, extra: Extra::new() });
            }
            Some(Rule::Required(required)) => {
                if !required {
                    faults.note(&at.field("required"), "must be true; leave anti_affinity unset for no rule");
                }
                stored.required_during_scheduling_ignored_during_execution =
                    Some(crd::RequiredAntiAffinity::default());
            }
        }
        stored
    }
}

impl Wire for v1::PingPong {
    type Stored = crd::PingPongSpec;

    fn show(stored: &crd::PingPongSpec) -> Self {
        let crd::PingPongSpec { ping_service, pong_service, extra: _ } = stored;
        Self { ping_service: ping_service.clone(), pong_service: pong_service.clone() }
    }

    fn store(self, _: &Path, _: &mut Faults) -> crd::PingPongSpec {
        let Self { ping_service, pong_service } = self;
        crd::PingPongSpec { ping_service, pong_service, extra: Extra::new() }
    }
}

impl Wire for v1::ReplicaProgressThreshold {
    type Stored = crd::ReplicaProgressThreshold;

    fn show(stored: &crd::ReplicaProgressThreshold) -> Self {
        let crd::ReplicaProgressThreshold { progress_type, value, extra: _ } = stored;
        let unit = match progress_type {
            ProgressType::Percent => Type::Percent,
            ProgressType::Pods => Type::Pods,
            ProgressType::Other(_) => Type::Unspecified,
        };
        Self { r#type: unit.into(), value: *value }
    }

    fn store(self, at: &Path, faults: &mut Faults) -> crd::ReplicaProgressThreshold {
        let progress_type = match self.r#type() {
            Type::Percent => ProgressType::Percent,
            Type::Pods => ProgressType::Pods,
            Type::Unspecified => {
                faults.note(&at.field("type"), "is required");
                ProgressType::Other(String::new())
            }
        };
        let Self { r#type: _, value } = self;
        crd::ReplicaProgressThreshold { progress_type, value, extra: Extra::new() }
    }
}
