//! Secrets: `stringData` is folded into `data`, typed secrets have their keys.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core;
use serde_json::{Value, json};

use super::config_map::{DATA_MAX, immutable_data};
use super::{open_api, read, set_default};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::metadata::immutable;
use crate::apiserver::names;
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Read, ReadError, Rules, Surroundings, unsupported_field};
use crate::apiserver::status::ApiError;
use crate::apiserver::table::{Column, age};

const GO_TYPE: &str = "io.k8s.api.core.v1.Secret";

pub(super) struct SecretRules;

impl Rules for SecretRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "v1", |secret| {
            set_default(secret, "type", "Opaque");
            fold_string_data(secret);
        })
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        if new.text("/type").is_empty() {
            new.set_member("type", old.get("type").cloned());
        }
        Ok(())
    }

    fn validate(&self, secret: &Value) -> Violations {
        let path = Path::of("data");
        let mut violations = Violations::new();
        let mut size = 0;
        for (key, value) in secret.map("/data").into_iter().flatten() {
            let reasons = names::config_key(key).into_iter();
            violations.extend(reasons.map(|why| Violation::invalid(&path.key(key), key.as_str(), why)));
            // Three bytes are four characters in base64.
            size += value.as_str().map_or(0, str::len) / 4 * 3;
        }
        if size > DATA_MAX {
            violations.push(Violation::too_long(&path, DATA_MAX));
        }
        violations
            .extend(missing_keys(secret).into_iter().map(|key| Violation::required(&path.key(key), "")));
        violations
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Violations {
        let mut violations = Violations::new();
        if new["type"] != old["type"] {
            violations.push(immutable(&Path::of("type"), new.get("type").cloned()));
        }
        violations.extend(immutable_data(new, old, &["data"]));
        violations.extend(self.validate(new));
        violations
    }

    fn field(&self, secret: &Value, field: &str) -> Option<String> {
        (field == "type").then(|| secret.text("/type").to_owned())
    }

    fn unknown_field(&self, field: &str) -> String {
        unsupported_field(field)
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<core::v1::Secret>()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column::name(),
            Column::new("Type", "string", "Used to facilitate programmatic handling of secret data."),
            Column::new("Data", "string", "Data contains the secret data."),
            Column::age(),
        ]
    }

    fn cells(&self, secret: &Value, now: Timestamp) -> Vec<Value> {
        let count = secret.map("/data").map_or(0, serde_json::Map::len);
        vec![json!(secret.name()), secret["type"].clone(), json!(count), age(secret, now)]
    }
}

fn fold_string_data(secret: &mut Value) {
    let Some(Value::Object(strings)) = secret.as_object_mut().and_then(|s| s.remove("stringData")) else {
        return;
    };
    set_default(secret, "data", json!({}));
    for (key, value) in strings {
        let bytes = ByteString(value.as_str().unwrap_or_default().as_bytes().to_vec());
        secret["data"][key] = json!(bytes);
    }
}

/// The keys that a secret of this type must have and has not.
fn missing_keys(secret: &Value) -> Vec<&'static str> {
    let has = |key: &&str| secret["data"].get(*key).is_some();
    let required: &[&str] = match secret.text("/type") {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        "kubernetes.io/basic-auth" if !has(&"username") && !has(&"password") => &["username", "password"],
        _ => &[],
    };
    required.iter().copied().filter(|key| !has(key)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn string_data_becomes_data() {
        let body = json!({"data": {"a": "Yg=="}, "stringData": {"a": "c", "d": "e"}});
        let read = SecretRules.read(body).unwrap().object;
        assert_eq!(read["data"], json!({"a": "Yw==", "d": "ZQ=="}));
        assert_eq!(read.get("stringData"), None);
        assert_eq!(read["type"], "Opaque");
    }

    #[test]
    fn typed_secrets_need_their_keys() {
        let secret = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}});
        let violations: Vec<String> = SecretRules.validate(&secret).iter().map(ToString::to_string).collect();
        assert_eq!(violations, ["data[tls.key]: Required value"]);
        assert!(SecretRules.validate(&json!({"type": "mine"})).is_empty());
    }
}
