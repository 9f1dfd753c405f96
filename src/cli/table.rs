//! Tables, as kubectl prints them: without borders, three blanks between columns.
//!
//! Pure. [`super::tree`] draws a single rollout.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;

use super::style::Detail;
use super::words;
use crate::pb::v1;
use v1::rollout_spec::Strategy;

/// Blanks behind each column.
const GAP: u16 = 3;

/// Whether a table says which namespace each rollout is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Namespaces {
    /// All are in one.
    Hidden,
    /// A column says.
    Shown,
}

/// A table's lines, titles first. What is empty is a dash, what breaks lines is one.
pub(super) fn lines(titles: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(titles);
    for row in rows {
        table.add_row(row.iter().map(|cell| {
            let cell = words::one_line(cell);
            if cell.is_empty() { "-".to_owned() } else { cell }
        }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Rollouts.
pub(super) fn rollouts(
    rollouts: &[v1::Rollout],
    now: Timestamp,
    namespaces: Namespaces,
    detail: Detail,
) -> Vec<String> {
    let mut titles = vec![
        "NAME",
        "STRATEGY",
        "STATE",
        "STEP",
        "DESIRED",
        "CURRENT",
        "UP-TO-DATE",
        "READY",
        "AVAILABLE",
        "AGE",
    ];
    if namespaces == Namespaces::Shown {
        titles.insert(0, "NAMESPACE");
    }
    if detail == Detail::Wide {
        titles.extend(["REVISION", "NEW", "STABLE", "MESSAGE"]);
    }
    let rows = rollouts.iter().map(|rollout| {
        let mut cells = cells(rollout, now);
        if namespaces == Namespaces::Shown {
            cells.insert(0, words::namespace(&rollout.name).to_owned());
        }
        if detail == Detail::Wide {
            cells.extend(more(rollout));
        }
        cells
    });
    lines(&titles, rows)
}

fn cells(rollout: &v1::Rollout, now: Timestamp) -> Vec<String> {
    let status = rollout.status.clone().unwrap_or_default();
    let spec = rollout.spec.as_ref();
    let strategy = match spec.and_then(|spec| spec.strategy.as_ref()) {
        Some(Strategy::Canary(_)) => "canary",
        Some(Strategy::BlueGreen(_)) => "blue-green",
        None => "",
    };
    let step = match status.current_step_index {
        Some(index) if status.step_count > 0 => format!("{index}/{}", status.step_count),
        _ => String::new(),
    };
    vec![
        words::short_name(&rollout.name).to_owned(),
        strategy.to_owned(),
        words::state(status.state),
        step,
        // Kubernetes' default; the message leaves unset what the manifest left unset.
        spec.and_then(|spec| spec.replicas).unwrap_or(1).to_string(),
        status.replicas.to_string(),
        status.updated_replicas.to_string(),
        status.ready_replicas.to_string(),
        status.available_replicas.to_string(),
        words::age(rollout.create_time.as_ref(), now),
    ]
}

/// What only the wide form tells.
fn more(rollout: &v1::Rollout) -> [String; 4] {
    let status = rollout.status.clone().unwrap_or_default();
    [number(status.revision), status.current_pod_hash, status.stable_pod_hash, status.message]
}

/// A revision's number; nothing when there is none.
fn number(revision: i64) -> String {
    if revision == 0 { String::new() } else { revision.to_string() }
}

/// Revisions of a rollout.
pub(super) fn revisions(revisions: &[v1::Revision], now: Timestamp, detail: Detail) -> Vec<String> {
    let mut titles = vec!["REVISION", "ROLE", "IMAGES", "AGE", "PODS", "HASH"];
    if detail == Detail::Wide {
        titles.push("FORMERLY");
    }
    let rows = revisions.iter().map(|revision| {
        let mut cells = vec![
            number(revision.revision),
            words::role(revision.role).to_owned(),
            revision.images.join(","),
            words::age(revision.create_time.as_ref(), now),
            pods(revision),
            revision.pod_template_hash.clone(),
        ];
        if detail == Detail::Wide {
            cells.push(formerly(revision));
        }
        cells
    });
    lines(&titles, rows)
}

/// One revision, without its template.
pub(super) fn revision(revision: &v1::Revision, now: Timestamp) -> Vec<String> {
    let facts = [
        ("Revision:", number(revision.revision)),
        ("Formerly:", formerly(revision)),
        ("Role:", words::role(revision.role).to_owned()),
        ("Images:", revision.images.join(", ")),
        ("Age:", words::age(revision.create_time.as_ref(), now)),
        ("Pods:", pods(revision)),
        ("Hash:", revision.pod_template_hash.clone()),
    ];
    let told = facts.into_iter().filter(|(_, fact)| !fact.is_empty());
    told.map(|(label, fact)| format!("{label:<11} {}", words::one_line(&fact))).collect()
}

/// Pods that are available, of those that are wanted.
fn pods(revision: &v1::Revision) -> String {
    format!("{}/{}", revision.available_replicas, revision.replicas)
}

fn formerly(revision: &v1::Revision) -> String {
    revision.former_revisions.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

/// What was done to a rollout.
pub(super) fn activities(activities: &[v1::Activity], now: Timestamp, detail: Detail) -> Vec<String> {
    let mut titles = vec!["AGE", "ACTOR", "VERB", "REVISION", "FROM", "OUTCOME", "DETAIL"];
    if detail == Detail::Wide {
        titles.insert(0, "TIME");
    }
    let rows = activities.iter().map(|activity| {
        let mut cells = vec![
            words::age(activity.time.as_ref(), now),
            activity.actor.clone(),
            activity.verb.clone(),
            number(activity.revision),
            activity.source.clone(),
            activity.outcome.clone(),
            activity.detail.clone(),
        ];
        if detail == Detail::Wide {
            let time = words::moment(activity.time.as_ref());
            cells.insert(0, time.map(|time| time.to_string()).unwrap_or_default());
        }
        cells
    });
    lines(&titles, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tree::samples;

    fn table(namespaces: Namespaces, detail: Detail) -> String {
        let second = v1::Rollout { name: "namespaces/a/rollouts/b".to_owned(), ..v1::Rollout::default() };
        let all = [samples::paused().rollout.unwrap(), second];
        rollouts(&all, Timestamp::from_second(samples::NOW).unwrap(), namespaces, detail).join("\n")
    }

    #[test]
    fn rollouts_stand_in_columns() {
        insta::assert_snapshot!(table(Namespaces::Hidden, Detail::Normal), @r#"
        NAME   STRATEGY   STATE     STEP   DESIRED   CURRENT   UP-TO-DATE   READY   AVAILABLE   AGE
        web    canary     Paused    1/4    5         5         1            5       5           2d7h
        b      -          Unknown   -      1         0         0            0       0           -
        "#);
    }

    #[test]
    fn the_wide_table_has_revisions_hashes_and_messages() {
        insta::assert_snapshot!(table(Namespaces::Shown, Detail::Wide), @r#"
        NAMESPACE   NAME   STRATEGY   STATE     STEP   DESIRED   CURRENT   UP-TO-DATE   READY   AVAILABLE   AGE    REVISION   NEW   STABLE   MESSAGE
        shop        web    canary     Paused    1/4    5         5         1            5       5           2d7h   2          v2    v1       CanaryPauseStep
        a           b      -          Unknown   -      1         0         0            0       0           -      -          -     -        -
        "#);
    }

    fn at(seconds_ago: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds: samples::NOW - seconds_ago, nanos: 0 })
    }

    fn now() -> Timestamp {
        Timestamp::from_second(samples::NOW).unwrap()
    }

    fn second() -> v1::Revision {
        v1::Revision {
            name: "namespaces/shop/rollouts/web/revisions/4".to_owned(),
            revision: 4,
            former_revisions: vec![1, 2],
            pod_template_hash: "7f9c".to_owned(),
            role: v1::replica_set_summary::Role::Canary.into(),
            images: vec!["shop/web:v2".to_owned(), "proxy:1".to_owned()],
            create_time: at(90),
            replicas: 2,
            available_replicas: 1,
            template: None,
        }
    }

    #[test]
    fn revisions_stand_in_columns() {
        let all = [second(), v1::Revision { revision: 3, ..v1::Revision::default() }];
        insta::assert_snapshot!(revisions(&all, now(), Detail::Wide).join("\n"), @r#"
        REVISION   ROLE     IMAGES                AGE   PODS   HASH   FORMERLY
        4          canary   shop/web:v2,proxy:1   90s   1/2    7f9c   1,2
        3          -        -                     -     0/0    -      -
        "#);
    }

    #[test]
    fn a_revision_alone_is_told_by_lines() {
        insta::assert_snapshot!(revision(&second(), now()).join("\n"), @r#"
        Revision:   4
        Formerly:   1,2
        Role:       canary
        Images:     shop/web:v2, proxy:1
        Age:        90s
        Pods:       1/2
        Hash:       7f9c
        "#);
    }

    #[test]
    fn activities_stand_in_columns_and_what_others_wrote_breaks_no_line() {
        let activity = |actor: &str, verb: &str, detail: &str| v1::Activity {
            time: at(125),
            actor: actor.to_owned(),
            verb: verb.to_owned(),
            source: "10.0.0.7".to_owned(),
            outcome: "OK".to_owned(),
            revision: 4,
            detail: detail.to_owned(),
        };
        let all =
            [activity("ada@desk", "PromoteRollout", "to step 2\nof 4"), activity("", "spec changed", "")];
        insta::assert_snapshot!(activities(&all, now(), Detail::Wide).join("\n"), @r#"
        TIME                   AGE    ACTOR      VERB             REVISION   FROM       OUTCOME   DETAIL
        1970-01-02T03:44:35Z   2m5s   ada@desk   PromoteRollout   4          10.0.0.7   OK        to step 2 of 4
        1970-01-02T03:44:35Z   2m5s   -          spec changed     4          10.0.0.7   OK        -
        "#);
    }
}
