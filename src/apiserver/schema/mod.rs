//! Structural schemas of custom resources, and what the server does with them.
//!
//! Depends on [`super::field`], [`super::go_types`] (for metadata) and [`super::object`]. [`Schema`] is made from
//! a CustomResourceDefinition once; [`super::custom`] then prunes, defaults and validates each object with it.

mod check;
mod coerce;
mod format;
mod lists;
mod prune;
mod rules;
mod validate;

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;

use format::Format;

pub(crate) use check::check_definition_schema;
pub(crate) use coerce::coerce_metadata;
pub(crate) use lists::{validate_embedded, validate_list_types};
pub(crate) use prune::{apply_defaults, drop_nulls, prune};
pub(crate) use rules::check_rules;
pub(crate) use validate::validate;

/// The JSON type of a value, as far as a schema fixes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Type {
    /// Not fixed.
    #[default]
    Any,
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
    /// `x-kubernetes-int-or-string`.
    IntOrString,
}

/// What may stand in an object beside its `properties`.
#[derive(Clone, Debug, Default)]
pub(crate) enum Additional {
    /// Nothing: unknown fields are pruned.
    #[default]
    Pruned,
    /// Anything (`additionalProperties: true`); the values themselves have no schema.
    Allowed,
    Of(Box<Schema>),
}

/// Identity of the items of a list (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    #[default]
    Atomic,
    Set,
    /// By these keys.
    Map(Vec<String>),
}

/// A bound of a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) value: f64,
    pub(crate) exclusive: bool,
}

/// A schema node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    pub(crate) kind: Type,
    pub(crate) nullable: bool,
    pub(crate) properties: BTreeMap<String, Schema>,
    pub(crate) additional: Additional,
    pub(crate) items: Option<Box<Schema>>,
    pub(crate) preserve_unknown: bool,
    pub(crate) embedded: bool,
    pub(crate) list_type: ListType,
    pub(crate) default: Option<Value>,
    pub(crate) limits: Limits,
    pub(crate) all_of: Vec<Schema>,
    pub(crate) any_of: Vec<Schema>,
    pub(crate) one_of: Vec<Schema>,
    pub(crate) not: Option<Box<Schema>>,
    /// `self == oldSelf` rules: the only ones that are evaluated.
    pub(crate) immutable: Vec<Immutable>,
}

/// Value validations of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) required: Vec<String>,
    pub(crate) choices: Option<Vec<Value>>,
    pub(crate) pattern: Option<Regex>,
    pub(crate) format: Option<Format>,
    pub(crate) minimum: Option<Bound>,
    pub(crate) maximum: Option<Bound>,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) min_length: Option<usize>,
    pub(crate) max_length: Option<usize>,
    pub(crate) min_items: Option<usize>,
    pub(crate) max_items: Option<usize>,
    pub(crate) min_properties: Option<usize>,
    pub(crate) max_properties: Option<usize>,
}

/// The rule that a value never changes, and how its violation reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Immutable {
    pub(crate) message: String,
    /// `reason` of the rule: one of the field error types.
    pub(crate) reason: Option<String>,
    /// `fieldPath` of the rule, relative to the node.
    pub(crate) field_path: Option<String>,
}

impl Schema {
    /// Reads a `JSONSchemaProps` that [`check_definition_schema`] has accepted; what it would have refused reads
    /// as absent.
    pub(crate) fn parse(source: &Value) -> Self {
        let list = |key: &str| -> Vec<Self> {
            source[key].as_array().into_iter().flatten().map(Self::parse).collect()
        };
        let flag = |key: &str| source[key].as_bool().unwrap_or(false);
        let int_or_string = flag("x-kubernetes-int-or-string");
        Self {
            kind: if int_or_string { Type::IntOrString } else { Type::parse(&source["type"]) },
            nullable: flag("nullable"),
            properties: source["properties"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, schema)| (name.clone(), Self::parse(schema)))
                .collect(),
            additional: match &source["additionalProperties"] {
                schema @ Value::Object(_) => Additional::Of(Box::new(Self::parse(schema))),
                Value::Bool(true) => Additional::Allowed,
                _ => Additional::Pruned,
            },
            items: source["items"].is_object().then(|| Box::new(Self::parse(&source["items"]))),
            preserve_unknown: flag("x-kubernetes-preserve-unknown-fields"),
            embedded: flag("x-kubernetes-embedded-resource"),
            list_type: ListType::parse(source),
            default: source.get("default").filter(|d| !d.is_null()).cloned(),
            limits: Limits::parse(source),
            all_of: list("allOf"),
            any_of: list("anyOf"),
            one_of: list("oneOf"),
            not: source["not"].is_object().then(|| Box::new(Self::parse(&source["not"]))),
            immutable: rules::parse(source),
        }
    }

    /// The schema of member `name` of an object with this schema.
    pub(crate) fn member(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Additional::Of(schema) => Some(schema),
            Additional::Pruned | Additional::Allowed => None,
        })
    }

    /// Whether any node carries a rule: then the server says when it could not check them.
    pub(crate) fn has_rules(&self) -> bool {
        let additional = match &self.additional {
            Additional::Of(schema) => Some(schema.as_ref()),
            Additional::Pruned | Additional::Allowed => None,
        };
        !self.immutable.is_empty()
            || self.properties.values().chain(self.items.as_deref()).chain(additional).any(Self::has_rules)
    }
}

impl Type {
    fn parse(source: &Value) -> Self {
        match source.as_str() {
            Some("object") => Self::Object,
            Some("array") => Self::Array,
            Some("string") => Self::String,
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("boolean") => Self::Boolean,
            _ => Self::Any,
        }
    }

    /// The name that messages show.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::IntOrString => "integer,string",
        }
    }
}

impl ListType {
    fn parse(source: &Value) -> Self {
        match source["x-kubernetes-list-type"].as_str() {
            Some("set") => Self::Set,
            Some("map") => Self::Map(strings(&source["x-kubernetes-list-map-keys"])),
            _ => Self::Atomic,
        }
    }
}

impl Limits {
    fn parse(source: &Value) -> Self {
        let bound = |key: &str, exclusive: &str| {
            let exclusive = source[exclusive].as_bool().unwrap_or(false);
            source[key].as_f64().map(|value| Bound { value, exclusive })
        };
        let count = |key: &str| source[key].as_u64().and_then(|n| usize::try_from(n).ok());
        Self {
            required: strings(&source["required"]),
            choices: source["enum"].as_array().cloned(),
            pattern: source["pattern"].as_str().and_then(|pattern| Regex::new(pattern).ok()),
            format: source["format"].as_str().and_then(Format::named),
            minimum: bound("minimum", "exclusiveMinimum"),
            maximum: bound("maximum", "exclusiveMaximum"),
            multiple_of: source["multipleOf"].as_f64(),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
        }
    }
}

fn strings(source: &Value) -> Vec<String> {
    source.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_is_read_with_its_nested_nodes() {
        let schema = Schema::parse(&json!({
            "type": "object",
            "required": ["spec"],
            "properties": {
                "spec": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "exclusiveMinimum": true}},
                "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
                         "items": {"type": "object", "properties": {"k": {"x-kubernetes-int-or-string": true}}}},
            },
        }));
        assert_eq!(schema.kind, Type::Object);
        assert_eq!(schema.limits.required, ["spec"]);
        let any = schema.member("spec").and_then(|spec| spec.member("anything")).unwrap();
        assert_eq!(any.limits.minimum, Some(Bound { value: 1.0, exclusive: true }));
        let list = schema.member("list").unwrap();
        assert_eq!(list.list_type, ListType::Map(vec!["k".to_owned()]));
        assert_eq!(list.items.as_ref().and_then(|i| i.member("k")).unwrap().kind, Type::IntOrString);
        assert!(!schema.has_rules());
    }
}
