//! Field masks (AIP-134, AIP-161): which fields of a rollout a caller changes.
//!
//! By reflection over the messages, so that every field of the contract can be named and none is forgotten.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _, Value};

use super::convert::Fault;
use super::error::Error;
use crate::pb::{self, v1};

/// The fields of a rollout that callers decide; all others are this server's.
const WRITABLE: [&str; 3] = ["labels", "annotations", "spec"];

/// Stands for all of them.
const ALL: &str = "*";

/// Messages that are one value each: changed as a whole.
const VALUES: [&str; 4] = [
    "google.protobuf.Struct",
    "google.protobuf.Value",
    "google.protobuf.Timestamp",
    "rolloutd.v1.IntOrString",
];

static ROLLOUT: LazyLock<MessageDescriptor> = LazyLock::new(|| {
    DescriptorPool::decode(pb::DESCRIPTORS)
        .ok()
        .and_then(|pool| pool.get_message_by_name("rolloutd.v1.Rollout"))
        .expect("the descriptor set that the build wrote holds Rollout")
});

/// The current rollout with the fields of `paths` as `wanted` has them. No paths: those that are set in `wanted`; `*`: all,
/// so that what is unset there is cleared.
pub(super) fn apply(
    current: &v1::Rollout,
    wanted: &v1::Rollout,
    paths: &[String],
) -> Result<v1::Rollout, Error> {
    let mut changed = dynamic(current)?;
    let wanted = dynamic(wanted)?;
    match paths {
        [] => {
            for name in WRITABLE {
                let field = ROLLOUT.get_field_by_name(name);
                let value = field
                    .as_ref()
                    .filter(|field| wanted.has_field(field))
                    .map(|field| wanted.get_field(field));
                if let (Some(field), Some(value)) = (field, value) {
                    overlay_field(&mut changed, &field, &value);
                }
            }
        }
        [all] if all == ALL => {
            for name in WRITABLE {
                replace(&mut changed, Some(&wanted), name).map_err(|why| Error::field("update_mask", why))?;
            }
        }
        paths => {
            let mut faults = Vec::new();
            for path in paths {
                if let Err(why) = check(path).and_then(|()| replace(&mut changed, Some(&wanted), path)) {
                    faults.push(Fault::new("update_mask", why));
                }
            }
            if !faults.is_empty() {
                return Err(Error::invalid(faults));
            }
        }
    }
    v1::Rollout::decode(changed.encode_to_vec().as_slice())
        .map_err(|error| Error::internal("a mask broke a message", &error))
}

fn dynamic(rollout: &v1::Rollout) -> Result<DynamicMessage, Error> {
    DynamicMessage::decode(ROLLOUT.clone(), rollout.encode_to_vec().as_slice())
        .map_err(|error| Error::internal("a rollout is not described by its descriptor", &error))
}

fn check(path: &str) -> Result<(), String> {
    let first = path.split('.').next().unwrap_or_default();
    if path == ALL {
        return Err("* stands alone".to_owned());
    }
    if WRITABLE.contains(&first) || ROLLOUT.get_field_by_name(first).is_none() {
        return Ok(());
    }
    Err(format!("{path} cannot be changed: callers decide {}", WRITABLE.join(", ")))
}

/// Sets what is set, and leaves the rest.
fn overlay(current: &mut DynamicMessage, wanted: &DynamicMessage) {
    for (field, value) in wanted.fields() {
        overlay_field(current, &field, value);
    }
}

fn overlay_field(current: &mut DynamicMessage, field: &prost_reflect::FieldDescriptor, value: &Value) {
    match value {
        Value::Message(wanted) if current.has_field(field) && !is_value(&wanted.descriptor()) => {
            if let Value::Message(current) = current.get_field_mut(field) {
                overlay(current, wanted);
            }
        }
        value => current.set_field(field, value.clone()),
    }
}

/// Makes one field what it is in `wanted`: set or unset.
fn replace(current: &mut DynamicMessage, wanted: Option<&DynamicMessage>, path: &str) -> Result<(), String> {
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let message = current.descriptor();
    let field = message
        .get_field_by_name(name)
        .ok_or_else(|| format!("there is no field {name:?} in {}", message.full_name()))?;
    let value = wanted.filter(|wanted| wanted.has_field(&field)).map(|wanted| wanted.get_field(&field));
    let Some(rest) = rest else {
        match value {
            Some(value) => current.set_field(&field, value.into_owned()),
            None => current.clear_field(&field),
        }
        return Ok(());
    };
    let Kind::Message(below) = field.kind() else { return Err(format!("{name:?} has no fields of its own")) };
    if field.is_list() || field.is_map() || is_value(&below) {
        return Err(format!("{name:?} is changed as a whole: name it without {rest:?}"));
    }
    let wanted = value.as_deref().and_then(Value::as_message);
    if wanted.is_none() && !current.has_field(&field) {
        // Nothing to clear; but the path must exist.
        return replace(&mut DynamicMessage::new(below), None, rest);
    }
    match current.get_field_mut(&field) {
        Value::Message(current) => replace(current, wanted, rest),
        _ => Err(format!("{name:?} has no fields of its own")),
    }
}

fn is_value(message: &MessageDescriptor) -> bool {
    VALUES.contains(&message.full_name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use v1::rollout_spec::Strategy;

    fn rollout(change: impl FnOnce(&mut v1::RolloutSpec)) -> v1::Rollout {
        let mut spec = v1::RolloutSpec::default();
        change(&mut spec);
        v1::Rollout {
            name: "namespaces/a/rollouts/b".to_owned(),
            uid: "1".to_owned(),
            spec: Some(spec),
            ..Default::default()
        }
    }

    fn current() -> v1::Rollout {
        let mut rollout = rollout(|spec| {
            spec.replicas = Some(3);
            spec.paused = Some(true);
            spec.strategy = Some(Strategy::Canary(v1::CanaryStrategy {
                canary_service: "c".to_owned(),
                dynamic_stable_scale: Some(true),
                ..Default::default()
            }));
        });
        rollout.labels.insert("team".to_owned(), "shop".to_owned());
        rollout
    }

    fn canary(rollout: &v1::Rollout) -> v1::CanaryStrategy {
        match rollout.spec.clone().unwrap().strategy {
            Some(Strategy::Canary(canary)) => canary,
            other => unreachable!("{other:?}"),
        }
    }

    fn applied(wanted: &v1::Rollout, paths: &[&str]) -> Result<v1::Rollout, Error> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        apply(&current(), wanted, &paths)
    }

    #[test]
    fn without_paths_what_is_set_is_changed_and_the_rest_stays() {
        let wanted = rollout(|spec| {
            spec.replicas = Some(0);
            spec.strategy = Some(Strategy::Canary(v1::CanaryStrategy {
                stable_service: "s".to_owned(),
                ..Default::default()
            }));
        });
        let changed = applied(&wanted, &[]).unwrap();
        assert_eq!(changed.spec.as_ref().unwrap().replicas, Some(0));
        assert_eq!(changed.spec.as_ref().unwrap().paused, Some(true));
        assert_eq!(changed.labels, current().labels);
        assert_eq!(
            (canary(&changed).canary_service, canary(&changed).stable_service),
            ("c".into(), "s".into())
        );
    }

    #[test]
    fn a_path_sets_or_clears_just_that() {
        let wanted = rollout(|spec| spec.paused = Some(false));
        let changed = applied(&wanted, &["spec.canary.canary_service", "spec.paused", "labels"]).unwrap();
        assert_eq!(changed.spec.as_ref().unwrap().paused, Some(false));
        assert_eq!(changed.spec.as_ref().unwrap().replicas, Some(3));
        assert_eq!(
            (canary(&changed).canary_service, canary(&changed).dynamic_stable_scale),
            (String::new(), Some(true))
        );
        assert!(changed.labels.is_empty());
    }

    #[test]
    fn clearing_what_is_not_there_changes_nothing() {
        let changed = applied(
            &rollout(|_| {}),
            &["spec.canary.traffic_routing.nginx.stable_ingress", "spec.blue_green.anti_affinity"],
        );
        assert_eq!(changed.unwrap(), current());
    }

    #[test]
    fn a_star_replaces_all_that_callers_decide_and_nothing_else() {
        let mut wanted = rollout(|spec| spec.replicas = Some(1));
        wanted.uid = "2".to_owned();
        let changed = applied(&wanted, &["*"]).unwrap();
        assert_eq!((changed.spec, changed.uid, changed.labels.len()), (wanted.spec, "1".to_owned(), 0));
    }

    #[test]
    fn a_path_of_the_other_strategy_changes_to_it() {
        let wanted = rollout(|spec| {
            spec.strategy = Some(Strategy::BlueGreen(v1::BlueGreenStrategy {
                active_service: "a".to_owned(),
                ..Default::default()
            }));
        });
        let changed = applied(&wanted, &["spec.blue_green"]).unwrap();
        assert!(matches!(changed.spec.unwrap().strategy, Some(Strategy::BlueGreen(_))));
    }

    #[test]
    fn what_is_no_path_or_not_the_callers_is_refused() {
        for path in [
            "status",
            "status.state",
            "uid",
            "etag",
            "name",
            "create_time",
            "spec.nope",
            "nope",
            "",
            "spec.",
            "spec.canary.steps.pause",
            "spec.replicas.x",
            "spec.template.spec",
            "labels.team",
            "spec.canary.max_surge.int_value",
            "spec.nope.x",
            "*,labels",
        ] {
            assert!(applied(&rollout(|_| {}), &[path]).is_err(), "{path:?}");
        }
        assert!(applied(&rollout(|_| {}), &["*", "labels"]).is_err());
    }
}
