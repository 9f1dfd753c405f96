//! Tables of rollouts, as kubectl prints tables: without borders, three blanks between columns.
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

/// The table's lines, titles first.
pub(super) fn rollouts(
    rollouts: &[v1::Rollout],
    now: Timestamp,
    namespaces: Namespaces,
    detail: Detail,
) -> Vec<String> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
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
    table.set_header(titles);
    for rollout in rollouts {
        let mut cells = cells(rollout, now);
        if namespaces == Namespaces::Shown {
            cells.insert(0, words::namespace(&rollout.name).to_owned());
        }
        if detail == Detail::Wide {
            cells.extend(more(rollout));
        }
        table.add_row(cells);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

fn cells(rollout: &v1::Rollout, now: Timestamp) -> Vec<String> {
    let status = rollout.status.clone().unwrap_or_default();
    let spec = rollout.spec.as_ref();
    let strategy = match spec.and_then(|spec| spec.strategy.as_ref()) {
        Some(Strategy::Canary(_)) => "canary",
        Some(Strategy::BlueGreen(_)) => "blue-green",
        None => "-",
    };
    let step = match status.current_step_index {
        Some(index) if status.step_count > 0 => format!("{index}/{}", status.step_count),
        _ => "-".to_owned(),
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
    let revision = if status.revision == 0 { String::new() } else { status.revision.to_string() };
    let cells = [revision, status.current_pod_hash, status.stable_pod_hash, words::one_line(&status.message)];
    cells.map(|cell| if cell.is_empty() { "-".to_owned() } else { cell })
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
}
