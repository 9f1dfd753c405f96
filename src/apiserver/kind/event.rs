//! Events (core/v1): they are kept for an hour after their last write.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core;
use serde_json::{Value, json};

use super::{open_api, read};
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::names::{self, NameFormat};
use crate::apiserver::object::Object;
use crate::apiserver::resource::{Read, ReadError, Rules, unsupported_field};
use crate::apiserver::table::{Column, since};

/// How long events are kept: the default of kube-apiserver's --event-ttl.
const TIME_TO_LIVE: Duration = Duration::from_secs(60 * 60);

/// Longest action, reason and instance name of an event of the newer form.
const WORD_MAX: usize = 128;
/// Longest message of an event of the newer form.
const MESSAGE_MAX: usize = 1024;

const GO_TYPE: &str = "io.k8s.api.core.v1.Event";

pub(super) struct EventRules;

impl Rules for EventRules {
    fn read(&self, body: Value) -> Result<Read, ReadError> {
        read(&body, GO_TYPE, "v1", |_| {})
    }

    fn needs_qualified_finalizers(&self) -> bool {
        false
    }

    fn name_format(&self) -> NameFormat {
        NameFormat::PathSegment
    }

    fn put_creates(&self) -> bool {
        true
    }

    fn has_dependents(&self) -> bool {
        false
    }

    fn time_to_live(&self) -> Option<Duration> {
        Some(TIME_TO_LIVE)
    }

    /// An event with an eventTime is of the newer form, which asks for more.
    fn validate(&self, event: &Value) -> Violations {
        let mut violations = Violations::new();
        let (own, involved) = (event.namespace(), event.text("/involvedObject/namespace"));
        let newer = !event.text("/eventTime").is_empty();
        let matches = match (involved, newer) {
            ("", true) => matches!(own, "default" | "kube-system"),
            ("", false) => matches!(own, "" | "default"),
            (involved, false) => own == involved,
            (_, true) => true,
        };
        if !matches {
            let path = Path::of("involvedObject.namespace");
            violations.push(Violation::invalid(&path, involved, "does not match event.namespace"));
        }
        if newer {
            validate_newer(event, &mut violations);
        }
        violations
    }

    fn field(&self, event: &Value, field: &str) -> Option<String> {
        let text = |pointer: &str| event.text(pointer).to_owned();
        Some(match field {
            "involvedObject.kind"
            | "involvedObject.namespace"
            | "involvedObject.name"
            | "involvedObject.uid"
            | "involvedObject.apiVersion"
            | "involvedObject.resourceVersion"
            | "involvedObject.fieldPath"
            | "reason"
            | "reportingComponent"
            | "type" => text(&format!("/{}", field.replace('.', "/"))),
            "source" => text(if event.text("/source/component").is_empty() {
                "/reportingComponent"
            } else {
                "/source/component"
            }),
            _ => return None,
        })
    }

    fn unknown_field(&self, field: &str) -> String {
        unsupported_field(field)
    }

    fn go_type(&self) -> Option<&'static str> {
        Some(GO_TYPE)
    }

    fn open_api(&self) -> (String, Value) {
        open_api::<core::v1::Event>()
    }

    fn columns(&self) -> Vec<Column> {
        let column = |name: &str, description: &str| Column::new(name, "string", description);
        let mut name = Column::name().wide();
        name.description = "Name must be unique within a namespace.".to_owned();
        vec![
            column("Last Seen", "The time at which the most recent occurrence of this event was recorded."),
            column("Type", "Type of this event (Normal, Warning), new types could be added in the future"),
            column(
                "Reason",
                "This should be a short, machine understandable string that gives the reason for the transition.",
            ),
            column("Object", "The object that this event is about."),
            column("Subobject", "The part of the object that this event is about.").wide(),
            column("Source", "The component reporting this event.").wide(),
            column("Message", "A human-readable description of the status of this operation."),
            column("First Seen", "The time at which the event was first recorded.").wide(),
            column("Count", "The number of times this event has occurred.").wide(),
            name,
        ]
    }

    fn cells(&self, event: &Value, now: Timestamp) -> Vec<Value> {
        let moment = |pointer: &str| event.text(pointer);
        let first = match moment("/firstTimestamp") {
            "" => since(moment("/eventTime"), now),
            first => since(first, now),
        };
        let mut last = match moment("/lastTimestamp") {
            "" => first.clone(),
            last => since(last, now),
        };
        let mut count = event.integer("/count").filter(|count| *count != 0).unwrap_or(1);
        if event.get("series").is_some_and(Value::is_object) {
            last = since(moment("/series/lastObservedTime"), now);
            count = event.integer("/series/count").unwrap_or(0);
        }
        vec![
            last,
            json!(event.text("/type")),
            json!(event.text("/reason")),
            json!(target(event)),
            json!(event.text("/involvedObject/fieldPath")),
            json!(source(event)),
            json!(event.text("/message").trim()),
            first,
            json!(count),
            json!(event.name()),
        ]
    }
}

fn validate_newer(event: &Value, violations: &mut Violations) {
    let component = event.text("/reportingComponent");
    let path = Path::of("reportingComponent");
    if component.is_empty() {
        violations.push(Violation::required(&path, ""));
    }
    let reasons = names::qualified_name(component).into_iter();
    violations.extend(reasons.map(|why| Violation::invalid(&path, component, why)));
    for field in ["reportingInstance", "action", "reason"] {
        let path = Path::of(field);
        match event.text(&format!("/{field}")).len() {
            0 => violations.push(Violation::required(&path, "")),
            length if length > WORD_MAX => {
                let detail = format!("can have at most {WORD_MAX} characters");
                violations.push(Violation::invalid(&path, "", detail));
            }
            _ => {}
        }
    }
    if event.text("/message").len() > MESSAGE_MAX {
        let detail = format!("can have at most {MESSAGE_MAX} characters");
        violations.push(Violation::invalid(&Path::of("message"), "", detail));
    }
}

fn target(event: &Value) -> String {
    let kind = event.text("/involvedObject/kind").to_lowercase();
    match event.text("/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let first = |pointers: [&str; 2]| {
        pointers
            .into_iter()
            .map(|pointer| event.text(pointer))
            .find(|text| !text.is_empty())
            .unwrap_or_default()
    };
    let component = first(["/source/component", "/reportingComponent"]);
    let host = first(["/source/host", "/reportingInstance"]);
    if host.is_empty() { component.to_owned() } else { format!("{component}, {host}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_the_object_is_that_of_the_event() {
        let event = |involved: &str| json!({"metadata": {"namespace": "team"}, "involvedObject": {"namespace": involved}});
        assert!(EventRules.validate(&event("team")).is_empty());
        let violations = EventRules.validate(&event("other"));
        assert_eq!(
            violations[0].to_string(),
            "involvedObject.namespace: Invalid value: \"other\": does not match event.namespace"
        );
    }

    #[test]
    fn an_event_of_the_newer_form_names_its_reporter() {
        let event = json!({"metadata": {"namespace": "team"}, "involvedObject": {"namespace": "team"},
            "eventTime": "2024-01-01T00:00:00.000000Z", "reason": "x", "action": "y"});
        let violations: Vec<String> = EventRules.validate(&event).iter().map(ToString::to_string).collect();
        assert_eq!(violations[0], "reportingComponent: Required value");
        assert_eq!(violations.last().map(String::as_str), Some("reportingInstance: Required value"));
    }

    #[test]
    fn a_row_shows_the_last_time_and_the_count() {
        let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"},
            "lastTimestamp": "1970-01-01T00:00:00Z", "source": {"component": "kubelet", "host": "n1"}});
        let now = Timestamp::from_second(90).unwrap();
        let cells = EventRules.cells(&event, now);
        assert_eq!(cells[0], "90s");
        assert_eq!(cells[3], "pod/p");
        assert_eq!(cells[5], "kubelet, n1");
        assert_eq!(cells[8], 1);
    }
}
