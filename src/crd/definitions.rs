//! The CustomResourceDefinitions of the five Argo kinds, as objects and as YAML.
//!
//! Depends on `schema` and the Rollout's types. Names, columns and subresources are those of contract A1
//! and of Argo Rollouts' own definitions, so that clients see no difference. deploy/crds holds exactly
//! this YAML, which `rolloutd crds` prints.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceColumnDefinition, CustomResourceDefinition, CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec, CustomResourceDefinitionVersion, CustomResourceSubresourceScale,
    CustomResourceSubresourceStatus, CustomResourceSubresources, CustomResourceValidation,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value, json};

use super::schema::structural;
use super::{GROUP, RolloutSpec, RolloutStatus, VERSION};

/// What tells one kind from another.
struct Kind {
    kind: &'static str,
    plural: &'static str,
    short_name: &'static str,
    scope: &'static str,
    columns: Vec<CustomResourceColumnDefinition>,
    subresources: Option<CustomResourceSubresources>,
    schema: Value,
}

/// The definitions, Rollout first.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        definition(rollout()),
        definition(Kind {
            kind: "AnalysisRun",
            plural: "analysisruns",
            short_name: "ar",
            scope: "Namespaced",
            columns: vec![column("Status", "string", ".status.phase", "Phase of the analysis run"), age()],
            subresources: None,
            schema: open_schema("An analysis that runs or has run.", &["spec", "status"]),
        }),
        definition(Kind {
            kind: "AnalysisTemplate",
            plural: "analysistemplates",
            short_name: "at",
            scope: "Namespaced",
            columns: vec![age()],
            subresources: None,
            schema: open_schema("What analysis runs of a namespace measure.", &["spec"]),
        }),
        definition(Kind {
            kind: "ClusterAnalysisTemplate",
            plural: "clusteranalysistemplates",
            short_name: "cat",
            scope: "Cluster",
            columns: vec![age()],
            subresources: None,
            schema: open_schema("What analysis runs of any namespace measure.", &["spec"]),
        }),
        definition(Kind {
            kind: "Experiment",
            plural: "experiments",
            short_name: "exp",
            scope: "Namespaced",
            columns: vec![column("Status", "string", ".status.phase", "Phase of the experiment"), age()],
            subresources: None,
            schema: open_schema("ReplicaSets that run side by side for a while.", &["spec", "status"]),
        }),
    ]
}

/// The definitions as one YAML stream.
#[must_use]
pub fn definitions_yaml() -> String {
    definitions().iter().map(definition_yaml).collect::<Vec<_>>().join("---\n")
}

/// One definition as a YAML document.
fn definition_yaml(definition: &CustomResourceDefinition) -> String {
    // Through Value, whose maps keep the order in which k8s-openapi writes fields.
    serde_json::to_value(definition)
        .map_err(|error| error.to_string())
        .and_then(|value| serde_saphyr::to_string(&value).map_err(|error| error.to_string()))
        .expect("a definition holds nothing but strings, booleans, lists and maps with string keys")
}

fn rollout() -> Kind {
    let columns = vec![
        column("Desired", "integer", ".spec.replicas", "Number of desired pods"),
        column("Current", "integer", ".status.replicas", "Number of pods"),
        column("Up-to-date", "integer", ".status.updatedReplicas", "Number of pods of the new version"),
        column("Available", "integer", ".status.availableReplicas", "Number of available pods"),
        age(),
    ];
    let mut spec = structural::<RolloutSpec>();
    let mut status = structural::<RolloutStatus>();
    // A field that is newer than this definition is kept at these two levels rather than lost.
    for schema in [&mut spec, &mut status] {
        schema.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
    }
    let properties = [("spec", Value::Object(spec)), ("status", Value::Object(status))];
    Kind {
        kind: super::KIND,
        plural: "rollouts",
        short_name: "ro",
        scope: "Namespaced",
        columns,
        subresources: Some(CustomResourceSubresources {
            scale: Some(CustomResourceSubresourceScale {
                label_selector_path: Some(".status.selector".to_owned()),
                spec_replicas_path: ".spec.replicas".to_owned(),
                status_replicas_path: ".status.HPAReplicas".to_owned(),
            }),
            status: Some(CustomResourceSubresourceStatus(json!({}))),
        }),
        schema: object_schema("Replaces the pods of a workload with those of a new version.", properties),
    }
}

/// The schema of a kind whose parts are not described: everything in them is kept.
fn open_schema(description: &str, parts: &[&'static str]) -> Value {
    let any = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    object_schema(description, parts.iter().map(|part| (*part, any.clone())))
}

/// The schema of a whole object: the parts that every object has, and its own.
fn object_schema(description: &str, parts: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let string = |description: &str| json!({ "type": "string", "description": description });
    let mut properties = Map::new();
    properties.insert("apiVersion".to_owned(), string("Version of the API that this object is written for."));
    properties.insert("kind".to_owned(), string("What kind of object this is."));
    properties.insert("metadata".to_owned(), json!({ "type": "object" }));
    properties.extend(parts.into_iter().map(|(part, schema)| (part.to_owned(), schema)));
    json!({
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": properties,
    })
}

fn definition(kind: Kind) -> CustomResourceDefinition {
    let schema = serde_json::from_value(kind.schema)
        .expect("structural() and object_schema() use only keywords that JSONSchemaProps has");
    CustomResourceDefinition {
        metadata: ObjectMeta { name: Some(format!("{}.{GROUP}", kind.plural)), ..ObjectMeta::default() },
        spec: CustomResourceDefinitionSpec {
            group: GROUP.to_owned(),
            names: CustomResourceDefinitionNames {
                kind: kind.kind.to_owned(),
                list_kind: Some(format!("{}List", kind.kind)),
                plural: kind.plural.to_owned(),
                short_names: Some(vec![kind.short_name.to_owned()]),
                singular: Some(kind.kind.to_lowercase()),
                ..CustomResourceDefinitionNames::default()
            },
            scope: kind.scope.to_owned(),
            versions: vec![CustomResourceDefinitionVersion {
                name: VERSION.to_owned(),
                served: true,
                storage: true,
                additional_printer_columns: Some(kind.columns),
                schema: Some(CustomResourceValidation { open_api_v3_schema: Some(schema) }),
                subresources: kind.subresources,
                ..CustomResourceDefinitionVersion::default()
            }],
            ..CustomResourceDefinitionSpec::default()
        },
        status: None,
    }
}

fn column(name: &str, kind: &str, json_path: &str, description: &str) -> CustomResourceColumnDefinition {
    CustomResourceColumnDefinition {
        name: name.to_owned(),
        type_: kind.to_owned(),
        json_path: json_path.to_owned(),
        description: Some(description.to_owned()),
        ..CustomResourceColumnDefinition::default()
    }
}

fn age() -> CustomResourceColumnDefinition {
    column("Age", "date", ".metadata.creationTimestamp", "Time since the object was created")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Set to any value, this variable makes the test below write deploy/crds instead of comparing.
    const UPDATE: &str = "UPDATE_CRDS";

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a switch for whoever runs the test")]
    fn deploy_crds_holds_exactly_what_is_printed() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/crds");
        let mut files = Vec::new();
        for definition in definitions() {
            let path = directory.join(format!("{}.yaml", definition.spec.names.plural));
            let yaml = definition_yaml(&definition);
            if std::env::var(UPDATE).is_ok() {
                fs::create_dir_all(&directory).unwrap();
                fs::write(&path, &yaml).unwrap();
            }
            let stored = fs::read_to_string(&path).unwrap_or_default();
            assert!(stored == yaml, "{} is stale: UPDATE_CRDS=1 cargo test --lib crd::", path.display());
            files.push(path);
        }
        let mut present: Vec<_> =
            fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        present.sort();
        files.sort();
        assert_eq!(present, files, "a file in deploy/crds that nothing prints");
    }

    #[test]
    fn the_yaml_reads_back_as_the_same_definitions() {
        let printed: Vec<Value> = serde_saphyr::from_multiple(&definitions_yaml()).unwrap();
        let made: Vec<_> = definitions().iter().map(|made| serde_json::to_value(made).unwrap()).collect();
        assert_eq!(printed, made);
    }

    #[test]
    fn names_scopes_and_subresources_are_those_clients_know() {
        let cases = [
            ("rollouts", "Rollout", "ro", "Namespaced", true),
            ("analysisruns", "AnalysisRun", "ar", "Namespaced", false),
            ("analysistemplates", "AnalysisTemplate", "at", "Namespaced", false),
            ("clusteranalysistemplates", "ClusterAnalysisTemplate", "cat", "Cluster", false),
            ("experiments", "Experiment", "exp", "Namespaced", false),
        ];
        assert_eq!(definitions().len(), cases.len());
        for (made, (plural, kind, short, scope, subresources)) in definitions().iter().zip(cases) {
            assert_eq!(made.metadata.name, Some(format!("{plural}.argoproj.io")));
            assert_eq!((made.spec.names.plural.as_str(), made.spec.names.kind.as_str()), (plural, kind));
            assert_eq!(made.spec.names.short_names.as_deref(), Some(&[short.to_owned()][..]));
            assert_eq!(made.spec.scope, scope);
            let version = &made.spec.versions[0];
            assert_eq!((version.name.as_str(), version.subresources.is_some()), ("v1alpha1", subresources));
        }
    }

    #[test]
    fn the_selector_never_changes() {
        let rule = json!([{ "rule": "self == oldSelf", "message": ".spec.selector is immutable" }]);
        assert_eq!(structural::<RolloutSpec>()["properties"]["selector"]["x-kubernetes-validations"], rule);
    }

    #[test]
    fn every_schema_is_structural_and_free_of_what_rust_adds() {
        for definition in definitions() {
            let schema = definition.spec.versions[0].schema.as_ref().unwrap();
            check(&serde_json::to_value(&schema.open_api_v3_schema).unwrap(), &definition.spec.names.kind);
        }
    }

    /// Kubernetes' rules for structural schemas, as far as these schemas could break them, and no noise.
    fn check(schema: &Value, path: &str) {
        let schema = schema.as_object().unwrap();
        let allowed = ["int32", "int64", "date-time"];
        assert!(
            schema.get("format").is_none_or(|format| allowed.iter().any(|text| format == text)),
            "{path}"
        );
        for noise in ["nullable", "default", "title", "minimum", "$ref", "oneOf", "allOf", "enum"] {
            assert!(!schema.contains_key(noise), "{path}: {noise}");
        }
        let int_or_string = schema.contains_key("x-kubernetes-int-or-string");
        assert_eq!(schema.contains_key("anyOf"), int_or_string, "{path}");
        assert_eq!(schema.get("type").and_then(Value::as_str).is_none(), int_or_string, "{path}");
        assert!(
            !(schema.contains_key("properties") && schema.contains_key("additionalProperties")),
            "{path}"
        );
        for keyword in ["items", "additionalProperties"] {
            if let Some(below) = schema.get(keyword) {
                check(below, &format!("{path}.{keyword}"));
            }
        }
        for (name, below) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            check(below, &format!("{path}.{name}"));
        }
    }
}
