//! What a manifest gets wrong that can be told from its form: values of the wrong type, and fields that nobody knows.
//!
//! The former are refused; the latter are warned about, with the nearest name that is known: an unknown field is kept (it may be
//! newer than this server), but most often it is misspelt. Along the Rollout's definition and the Go types of pod templates.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::kind::{DEPLOYMENT, POD_TEMPLATE, ROLLOUT};
use super::{Fault, Item};
use crate::crd;
use crate::hash::go_types::{GoType, GoTypes};
use crate::pb::v1;
use crate::validate::Path;

/// The reason of a warning about an unknown field.
const UNKNOWN_FIELD: &str = "UNKNOWN_FIELD";

/// How alike two names must be (Jaro-Winkler, 0 to 1) for one to be suggested instead of the other.
const ALIKE: f64 = 0.8;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Values of the wrong type.
    pub faults: Vec<Fault>,
    /// Unknown fields.
    pub warnings: Vec<v1::Warning>,
}

/// Looks at the form of an object.
#[must_use]
pub fn check(item: &Item) -> Findings {
    let mut lint = Lint { item, findings: Findings::default() };
    let object = &item.document.object;
    // A PodTemplate has its template at the top.
    let content = if *item.kind == POD_TEMPLATE { "template" } else { "spec" };
    let top = ["apiVersion", "kind", "metadata", content, "status"];
    lint.unknown(object, &top, &Path::default());
    if let Some(metadata) = object.get("metadata") {
        lint.structural(metadata, &METADATA, &Path::root("metadata"));
    }
    if item.kind.group == crd::GROUP {
        // Of the other kinds no more is known.
        let schema = if *item.kind == ROLLOUT { &*SPEC } else { &json!({ "type": "object" }) };
        match object.get("spec") {
            Some(spec) if !spec.is_null() => lint.structural(spec, schema, &Path::root("spec")),
            _ => lint.fault(&Path::root("spec"), "is required"),
        }
    }
    let (template, path) = match content {
        "spec" => {
            (object.get("spec").and_then(|spec| spec.get("template")), Path::root("spec").field("template"))
        }
        _ => (object.get("template"), Path::root("template")),
    };
    if [ROLLOUT, DEPLOYMENT, POD_TEMPLATE].contains(item.kind)
        && let Some(template) = template
    {
        lint.go(template, &GoTypes::get().named("PodTemplateSpec"), &path);
    }
    lint.findings
}

/// The spec in the Rollout's definition.
static SPEC: LazyLock<Value> = LazyLock::new(|| {
    let definition = crd::definitions().swap_remove(0);
    let version = definition.spec.versions.into_iter().next();
    let schema = version.and_then(|version| version.schema).and_then(|schema| schema.open_api_v3_schema);
    let mut schema = serde_json::to_value(schema).unwrap_or_default();
    schema["properties"]["spec"].take()
});

/// The metadata that every object may have.
static METADATA: LazyLock<Value> = LazyLock::new(|| {
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let text = json!({ "type": "string" });
    let any = json!({ "x-kubernetes-preserve-unknown-fields": true });
    let mut properties = Map::new();
    for name in ["name", "namespace", "generateName", "resourceVersion", "uid", "selfLink"] {
        properties.insert(name.to_owned(), text.clone());
    }
    for name in ["labels", "annotations"] {
        properties.insert(name.to_owned(), texts.clone());
    }
    for name in [
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "finalizers",
        "generation",
        "managedFields",
        "ownerReferences",
    ] {
        properties.insert(name.to_owned(), any.clone());
    }
    json!({ "type": "object", "properties": properties })
});

struct Lint<'a> {
    item: &'a Item,
    findings: Findings,
}

impl Lint<'_> {
    fn fault(&mut self, path: &Path, description: impl Into<String>) {
        let field = self.item.document.at(&path.to_string());
        self.findings.faults.push(Fault::new(field, description));
    }

    /// Walks a value along a structural schema. Null is absence.
    fn structural(&mut self, value: &Value, schema: &Value, path: &Path) {
        if value.is_null() {
            return;
        }
        let expected = match schema["type"].as_str() {
            _ if schema["x-kubernetes-int-or-string"] == true => {
                if !value.is_i64() && !value.is_u64() && !value.is_string() {
                    self.fault(path, format!("must be an integer or text, not {}", kind_of(value)));
                } else if let Some(wanted) = out_of_form("int32", value) {
                    self.fault(path, format!("must be {wanted}, not {}", kind_of(value)));
                }
                return;
            }
            Some(expected) => expected,
            None => return,
        };
        let form = schema["format"].as_str().unwrap_or_default();
        if let Some(wanted) = mismatch(expected, value).or_else(|| out_of_form(form, value)) {
            self.fault(path, format!("must be {wanted}, not {}", kind_of(value)));
            return;
        }
        match value {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.structural(item, &schema["items"], &path.index(index));
                }
            }
            Value::Object(fields) => self.fields(fields, schema, path),
            _ => {}
        }
    }

    fn fields(&mut self, fields: &Map<String, Value>, schema: &Value, path: &Path) {
        if let Some(values) = schema.get("additionalProperties") {
            for (key, value) in fields {
                self.structural(value, values, &path.key(key));
            }
            return;
        }
        let Some(properties) = schema["properties"].as_object() else { return };
        let known: Vec<&str> = properties.keys().map(String::as_str).collect();
        self.unknown(fields, &known, path);
        for (name, below) in properties {
            if let Some(value) = fields.get(name) {
                self.structural(value, below, &path.field(name.clone()));
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if fields.get(name).is_none_or(Value::is_null) {
                self.fault(&path.field(name.to_owned()), "is required");
            }
        }
    }

    /// Walks a value along a Go type. Wrong types are left to validation, which knows more of pod templates.
    fn go(&mut self, value: &Value, go_type: &GoType, path: &Path) {
        match (go_type, value) {
            (GoType::Pointer(below), value) => self.go(value, below, path),
            (GoType::Slice(below), Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    self.go(item, below, &path.index(index));
                }
            }
            (GoType::Map(below), Value::Object(fields)) => {
                for (key, value) in fields {
                    self.go(value, below, &path.key(key));
                }
            }
            (GoType::Struct(index), Value::Object(fields)) => {
                let structure = GoTypes::get().structure(*index);
                let known: Vec<&str> = structure.fields.iter().map(|field| field.name.as_str()).collect();
                self.unknown(fields, &known, path);
                for (name, value) in fields {
                    if let Some(field) = structure.field(name) {
                        self.go(value, &field.go_type, &path.field(name.clone()));
                    }
                }
            }
            _ => {}
        }
    }

    fn unknown(&mut self, fields: &Map<String, Value>, known: &[&str], path: &Path) {
        for name in fields.keys().filter(|name| !known.contains(&name.as_str())) {
            let field = self.item.document.at(&path.field(name.clone()).to_string());
            let hint = match nearest(name, known) {
                Some(nearest) => format!("; did you mean {nearest}?"),
                None => String::new(),
            };
            self.findings.warnings.push(v1::Warning {
                reason: UNKNOWN_FIELD.to_owned(),
                field,
                description: format!("this version does not know {name:?} and does not act on it{hint}"),
            });
        }
    }
}

/// What a value must be, where it is something else.
fn mismatch(expected: &str, value: &Value) -> Option<&'static str> {
    match (expected, value) {
        ("object", Value::Object(_))
        | ("array", Value::Array(_))
        | ("string", Value::String(_))
        | ("boolean", Value::Bool(_))
        | ("number", Value::Number(_)) => None,
        ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => None,
        ("object", _) => Some("an object"),
        ("array", _) => Some("a list"),
        ("string", _) => Some("text"),
        ("boolean", _) => Some("true or false"),
        ("integer", _) => Some("an integer"),
        ("number", _) => Some("a number"),
        _ => None,
    }
}

/// What a value of the right type must be, where it is too large, or no time.
fn out_of_form(form: &str, value: &Value) -> Option<&'static str> {
    match (form, value) {
        ("int32", Value::Number(number)) => {
            let fits = number.as_i64().is_some_and(|number| i32::try_from(number).is_ok());
            (!fits).then_some("between -2147483648 and 2147483647")
        }
        ("int64", Value::Number(number)) => {
            (!number.is_i64()).then_some("between -9223372036854775808 and 9223372036854775807")
        }
        ("date-time", Value::String(text)) => {
            text.parse::<jiff::Timestamp>().is_err().then_some("a time such as 2026-01-31T12:00:00Z")
        }
        _ => None,
    }
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("the text {text:?}"),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}

/// The known name that is most like this one, if any is.
fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    let likeness = |known: &&str| strsim::jaro_winkler(&lower, &known.to_ascii_lowercase());
    known
        .iter()
        .map(|known| (likeness(known), *known))
        .filter(|(likeness, _)| *likeness >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{document, item};

    fn findings(spec: &str) -> Findings {
        let yaml = format!(
            "apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{ name: web }}\nspec: {spec}"
        );
        check(&item::find(document::read(&yaml).unwrap().objects, "shop").items[0])
    }

    #[test]
    fn an_unknown_field_is_warned_about_with_the_nearest_known_name() {
        for (spec, field, hint) in [
            ("{ replica: 1 }", "[0].spec.replica", "did you mean replicas?"),
            (
                "{ strategy: { canary: { steps: [{ setWieght: 20 }] } } }",
                "[0].spec.strategy.canary.steps[0].setWieght",
                "did you mean setWeight?",
            ),
            ("{ strategy: { bluegreen: {} } }", "[0].spec.strategy.bluegreen", "did you mean blueGreen?"),
            (
                "{ template: { spec: { containers: [{ imagePulPolicy: Always }] } } }",
                "[0].spec.template.spec.containers[0].imagePulPolicy",
                "did you mean imagePullPolicy?",
            ),
            (
                "{ template: { spec: { volumes: [{ configMap: { itmes: [] } }] } } }",
                "[0].spec.template.spec.volumes[0].configMap.itmes",
                "did you mean items?",
            ),
            ("{ zebra: 1 }", "[0].spec.zebra", "does not act on it"),
        ] {
            let Findings { faults, warnings } = findings(spec);
            assert_eq!(faults, []);
            assert_eq!((warnings.len(), warnings[0].field.as_str()), (1, field), "{spec}");
            assert!(warnings[0].description.ends_with(hint), "{}", warnings[0].description);
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_place() {
        for (spec, field, description) in [
            ("{ replicas: three }", "[0].spec.replicas", "must be an integer, not the text \"three\""),
            ("{ replicas: 1.5 }", "[0].spec.replicas", "must be an integer, not 1.5"),
            ("{ paused: 1 }", "[0].spec.paused", "must be true or false, not 1"),
            (
                "{ strategy: { canary: { steps: { setWeight: 1 } } } }",
                "[0].spec.strategy.canary.steps",
                "must be a list, not an object",
            ),
            (
                "{ strategy: { canary: { maxSurge: [1] } } }",
                "[0].spec.strategy.canary.maxSurge",
                "must be an integer or text, not a list",
            ),
            (
                "{ selector: { matchLabels: { app: 1 } } }",
                "[0].spec.selector.matchLabels[app]",
                "must be text, not 1",
            ),
            ("{ strategy: { blueGreen: {} } }", "[0].spec.strategy.blueGreen.activeService", "is required"),
            ("7", "[0].spec", "must be an object, not 7"),
            (
                "{ replicas: 3000000000 }",
                "[0].spec.replicas",
                "must be between -2147483648 and 2147483647, not 3000000000",
            ),
            (
                "{ strategy: { canary: { maxSurge: 3000000000 } } }",
                "[0].spec.strategy.canary.maxSurge",
                "must be between -2147483648 and 2147483647, not 3000000000",
            ),
            (
                "{ restartAt: yesterday }",
                "[0].spec.restartAt",
                "must be a time such as 2026-01-31T12:00:00Z, not the text \"yesterday\"",
            ),
        ] {
            assert_eq!(findings(spec).faults, [Fault::new(field, description)], "{spec}");
        }
    }

    #[test]
    fn every_argo_kind_has_a_spec_that_is_an_object() {
        for kind in ["Rollout", "AnalysisTemplate", "ClusterAnalysisTemplate", "AnalysisRun", "Experiment"] {
            for (spec, description) in [
                ("", "is required"),
                ("spec: ~", "is required"),
                ("spec: [1]", "must be an object, not a list"),
            ] {
                let yaml = format!(
                    "apiVersion: argoproj.io/v1alpha1\nkind: {kind}\nmetadata: {{ name: web }}\n{spec}"
                );
                let found = item::find(document::read(&yaml).unwrap().objects, "shop");
                assert_eq!(check(&found.items[0]).faults, [Fault::new("[0].spec", description)], "{yaml}");
            }
        }
    }

    #[test]
    fn what_is_known_and_what_is_opaque_is_not_remarked_upon() {
        let spec = "{ replicas: 2, selector: { matchLabels: { any/key: v } }, restartAt: null, strategy: { canary: { maxSurge: 25%, \
            trafficRouting: { plugins: { a/b: { any: [thing] } } }, steps: [{ pause: { duration: 10 } }, { plugin: { name: x, config: { y: 1 } } }] } }, \
            template: { metadata: { labels: { a: b } }, spec: { containers: [{ name: a, image: b, resources: { limits: { cpu: 1 } } }] } } }";
        assert_eq!(findings(spec), Findings::default());
    }
}
