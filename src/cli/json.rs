//! Messages as JSON and YAML: the JSON mapping of protobuf, as grpcurl reads and writes it.
//!
//! By reflection over [`crate::pb::DESCRIPTORS`], so that every message of the contract has it, field by field as the contract
//! says, without generated code for each.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Number, Value};

use super::failure::Failure;
use crate::pb::{self, v1};

/// A message by the name that it has in the contract.
pub(super) trait Named: Message {
    /// Its name within `rolloutd.v1`.
    const NAME: &'static str;
}

macro_rules! named {
    ($($name:ident)*) => {
        $(impl Named for v1::$name { const NAME: &'static str = stringify!($name); })*
        #[cfg(test)]
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

named! {
    Activity ApplyManifestResponse DiffRevisionsResponse ExplainRolloutResponse GetServerInfoResponse PlanRolloutResponse Revision
    Rollout RolloutTree
}

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(pb::DESCRIPTORS).expect("build.rs encoded the descriptors"));

/// A message in protobuf's JSON mapping.
pub(super) fn value<T: Named>(message: &T) -> Result<Value, Failure> {
    let name = format!("rolloutd.v1.{}", T::NAME);
    let descriptor = POOL.get_message_by_name(&name).expect("a test looks for every name");
    let message = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())
        .map_err(|error| Failure::Encoding(error.to_string()))?;
    // Fails where JSON cannot say it: a moment beyond the year 9999, or a number that is none.
    let value = serde_json::to_value(&message).map_err(|error| Failure::Encoding(error.to_string()))?;
    Ok(whole(value))
}

/// The answer to a list with all pages in one. An empty list is said, other than in the mapping, since scripts iterate over it.
pub(super) fn list<T: Named>(field: &str, messages: &[T]) -> Result<Value, Failure> {
    let values = messages.iter().map(value).collect::<Result<Vec<_>, _>>()?;
    Ok(Value::Object([(field.to_owned(), Value::Array(values))].into_iter().collect()))
}

/// Writes whole numbers as such, `80` and not `80.0`, as other implementations of the mapping do: all numbers of a Struct are
/// doubles, and whoever takes a pod template out of it finds its ports to be integers again.
fn whole(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::Number(integer(&number).map_or(number, Number::from)),
        Value::Array(values) => values.into_iter().map(whole).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, whole(value))).collect(),
        other => other,
    }
}

/// The integer that a double is, where doubles tell all integers apart.
fn integer(number: &Number) -> Option<i64> {
    const LIMIT: f64 = 9_007_199_254_740_992.0;
    let is_integer = |double: &f64| number.is_f64() && double.fract() == 0.0 && double.abs() < LIMIT;
    let double = number.as_f64().filter(is_integer)?;
    // Minus zero is another number than zero.
    if double == 0.0 && double.is_sign_negative() { None } else { format!("{double:.0}").parse().ok() }
}

/// JSON over several lines.
pub(super) fn pretty(value: &Value) -> String {
    // The alternate form of a Value is its JSON, indented.
    format!("{value:#}")
}

/// The same in YAML.
pub(super) fn yaml(value: &Value) -> Result<String, Failure> {
    let text = serde_saphyr::to_string(value).map_err(|error| Failure::Encoding(error.to_string()))?;
    Ok(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use prost_types::{Struct, Timestamp};

    use super::*;

    /// A rollout with one of each kind of value.
    fn rollout() -> v1::Rollout {
        let text = prost_types::Value { kind: Some(prost_types::value::Kind::StringValue("v1".to_owned())) };
        v1::Rollout {
            name: "namespaces/shop/rollouts/web".to_owned(),
            generation: 9_007_199_254_740_993,
            create_time: Some(Timestamp { seconds: 1, nanos: 500_000_000 }),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            spec: Some(v1::RolloutSpec {
                replicas: Some(0),
                template: Some(Struct { fields: [("image".to_owned(), text)].into() }),
                ..v1::RolloutSpec::default()
            }),
            status: Some(v1::RolloutStatus {
                state: v1::rollout_status::State::Paused.into(),
                current_step_index: Some(0),
                ..v1::RolloutStatus::default()
            }),
            ..v1::Rollout::default()
        }
    }

    #[test]
    fn every_message_that_is_printed_is_in_the_contract() {
        for name in NAMES {
            assert!(POOL.get_message_by_name(&format!("rolloutd.v1.{name}")).is_some(), "{name}");
        }
    }

    #[test]
    fn json_is_protobufs_mapping() {
        insta::assert_snapshot!(pretty(&value(&rollout()).unwrap()), @r#"
        {
          "name": "namespaces/shop/rollouts/web",
          "generation": "9007199254740993",
          "labels": {
            "app": "web"
          },
          "createTime": "1970-01-01T00:00:01.500Z",
          "spec": {
            "replicas": 0,
            "template": {
              "image": "v1"
            }
          },
          "status": {
            "state": "STATE_PAUSED",
            "currentStepIndex": 0
          }
        }
        "#);
    }

    #[test]
    fn yaml_says_the_same_as_json() {
        let json = value(&rollout()).unwrap();
        let back: Value = serde_saphyr::from_str(&yaml(&json).unwrap()).unwrap();
        assert_eq!(back, json);
    }

    #[test]
    fn json_is_read_back_into_the_same_message() {
        let descriptor = POOL.get_message_by_name("rolloutd.v1.Rollout").unwrap();
        let back = DynamicMessage::deserialize(descriptor, value(&rollout()).unwrap()).unwrap();
        assert_eq!(v1::Rollout::decode(back.encode_to_vec().as_slice()).unwrap(), rollout());
    }

    #[test]
    fn whole_numbers_of_a_struct_are_written_as_integers() {
        let numbers = serde_json::json!([80.0, -3.0, 0.5, 1e300, 9e15, { "port": 443.0 }, 7, -0.0]);
        assert_eq!(whole(numbers).to_string(), r#"[80,-3,0.5,1e+300,9000000000000000,{"port":443},7,-0.0]"#);
    }

    #[test]
    fn a_moment_that_json_cannot_say_is_a_failure_and_no_panic() {
        let create_time = Some(Timestamp { seconds: i64::MAX, nanos: -1 });
        assert!(value(&v1::Rollout { create_time, ..v1::Rollout::default() }).is_err());
    }
}
