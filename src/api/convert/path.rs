//! From the path of a field in the stored object to its path in the messages of the API:
//! `spec.strategy.canary.steps[2].setWeight` is `rollout.spec.canary.steps[2].set_weight`.

use std::borrow::Cow;

use super::annotated;
use crate::validate::{Path, Segment};

/// Where the stored object nests a field deeper than the messages do, or names it otherwise.
const RENAMED: [(&str, &str); 9] = [
    ("restartAt", "restart_time"),
    ("antiAffinity.preferredDuringSchedulingIgnoredDuringExecution.weight", "anti_affinity.preferred_weight"),
    ("antiAffinity.preferredDuringSchedulingIgnoredDuringExecution", "anti_affinity.preferred_weight"),
    ("antiAffinity.requiredDuringSchedulingIgnoredDuringExecution", "anti_affinity.required"),
    ("valueFrom.fieldRef.fieldPath", "value_from.field_path"),
    ("canaryVirtualNodeRef.name", "canary_virtual_node"),
    ("stableVirtualNodeRef.name", "stable_virtual_node"),
    ("route.name", "route"),
    ("route.rules", "rules"),
];

/// The path of a field in a message that holds the rollout as `rollout`.
#[must_use]
pub(in crate::api) fn in_messages(stored: &Path) -> String {
    let annotated = annotated::in_messages(stored.segments());
    let (mut shown, mut rest) = annotated.unwrap_or_else(|| (Path::root("rollout"), stored.segments()));
    // Pod templates and plugin configuration are opaque: below, names are those of the stored object.
    let mut opaque = false;
    while let Some((first, after)) = rest.split_first() {
        if !opaque && let Some((names, length)) = renamed(rest) {
            shown = names.split('.').fold(shown, |path, name| path.field(name.to_owned()));
            rest = &rest[length..];
            continue;
        }
        rest = after;
        shown = match first {
            Segment::Field(field) if opaque => shown.field(field.clone()),
            // The strategies stand beside the other fields of the spec; together they are the oneof `strategy`.
            Segment::Field(field)
                if field == "strategy" && shown.segments().len() == 2 && !after.is_empty() =>
            {
                shown
            }
            // In messages, labels and annotations belong to the rollout itself.
            Segment::Field(field) if field == "metadata" && shown.segments().len() == 1 => shown,
            Segment::Field(field) => {
                opaque = matches!(&**field, "template" | "config" | "plugins");
                shown.field(snake_case(field))
            }
            Segment::Index(index) => shown.index(*index),
            Segment::Key(key) => shown.key(key),
        };
    }
    shown.to_string()
}

fn renamed(rest: &[Segment]) -> Option<(&'static str, usize)> {
    RENAMED.iter().find_map(|(stored, shown)| {
        let names: Vec<&str> = stored.split('.').collect();
        let matches = rest.len() >= names.len()
            && rest
                .iter()
                .zip(&names)
                .all(|(segment, name)| matches!(segment, Segment::Field(field) if field == name));
        matches.then_some((*shown, names.len()))
    })
}

/// Reads a path as Kubernetes writes it. What is no path is one field.
#[must_use]
pub(in crate::api) fn parse(text: &str) -> Path {
    let mut path = Path::default();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            // A key may hold brackets of its own; Kubernetes does not escape them, so that the last one before a separator ends it.
            let separated = inside.find("].").into_iter().chain(inside.find("][")).min();
            let end = separated.or_else(|| inside.rfind(']'));
            let Some(end) = end else { return path.field(rest.to_owned()) };
            let key = &inside[..end];
            path = key.parse().map_or_else(|_| path.key(key), |index| path.index(index));
            rest = &inside[end + 1..];
        } else {
            let field = rest.strip_prefix('.').unwrap_or(rest);
            let end = field.find(['.', '[']).unwrap_or(field.len());
            path = path.field(field[..end].to_owned());
            rest = &field[end..];
        }
    }
    path
}

fn snake_case(camel: &str) -> Cow<'static, str> {
    let mut snake = String::with_capacity(camel.len() + 4);
    for character in camel.chars() {
        if character.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(character.to_ascii_lowercase());
    }
    snake.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_kubernetes_writes_reads_back() {
        for text in [
            "spec.strategy.canary.steps[2].setWeight",
            "metadata.labels[a.b/c]",
            "spec.template.metadata.labels[app.kubernetes.io/name].x[1][2]",
            "<nil>",
            "a[1][2].b",
            "",
        ] {
            assert_eq!(parse(text).to_string(), text);
        }
        for odd in ["[", "a[", "a]b", "..", "a..b", "[]"] {
            let _ = parse(odd);
        }
    }

    #[test]
    fn paths_follow_the_messages() {
        let canary = Path::root("spec").fields(&["strategy", "canary"]);
        let template = Path::root("spec").field("template");
        for (stored, shown) in [
            (canary.field("steps").index(2).field("setWeight"), "rollout.spec.canary.steps[2].set_weight"),
            (Path::root("spec").field("strategy"), "rollout.spec.strategy"),
            (Path::root("spec").field("restartAt"), "rollout.spec.restart_time"),
            (
                Path::root("spec").fields(&["strategy", "blueGreen", "activeService"]),
                "rollout.spec.blue_green.active_service",
            ),
            (
                template.fields(&["spec", "containers"]).index(0).field("imagePullPolicy"),
                "rollout.spec.template.spec.containers[0].imagePullPolicy",
            ),
            (
                template.field("metadata").field("labels").key("a/b"),
                "rollout.spec.template.metadata.labels[a/b]",
            ),
            (
                canary.fields(&["antiAffinity", "preferredDuringSchedulingIgnoredDuringExecution", "weight"]),
                "rollout.spec.canary.anti_affinity.preferred_weight",
            ),
            (Path::root("metadata").field("labels").key("a"), "rollout.labels[a]"),
        ] {
            assert_eq!(in_messages(&stored), shown, "{stored}");
        }
    }
}
