//! docs/compatibility.md says of each field of a Rollout what shows that it works: here it is checked that it leaves none out, that the
//! tests which it names exist, and that what it calls «not yet» is what the engine turns away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use rolloutd::crd::{self, Rollout};
use rolloutd::plan::unsupported;
use serde_json::{Map, Value, json};

/// How the page calls what is not acted on.
const NOT_YET: &str = "not yet";

fn page() -> String {
    fs::read_to_string("docs/compatibility.md").expect("the page")
}

/// The words between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A row of the tables of fields: whether the field is acted on, and the tests.
struct Row {
    acted_on: String,
    tests: Vec<String>,
}

fn rows() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in page().lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [field, acted_on, tests] = cells.as_slice() else { continue };
        let &[field] = quoted(field).as_slice() else { continue };
        let tests = quoted(tests).into_iter().map(str::to_owned).collect();
        let row = Row { acted_on: (*acted_on).to_owned(), tests };
        assert!(rows.insert(field.to_owned(), row).is_none(), "{field} is there twice");
    }
    rows
}

/// The schema of a Rollout's spec and status.
fn schema() -> Value {
    let definitions = serde_json::to_value(crd::definitions()).expect("JSON");
    let versions = &definitions[0]["spec"]["versions"];
    versions[0]["schema"]["openAPIV3Schema"]["properties"].clone()
}

/// The innermost fields of a schema, by path.
fn fields(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) {
        for (name, inner) in properties {
            fields(&format!("{path}.{name}"), inner, found);
        }
    } else if schema["items"]["properties"].is_object() {
        fields(&format!("{path}[]"), &schema["items"], found);
    } else {
        found.insert(path.to_owned());
    }
}

/// A value with all fields that a schema has.
fn with_everything(schema: &Value) -> Value {
    if let Some(properties) = schema["properties"].as_object().filter(|properties| !properties.is_empty()) {
        return properties
            .iter()
            .map(|(name, inner)| (name.clone(), with_everything(inner)))
            .collect::<Map<_, _>>()
            .into();
    }
    if schema.get("x-kubernetes-int-or-string").is_some() {
        return json!(1);
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("boolean"), _) => json!(true),
        (Some("integer" | "number"), _) => json!(1),
        (Some("string"), Some("date-time")) => json!("2026-01-01T00:00:00Z"),
        (Some("string"), _) => json!("1s"),
        (Some("array"), _) => json!([with_everything(&schema["items"])]),
        _ if schema["additionalProperties"].is_object() => {
            json!({ "key": with_everything(&schema["additionalProperties"]) })
        }
        _ => json!({}),
    }
}

fn matches(row: &str, field: &str) -> bool {
    match row.strip_suffix(".*") {
        Some(above) => {
            field.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        }
        None => row == field,
    }
}

#[test]
fn every_field_is_on_the_page_and_none_that_there_is_not() {
    let (schema, rows) = (schema(), rows());
    let mut all = BTreeSet::new();
    for part in ["spec", "status"] {
        fields(part, &schema[part], &mut all);
    }
    assert!(all.len() > 150, "{all:#?}");
    let missing: Vec<&String> =
        all.iter().filter(|field| !rows.keys().any(|row| matches(row, field))).collect();
    assert!(missing.is_empty(), "fields that no row is about: {missing:#?}");
    let surplus: Vec<&String> =
        rows.keys().filter(|row| !all.iter().any(|field| matches(row, field))).collect();
    assert!(surplus.is_empty(), "rows about no field: {surplus:#?}");
}

#[test]
fn the_fields_that_are_not_acted_on_are_those_that_the_engine_turns_away() {
    let schema = schema();
    let object = json!({ "spec": with_everything(&schema["spec"]) });
    let rollout = Rollout::decode(&object).expect("a rollout with every field");
    let turned_away = unsupported::fields(&rollout).into_iter().map(|field| field.replace("[0]", "[]"));
    let turned_away: BTreeSet<String> = turned_away.collect();
    let listed =
        rows().into_iter().filter(|(field, row)| row.acted_on == NOT_YET && field.starts_with("spec."));
    let listed: BTreeSet<String> = listed.map(|(field, _)| field.trim_end_matches(".*").to_owned()).collect();
    assert_eq!(listed, turned_away, "left: called «{NOT_YET}» by the page; right: turned away by the engine");
}

/// Whether a source has a test of this name: a function with an attribute that says so, or one that a macro's list names.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let head = format!("fn {name}(");
    let Some(position) = lines.iter().position(|line| line.contains(&head)) else { return false };
    let attributes = lines[..position].iter().rev().take_while(|line| line.starts_with("#["));
    let is_attributed = attributes.into_iter().any(|line| line.contains("test]") || line.contains("test("));
    is_attributed || lines.iter().any(|line| *line == name || line.starts_with(&format!("{name}: \"")))
}

#[test]
fn every_test_that_is_named_exists() {
    let mut missing = BTreeSet::new();
    let page = page();
    let named = quoted(&page).into_iter().filter_map(|word| word.split_once("::"));
    let named: BTreeSet<(&str, &str)> = named.filter(|(path, _)| path.ends_with(".rs")).collect();
    assert!(named.len() > 50, "{named:?}");
    for (path, name) in named {
        let source = fs::read_to_string(path).unwrap_or_default();
        if !has_test(&source, name) {
            missing.insert(format!("{path}::{name}"));
        }
    }
    assert!(missing.is_empty(), "tests that do not exist: {missing:#?}");
    let without: Vec<String> =
        rows().into_iter().filter(|(_, row)| row.tests.is_empty()).map(|(field, _)| field).collect();
    assert!(without.is_empty(), "fields without a test: {without:?}");
}

#[test]
fn a_test_that_does_not_exist_would_be_noticed() {
    let source =
        "#[test]\nfn one() {}\nfn helper() {}\non_both! {\n    two\n}\nasync fn two(world: World) {}\n";
    assert!(has_test(source, "one") && has_test(source, "two"));
    assert!(!has_test(source, "helper") && !has_test(source, "three"));
}
