//! ConfigMaps.

use jiff::Timestamp;
use k8s_openapi::api::core;
use serde_json::{Value, json};

use super::{open_api, read};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::names;
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Read, ReadError, Rules};
use crate::apiserver::table::{Column, age};

/// Most bytes of data in a ConfigMap or Secret.
pub(super) const DATA_MAX: usize = 1024 * 1024;

const GO_TYPE: &str = "io.k8s.api.core.v1.ConfigMap";

pub(super) struct ConfigMapRules;

impl Rules for ConfigMapRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "v1", |_| {})
    }

    fn validate(&self, map: &Value) -> Violations {
        let mut violations = Violations::new();
        let mut size = 0;
        for (bag, other) in [("data", Some("/binaryData")), ("binaryData", None)] {
            for (key, value) in map.map(&format!("/{bag}")).into_iter().flatten() {
                let path = Path::of(bag).key(key);
                let reasons = names::config_key(key).into_iter();
                violations.extend(reasons.map(|why| Violation::invalid(&path, key.as_str(), why)));
                if other.and_then(|other| map.map(other)).is_some_and(|other| other.contains_key(key)) {
                    violations.push(Violation::invalid(
                        &path,
                        key.as_str(),
                        "duplicate of key present in binaryData",
                    ));
                }
                size += value.as_str().map_or(0, str::len);
            }
        }
        if size > DATA_MAX {
            violations.push(Violation::too_long(&Path::root(), DATA_MAX));
        }
        violations
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Violations {
        let mut violations = immutable_data(new, old, &["data", "binaryData"]);
        violations.extend(self.validate(new));
        violations
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<core::v1::ConfigMap>()
    }

    fn columns(&self) -> Vec<Column> {
        let data = "Data contains the configuration data.";
        vec![Column::name(), Column::new("Data", "string", data), Column::age()]
    }

    fn cells(&self, map: &Value, now: Timestamp) -> Vec<Value> {
        let count = |bag: &str| map.map(bag).map_or(0, serde_json::Map::len);
        vec![json!(map.name()), json!(count("/data") + count("/binaryData")), age(map, now)]
    }
}

/// What an update of an object marked `immutable` breaks.
pub(super) fn immutable_data(new: &Value, old: &Value, bags: &[&str]) -> Violations {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if old["immutable"] != json!(true) {
        return Violations::new();
    }
    let unset = (new["immutable"] != json!(true)).then_some("immutable");
    let changed = bags.iter().copied().filter(|bag| new[bag] != old[bag]);
    unset.into_iter().chain(changed).map(|field| Violation::forbidden(&Path::of(field), DETAIL)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_immutable_map_keeps_its_data_and_its_mark() {
        let old = json!({"immutable": true, "data": {"a": "b"}});
        let texts = |new: Value| -> Vec<String> {
            ConfigMapRules.validate_update(&new, &old).iter().map(ToString::to_string).collect()
        };
        assert!(texts(old.clone()).is_empty());
        assert_eq!(
            texts(json!({"data": {"a": "c"}})),
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set"
            ]
        );
    }

    #[test]
    fn keys_are_checked_and_may_stand_in_one_bag_only() {
        let map = json!({"data": {"a/b": "", "x": ""}, "binaryData": {"x": ""}});
        let violations = ConfigMapRules.validate(&map);
        assert_eq!(violations.len(), 2);
        assert!(
            violations[0].to_string().starts_with("data[a/b]: Invalid value: \"a/b\": a valid config key")
        );
        assert_eq!(
            violations[1].to_string(),
            "data[x]: Invalid value: \"x\": duplicate of key present in binaryData"
        );
    }
}
