//! Custom resources: what a CustomResourceDefinition defines, as a [`Resource`].
//!
//! Depends on [`super::schema`] for what happens to an object, on [`super::json_path`] for its columns.
//! [`super::state`] calls [`resource`] whenever a definition is written.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::field::{Path, Rule, Violation, Violations};
use super::json_path::JsonPath;
use super::names;
use super::object::{Object, semantically_equal};
use super::openapi;
use super::resource::{
    Names, Origin, Read, ReadError, Resource, Rules, ScalePaths, Scope, Subresource, Surroundings, Version,
    unsupported_field,
};
use super::schema::{
    self, Schema, apply_defaults, check_rules, coerce_metadata, drop_nulls, prune, validate_embedded,
    validate_list_types,
};
use super::status::{ApiError, GroupResource};
use super::table::{Column, human_duration};

/// The resource that a definition defines.
pub(crate) fn resource(definition: &Value) -> Resource {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let texts = |pointer: &str| -> Vec<String> {
        names.list(pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let versions = spec.list("/versions");
    let storage = versions.iter().find(|version| version["storage"] == json!(true));
    let mut served: Vec<Version> = versions.iter().map(|source| version(spec, source)).collect();
    served.sort_by_key(|version| std::cmp::Reverse(priority(&version.name)));
    Resource {
        id: GroupResource::new(spec.text("/group"), names.text("/plural")),
        names: Names {
            plural: names.text("/plural").to_owned(),
            singular: names.text("/singular").to_owned(),
            kind: names.text("/kind").to_owned(),
            list_kind: names.text("/listKind").to_owned(),
            short_names: texts("/shortNames"),
            categories: texts("/categories"),
        },
        scope: if spec.text("/scope") == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        versions: served,
        storage: storage.map_or_else(String::new, |version| version.text("/name").to_owned()),
        origin: Origin::Definition,
    }
}

/// Versions as Kubernetes prefers them: v2, v1, v1beta2, v1beta1, v1alpha1, then anything else.
pub(crate) fn priority(name: &str) -> (u8, u64, u64) {
    let number = |text: &str| text.parse::<u64>().ok().filter(|n| *n > 0);
    let Some(rest) = name.strip_prefix('v') else { return (0, 0, 0) };
    for (stability, word) in [(2, "beta"), (1, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word)
            && let (Some(major), Some(minor)) = (number(major), number(minor))
        {
            return (stability, major, minor);
        }
    }
    number(rest).map_or((0, 0, 0), |major| (3, major, 0))
}

fn version(spec: &Value, source: &Value) -> Version {
    let api_version = format!("{}/{}", spec.text("/group"), source.text("/name"));
    let kind = spec.text("/names/kind").to_owned();
    let scale = source.pointer("/subresources/scale").map(scale_paths);
    let has_status = source.pointer("/subresources/status").is_some();
    let mut subresources = Vec::new();
    if has_status {
        subresources.push(Subresource::Status);
    }
    if scale.is_some() {
        subresources.push(Subresource::Scale);
    }
    let deprecation = (source["deprecated"] == json!(true)).then(|| {
        source["deprecationWarning"]
            .as_str()
            .map_or_else(|| format!("{api_version} {kind} is deprecated"), str::to_owned)
    });
    let schema = source.pointer("/schema/openAPIV3Schema").unwrap_or(&Value::Null);
    let columns = source.list("/additionalPrinterColumns").iter().map(ColumnSource::parse).collect();
    let rules = CustomRules {
        group: spec.text("/group").to_owned(),
        version: source.text("/name").to_owned(),
        kind,
        has_status,
        schema: Schema::parse(schema),
        source: schema.clone(),
        scale: scale.clone(),
        columns,
        selectable: source.list("/selectableFields").iter().map(|f| f.text("/jsonPath").to_owned()).collect(),
    };
    Version {
        name: source.text("/name").to_owned(),
        served: source["served"] == json!(true),
        subresources,
        scale,
        rules: Arc::new(rules),
        deprecation,
    }
}

fn scale_paths(scale: &Value) -> ScalePaths {
    let pointer = |field: &str| scale.text(field).replace('.', "/");
    ScalePaths {
        spec_replicas: pointer("/specReplicasPath"),
        status_replicas: pointer("/statusReplicasPath"),
        selector: scale.get("labelSelectorPath").map(|_| pointer("/labelSelectorPath")),
    }
}

struct ColumnSource {
    column: Column,
    path: Option<JsonPath>,
}

impl ColumnSource {
    fn parse(source: &Value) -> Self {
        let mut column = Column::new(source.text("/name"), source.text("/type"), source.text("/description"));
        source.text("/format").clone_into(&mut column.format);
        column.priority = source.integer("/priority").unwrap_or(0);
        if column.description.is_empty() {
            column.description = format!(
                "Custom resource definition column (in JSONPath format): {}",
                source.text("/jsonPath")
            );
        }
        Self { column, path: JsonPath::parse(source.text("/jsonPath")) }
    }

    /// The cell: dates as ages, lists as JSON, null where there is nothing.
    fn cell(&self, object: &Value, now: Timestamp) -> Value {
        let found = self.path.as_ref().map(|path| path.find(object)).unwrap_or_default();
        let Some(first) = found.first() else { return Value::Null };
        match (self.column.kind.as_str(), first) {
            ("integer", Value::Number(number)) => number.as_i64().map_or(Value::Null, Value::from),
            ("number" | "boolean", value) => (*value).clone(),
            ("date", Value::String(text)) => match text.parse::<Timestamp>() {
                Ok(moment) => json!(human_duration(now.duration_since(moment).as_secs())),
                Err(_) => json!("<invalid>"),
            },
            ("string", _) => {
                let texts: Vec<String> = found
                    .iter()
                    .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
                    .collect();
                json!(texts.join(","))
            }
            _ => Value::Null,
        }
    }
}

struct CustomRules {
    group: String,
    version: String,
    kind: String,
    has_status: bool,
    schema: Schema,
    /// The schema as the definition has it.
    source: Value,
    scale: Option<ScalePaths>,
    columns: Vec<ColumnSource>,
    selectable: Vec<String>,
}

impl CustomRules {
    fn api_version(&self) -> String {
        format!("{}/{}", self.group, self.version)
    }

    fn validate_kind(&self, object: &Value) -> Violations {
        let kind = object.text("/kind");
        if kind == self.kind {
            return Violations::new();
        }
        vec![Violation::invalid(&Path::of("kind"), kind, format!("must be {}", self.kind))]
    }

    /// What the schema says of the object and of its change; `whole` is the part that the schema judges.
    fn finish(&self, mut violations: Violations, new: &Value, old: Option<&Value>) -> Violations {
        let blocking = |violation: &Violation| {
            matches!(
                violation.rule,
                Rule::NotSupported | Rule::Required | Rule::TooLong | Rule::TooMany | Rule::TypeInvalid
            )
        };
        let root = Path::root();
        violations.extend(validate_embedded(new, &self.schema, &root));
        let repeated = |object: &Value| validate_list_types(object, &self.schema, &root);
        if old.is_none_or(|old| repeated(old).is_empty()) {
            violations.extend(repeated(new));
        }
        if self.schema.has_rules() && violations.iter().any(blocking) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing \
                          errors to complete validation";
            violations.push(Violation::invalid(&root, Value::Null, detail));
        } else if let Some(old) = old {
            violations.extend(check_rules(new, old, &self.schema));
        }
        violations
    }

    /// Counts behind the scale subresource are non-negative 32-bit integers.
    fn validate_replicas(&self, object: &Value, pointer: Option<&str>) -> Violations {
        let Some(pointer) = pointer else { return Violations::new() };
        let path = Path::of(&pointer.replace('/', "."));
        let invalid = |count: i64, detail: String| vec![Violation::invalid(&path, count, detail)];
        match nested_integer(object, pointer) {
            Ok(Some(count)) if count < 0 => invalid(count, "should be a non-negative integer".to_owned()),
            Ok(Some(count)) if count > i64::from(i32::MAX) => {
                invalid(count, format!("should be less than or equal to {}", i32::MAX))
            }
            Ok(_) => Violations::new(),
            Err(why) => invalid(0, format!("{path} accessor error: {why}")),
        }
    }
}

/// The integer at a pointer; why it cannot be read, in Go's words.
fn nested_integer(object: &Value, pointer: &str) -> Result<Option<i64>, String> {
    let mut value = object;
    for name in pointer.split('/').skip(1) {
        let Some(members) = value.as_object() else {
            return Err(format!(
                "{} is of the type {}, expected map[string]interface{{}}",
                shown(value),
                go_type(value)
            ));
        };
        let Some(member) = members.get(name) else { return Ok(None) };
        value = member;
    }
    match value {
        Value::Null => Ok(None),
        other => other
            .as_i64()
            .map(Some)
            .ok_or_else(|| format!("{} is of the type {}, expected int64", shown(other), go_type(other))),
    }
}

/// A value as Go's `%v` prints it, as far as one line goes.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().map_or_else(|| number.to_string(), |n| n.to_string()),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(" ")),
        other => other.to_string(),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

impl Rules for CustomRules {
    fn read(&self, mut body: Value) -> Result<Read, ReadError> {
        let kind = body.text("/kind").to_owned();
        if kind.is_empty() {
            let shown: String = body.to_string();
            let start: String = shown.chars().take(30).collect();
            let excerpt = if shown.len() > 30 { format!("{start} ...") } else { start };
            return Err(ReadError::Unrecognized(format!(
                "the object provided is unrecognized (must be of type {}): Object 'Kind' is missing in '{shown}' \
                 ({excerpt})",
                self.kind
            )));
        }
        let stated = body.text("/apiVersion");
        if stated != self.api_version() {
            return Err(ReadError::Unrecognized(format!(
                "the API version in the data ({stated}) does not match the expected API version ({})",
                self.api_version()
            )));
        }
        let mut unknown = coerce_metadata(&mut body, &self.schema).map_err(|why| ReadError::Unfit {
            stated: kind,
            version: self.version.clone(),
            kind: self.kind.clone(),
            why,
        })?;
        unknown.extend(prune(&mut body, &self.schema));
        unknown.sort();
        drop_nulls(&mut body, Some(&self.schema));
        apply_defaults(&mut body, &self.schema);
        Ok(Read { object: body, unknown })
    }

    fn needs_qualified_finalizers(&self) -> bool {
        false
    }

    fn update_needs_version(&self) -> bool {
        true
    }

    fn prepare_create(&self, object: &mut Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        if self.has_status {
            object.set_member("status", None);
        }
        object.set_meta("generation", Some(json!(1)));
        Ok(())
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, _: &mut Surroundings<'_>) -> Result<(), ApiError> {
        if self.has_status {
            new.set_member("status", old.get("status").cloned());
        }
        let content = |object: &Value| {
            let mut content = object.clone();
            content.set_member("metadata", None);
            content
        };
        if !semantically_equal(Some(&content(new)), Some(&content(old))) {
            new.set_meta("generation", Some(json!(old.generation() + 1)));
        }
        Ok(())
    }

    fn prepare_status(&self, new: &mut Value, old: &Value) {
        let status = new.get("status").cloned();
        let version = new.pointer("/metadata/resourceVersion").cloned();
        *new = old.clone();
        new.set_member("status", status);
        new.set_meta("resourceVersion", version);
    }

    fn validate(&self, object: &Value) -> Violations {
        let kind = self.validate_kind(object);
        if !kind.is_empty() {
            return kind;
        }
        let mut violations = schema::validate(object, None, &self.schema, &Path::root());
        violations
            .extend(self.validate_replicas(object, self.scale.as_ref().map(|s| s.spec_replicas.as_str())));
        violations
            .extend(self.validate_replicas(object, self.scale.as_ref().map(|s| s.status_replicas.as_str())));
        self.finish(violations, object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Violations {
        let kind = self.validate_kind(new);
        if !kind.is_empty() {
            return kind;
        }
        let mut violations = schema::validate(new, Some(old), &self.schema, &Path::root());
        violations.extend(self.validate_replicas(new, self.scale.as_ref().map(|s| s.spec_replicas.as_str())));
        violations
            .extend(self.validate_replicas(new, self.scale.as_ref().map(|s| s.status_replicas.as_str())));
        self.finish(violations, new, Some(old))
    }

    fn validate_status(&self, new: &Value, old: &Value) -> Violations {
        let mut violations = match (new.get("status"), self.schema.member("status")) {
            (Some(status), Some(schema)) => {
                schema::validate(status, old.get("status"), schema, &Path::of("status"))
            }
            _ => Violations::new(),
        };
        violations
            .extend(self.validate_replicas(new, self.scale.as_ref().map(|s| s.status_replicas.as_str())));
        self.finish(violations, new, Some(old))
    }

    /// Finalizers without a domain may clash with those of others.
    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        const STANDARD: [&str; 3] = ["orphan", "foregroundDeletion", "kubernetes"];
        let known = old.map(Object::finalizers).unwrap_or_default();
        let mut added: Vec<&str> = new.finalizers().into_iter().filter(|f| !known.contains(f)).collect();
        added.sort_unstable();
        let mut warnings = Vec::new();
        for name in added {
            let prefix = format!("metadata.finalizers: \"{name}\": ");
            warnings.extend(names::qualified_name(name).into_iter().map(|why| format!("{prefix}{why}")));
            if !name.contains('/') && !STANDARD.contains(&name) {
                let path = if name.contains('.') { " including a path (/)" } else { "" };
                warnings.push(format!(
                    "{prefix}prefer a domain-qualified finalizer name{path} to avoid accidental conflicts with other \
                     finalizer writers"
                ));
            }
        }
        warnings
    }

    fn field(&self, object: &Value, field: &str) -> Option<String> {
        let declared = self.selectable.iter().find(|path| path.trim_start_matches('.') == field)?;
        let found = JsonPath::parse(declared)?;
        Some(match found.find(object).first() {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        })
    }

    fn unknown_field(&self, field: &str) -> String {
        unsupported_field(field)
    }

    fn open_api(&self) -> (String, Value) {
        let name = openapi::custom_name(&self.group, &self.version, &self.kind);
        (name, openapi::custom_schema(&self.source))
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![Column::name()];
        columns.extend(self.columns.iter().map(|source| source.column.clone()));
        if self.columns.is_empty() {
            columns.push(Column::new(
                "Age",
                "date",
                "CreationTimestamp is the time when the object was created.",
            ));
        }
        columns
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![json!(object.name())];
        cells.extend(self.columns.iter().map(|source| source.cell(object, now)));
        if self.columns.is_empty() {
            cells.push(super::table::age(object, now));
        }
        cells
    }
}
