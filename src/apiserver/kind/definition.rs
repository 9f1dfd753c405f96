//! CustomResourceDefinitions: accepted when their schemas are structural, and established at once.
//!
//! What a definition defines is made by [`crate::apiserver::custom`]; [`crate::apiserver::state`] puts it into the
//! catalog when the definition is written.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

use super::{open_api, read, set_default};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::metadata::immutable;
use crate::apiserver::names;
use crate::apiserver::object::{self, Object, semantically_equal};
use crate::apiserver::resource::{Read, ReadError, Rules, Surroundings, count_spec_changes, keep_status};
use crate::apiserver::schema::check_definition_schema;
use crate::apiserver::status::ApiError;
use crate::apiserver::table::Column;

/// Group and plural name of definitions.
pub(crate) const DEFINITIONS: (&str, &str) = ("apiextensions.k8s.io", "customresourcedefinitions");

/// Types that a printer column may have.
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];

const GO_TYPE: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";

pub(super) struct DefinitionRules;

impl Rules for DefinitionRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "apiextensions.k8s.io/v1", |definition| {
            let names = &mut definition["spec"]["names"];
            let kind = names.text("/kind").to_owned();
            set_default(names, "singular", kind.to_lowercase());
            if !kind.is_empty() {
                set_default(names, "listKind", format!("{kind}List"));
            }
            set_default(&mut definition["spec"], "conversion", json!({"strategy": "None"}));
        })
    }

    fn needs_qualified_finalizers(&self) -> bool {
        false
    }

    fn update_needs_version(&self) -> bool {
        true
    }

    fn prepare_create(&self, definition: &mut Value, around: &mut Surroundings<'_>) -> Result<(), ApiError> {
        definition.set_meta("generation", Some(json!(1)));
        let condition = |kind: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": object::time(around.now)})
        };
        definition["status"] = json!({
            "conditions": [
                condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
            ],
            "acceptedNames": definition["spec"]["names"],
            "storedVersions": [storage_version(definition)],
        });
        Ok(())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        keep_status(new, old);
        count_spec_changes(new, old);
        let storage = json!(storage_version(new));
        new["status"]["acceptedNames"] = new["spec"]["names"].clone();
        if let Some(stored) = new["status"]["storedVersions"].as_array_mut()
            && !stored.contains(&storage)
        {
            stored.push(storage);
        }
        Ok(())
    }

    fn validate(&self, definition: &Value) -> Violations {
        let spec = &definition["spec"];
        let mut violations = Violations::new();
        let required = format!("{}.{}", spec.text("/names/plural"), spec.text("/group"));
        if definition.name() != required {
            let detail = "must be spec.names.plural+\".\"+spec.group";
            violations.push(Violation::invalid(&Path::of("metadata.name"), definition.name(), detail));
        }
        validate_spec(spec, &mut violations);
        violations
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Violations {
        let mut violations = self.validate(new);
        for field in ["scope", "names.kind", "group", "names.plural"] {
            let value = |definition: &Value| {
                definition["spec"].pointer(&format!("/{}", field.replace('.', "/"))).cloned()
            };
            if !semantically_equal(value(new).as_ref(), value(old).as_ref()) {
                violations.push(immutable(&Path::of("spec").child(field), value(new)));
            }
        }
        for (index, stored) in new.list("/status/storedVersions").iter().enumerate() {
            if !new.list("/spec/versions").iter().any(|version| version["name"] == *stored) {
                let name = stored.as_str().unwrap_or_default();
                let detail = format!(
                    "missing from spec.versions; {name} was previously a storage version, and must remain in \
                     spec.versions until a storage migration ensures no data remains persisted in {name} and \
                     removes {name} from status.storedVersions"
                );
                let path = Path::of("status.storedVersions").index(index);
                violations.push(Violation::invalid(&path, name, detail));
            }
        }
        violations
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<CustomResourceDefinition>()
    }

    fn columns(&self) -> Vec<Column> {
        let created =
            Column::new("Created At", "date", "CreationTimestamp is the time when the object was created.");
        vec![Column::name(), created]
    }

    fn cells(&self, definition: &Value, _: Timestamp) -> Vec<Value> {
        vec![json!(definition.name()), definition["metadata"]["creationTimestamp"].clone()]
    }
}

fn storage_version(definition: &Value) -> &str {
    let versions = definition.list("/spec/versions");
    versions
        .iter()
        .find(|version| version["storage"] == json!(true))
        .map_or("", |version| version.text("/name"))
}

fn validate_spec(spec: &Value, violations: &mut Violations) {
    let path = Path::of("spec");
    let group = spec.text("/group");
    let reasons = names::dns_subdomain(group);
    if group.is_empty() {
        violations.push(Violation::required(&path.child("group"), ""));
    } else if !reasons.is_empty() {
        violations.push(Violation::invalid(&path.child("group"), group, reasons.join(",")));
    } else if !group.contains('.') {
        violations.push(Violation::invalid(
            &path.child("group"),
            group,
            "should be a domain with at least one dot",
        ));
    }
    match spec.text("/scope") {
        "Cluster" | "Namespaced" => {}
        "" => violations.push(Violation::required(&path.child("scope"), "")),
        other => {
            violations.push(Violation::not_supported(
                &path.child("scope"),
                other,
                &["Cluster", "Namespaced"],
            ));
        }
    }
    validate_versions(spec, &path, violations);
    validate_names(&spec["names"], &path.child("names"), violations);
    match spec.text("/conversion/strategy") {
        "" | "None" => {}
        "Webhook" => {
            let detail = "this API server converts between versions without webhooks only: use strategy None";
            violations.push(Violation::forbidden(&path.child("conversion").child("strategy"), detail));
        }
        other => {
            let path = path.child("conversion").child("strategy");
            violations.push(Violation::not_supported(&path, other, &["None", "Webhook"]));
        }
    }
}

fn validate_versions(spec: &Value, path: &Path, violations: &mut Violations) {
    let versions = spec.list("/versions");
    let at = path.child("versions");
    let storage = versions.iter().filter(|version| version["storage"] == json!(true)).count();
    for (index, version) in versions.iter().enumerate() {
        let at = at.index(index);
        let name = version.text("/name");
        let reasons = names::dns_1035_label(name);
        if !reasons.is_empty() {
            violations.push(Violation::invalid(&at.child("name"), name, reasons.join(",")));
        }
        if versions[..index].iter().any(|earlier| earlier.text("/name") == name) {
            let detail = "must contain unique version names";
            violations.push(Violation::invalid(&path.child("versions"), spec["versions"].clone(), detail));
        }
        // The real server moves what all versions share to the top of the definition before it validates.
        let alone = versions.len() == 1;
        let schema_path = if alone { path.child("validation") } else { at.child("schema") };
        match version.pointer("/schema/openAPIV3Schema") {
            Some(schema) => {
                violations.extend(check_definition_schema(schema, &schema_path.child("openAPIV3Schema")));
            }
            None => {
                let path = at.child("schema").child("openAPIV3Schema");
                violations.push(Violation::required(&path, ""));
            }
        }
        let base = if alone { path } else { &at };
        validate_scale(version, &base.child("subresources").child("scale"), violations);
        validate_columns(version, &base.child("additionalPrinterColumns"), violations);
    }
    if storage != 1 {
        let detail = "must have exactly one version marked as storage version";
        violations.push(Violation::invalid(&at, spec["versions"].clone(), detail));
    }
}

fn validate_names(names: &Value, path: &Path, violations: &mut Violations) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = names.text(&format!("/{field}"));
        let kind = field.ends_with("ind");
        let reasons = names::dns_1035_label(&if kind { name.to_lowercase() } else { name.to_owned() });
        if name.is_empty() {
            violations.push(Violation::required(&path.child(field), ""));
        } else if !reasons.is_empty() {
            let prefix = if kind { "may have mixed case, but should otherwise match: " } else { "" };
            let detail = format!("{prefix}{}", reasons.join(","));
            violations.push(Violation::invalid(&path.child(field), name, detail));
        }
    }
    for list in ["shortNames", "categories"] {
        for (index, name) in names.list(&format!("/{list}")).iter().filter_map(Value::as_str).enumerate() {
            let reasons = names::dns_1035_label(name);
            if !reasons.is_empty() {
                violations.push(Violation::invalid(&path.child(list).index(index), name, reasons.join(",")));
            }
        }
    }
    if names.text("/kind") == names.text("/listKind") && !names.text("/kind").is_empty() {
        let detail = "kind and listKind may not be the same";
        violations.push(Violation::invalid(&path.child("listKind"), names.text("/listKind"), detail));
    }
}

fn validate_scale(version: &Value, path: &Path, violations: &mut Violations) {
    let Some(scale) = version.pointer("/subresources/scale") else { return };
    for (field, root) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let text = scale.text(&format!("/{field}"));
        if text.is_empty() {
            violations.push(Violation::required(&path.child(field), ""));
        } else if !text.starts_with(root) {
            let detail = format!("should be a json path under {}", root.trim_end_matches('.'));
            violations.push(Violation::invalid(&path.child(field), text, detail));
        }
    }
}

fn validate_columns(version: &Value, path: &Path, violations: &mut Violations) {
    for (index, column) in version.list("/additionalPrinterColumns").iter().enumerate() {
        let path = path.index(index);
        if column.text("/name").is_empty() {
            violations.push(Violation::required(&path.child("name"), ""));
        }
        let kind = column.text("/type");
        let detail = format!("must be one of {}", COLUMN_TYPES.join(","));
        if kind.is_empty() {
            violations.push(Violation::required(&path.child("type"), detail));
        } else if !COLUMN_TYPES.contains(&kind) {
            violations.push(Violation::invalid(&path.child("type"), kind, detail));
        }
        if column.text("/jsonPath").is_empty() {
            violations.push(Violation::required(&path.child("JSONPath"), ""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::random::Random;
    use crate::apiserver::store::Store;

    fn definition(change: impl FnOnce(&mut Value)) -> Value {
        let mut body = json!({"metadata": {"name": "gizmos.ex.dev"}, "spec": {"group": "ex.dev", "scope": "Namespaced",
            "names": {"plural": "gizmos", "kind": "Gizmo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
        change(&mut body);
        DefinitionRules.read(body).unwrap().object
    }

    fn violations(change: impl FnOnce(&mut Value)) -> Vec<String> {
        DefinitionRules.validate(&definition(change)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_are_completed_and_the_definition_is_established() {
        let mut definition = definition(|_| {});
        let (store, mut random) = (Store::new(1), Random::new(1));
        let mut around = Surroundings { store: &store, random: &mut random, now: Timestamp::UNIX_EPOCH };
        DefinitionRules.prepare_create(&mut definition, &mut around).unwrap();
        assert_eq!(definition["spec"]["names"]["listKind"], "GizmoList");
        assert_eq!(definition["status"]["acceptedNames"]["singular"], "gizmo");
        assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
        assert_eq!(definition["status"]["conditions"][1]["type"], "Established");
        assert_eq!(DefinitionRules.validate(&definition), Violations::new());
    }

    type Change = fn(&mut Value);

    #[test]
    fn malformed_definitions_are_refused() {
        let cases: [(Change, &str); 7] = [
            (
                |d| d["metadata"]["name"] = json!("x.ex.dev"),
                "metadata.name: Invalid value: \"x.ex.dev\": must be spec.names.plural+\".\"+spec.group",
            ),
            (
                |d| d["spec"]["scope"] = json!("World"),
                "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\"",
            ),
            (|d| d["spec"]["versions"][0]["storage"] = json!(false), "spec.versions: Invalid value"),
            (
                |d| d["spec"]["versions"][0]["schema"] = json!({}),
                "spec.versions[0].schema.openAPIV3Schema: Required value",
            ),
            (
                |d| d["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = json!({"type": "string"}),
                "spec.validation.openAPIV3Schema.type: Invalid value: \"string\": must be object at the root",
            ),
            (
                |d| d["spec"]["conversion"] = json!({"strategy": "Webhook"}),
                "spec.conversion.strategy: Forbidden: this API server converts between versions without webhooks only",
            ),
            (
                |d| {
                    d["spec"]["versions"][0]["additionalPrinterColumns"] =
                        json!([{"name": "A", "type": "x", "jsonPath": ".a"}]);
                },
                "spec.additionalPrinterColumns[0].type: Invalid value: \"x\": must be one of boolean,date,integer,number,string",
            ),
        ];
        for (change, expected) in cases {
            let found = violations(change);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(expected), "{found:?}");
        }
    }

    #[test]
    fn scope_and_names_may_not_change() {
        let old = definition(|_| {});
        let new = definition(|d| d["spec"]["scope"] = json!("Cluster"));
        let violations = DefinitionRules.validate_update(&new, &old);
        assert_eq!(violations[0].to_string(), "spec.scope: Invalid value: \"Cluster\": field is immutable");
    }
}
