//! The tree itself: revisions, their ReplicaSets and pods, runs and experiments, in aligned columns.
//!
//! Pure. [`super::header`] makes what stands above.

use jiff::Timestamp;

use crate::cli::style::{Detail, Line, Tone};
use crate::cli::words;
use crate::pb::v1;

/// Blanks between columns, as kubectl has them.
const GAP: usize = 3;
const COLUMNS: usize = 6;

/// The rows with their titles.
pub(super) fn lines(tree: &v1::RolloutTree, now: Timestamp, detail: Detail) -> Vec<Line> {
    let root = root(tree, now, detail);
    let mut rows = vec![Row {
        branch: String::new(),
        cells: ["NAME", "STATE", "READY", "RESTARTS", "AGE", "INFO"].map(|title| cell(Tone::Faint, title)),
    }];
    flatten(root, "", "", &mut rows);
    align(rows)
}

type Cell = (Tone, String);

fn cell(tone: Tone, text: impl Into<String>) -> Cell {
    (tone, text.into())
}

/// Something in the tree and what is below it.
struct Node {
    cells: [Cell; COLUMNS],
    below: Vec<Node>,
}

struct Row {
    /// The lines that lead to the name.
    branch: String,
    cells: [Cell; COLUMNS],
}

impl Row {
    fn name_width(&self) -> usize {
        words::width(&self.branch) + words::width(&self.cells[0].1)
    }
}

/// Depth first; `branch` leads to the node itself, `stem` to what is below it.
fn flatten(node: Node, branch: &str, stem: &str, rows: &mut Vec<Row>) {
    rows.push(Row { branch: branch.to_owned(), cells: node.cells });
    let last = node.below.len().saturating_sub(1);
    for (index, child) in node.below.into_iter().enumerate() {
        let (fork, trunk) = if index == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        flatten(child, &format!("{stem}{fork}"), &format!("{stem}{trunk}"), rows);
    }
}

fn align(rows: Vec<Row>) -> Vec<Line> {
    let mut widths = [0; COLUMNS];
    for row in &rows {
        widths[0] = widths[0].max(row.name_width());
        for (width, (_, text)) in widths.iter_mut().zip(&row.cells).skip(1) {
            *width = (*width).max(words::width(text));
        }
    }
    rows.into_iter().map(|row| line(row, &widths)).collect()
}

fn line(row: Row, widths: &[usize; COLUMNS]) -> Line {
    let name_width = row.name_width();
    let mut line = Line::default().with(Tone::Faint, row.branch);
    for (index, ((tone, text), width)) in row.cells.into_iter().zip(widths).enumerate() {
        let own = if index == 0 { name_width } else { words::width(&text) };
        line = line.with(tone, text).with(Tone::Plain, " ".repeat(width - own + GAP));
    }
    line
}

fn root(tree: &v1::RolloutTree, now: Timestamp, detail: Detail) -> Node {
    let missing = v1::Rollout::default();
    let rollout = tree.rollout.as_ref().unwrap_or(&missing);
    let status = rollout.status.clone().unwrap_or_default();
    let desired = rollout.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    Node {
        cells: [
            cell(Tone::Label, words::short_name(&rollout.name)),
            state(words::state(status.state)),
            cell(Tone::Plain, format!("{}/{desired}", status.available_replicas)),
            cell(Tone::Plain, ""),
            cell(Tone::Plain, words::age(rollout.create_time.as_ref(), now)),
            cell(Tone::Plain, ""),
        ],
        below: tree.revisions.iter().map(|part| revision(part, now, detail)).collect(),
    }
}

fn revision(revision: &v1::RevisionTree, now: Timestamp, detail: Detail) -> Node {
    let name = match revision.revision {
        0 => "revision ?".to_owned(),
        number => format!("revision {number}"),
    };
    let role = revision.replica_set.as_ref().map_or("", |set| words::role(set.role));
    let mut below: Vec<Node> = revision.replica_set.iter().map(|set| replica_set(set, now, detail)).collect();
    below.extend(revision.analysis_runs.iter().map(|part| run(part, "AnalysisRun", now)));
    below.extend(revision.experiments.iter().map(|part| run(part, "Experiment", now)));
    let mut cells = [const { (Tone::Plain, String::new()) }; COLUMNS];
    cells[0] = cell(Tone::Plain, name);
    cells[5] = cell(Tone::Plain, role);
    Node { cells, below }
}

fn replica_set(set: &v1::ReplicaSetSummary, now: Timestamp, detail: Detail) -> Node {
    let mut info = Vec::new();
    if let Some(time) = words::moment(set.scale_down_time.as_ref()) {
        info.push(format!("scales down in {}", words::span(time.duration_since(now))));
    }
    if detail == Detail::Wide {
        info.extend(set.images.iter().map(|image| words::one_line(image)));
    }
    Node {
        cells: [
            cell(Tone::Plain, set.name.as_str()),
            state(words::set_state(set.state)),
            cell(Tone::Plain, format!("{}/{}", set.available_replicas, set.desired_replicas)),
            cell(Tone::Plain, ""),
            cell(Tone::Plain, words::age(set.create_time.as_ref(), now)),
            cell(Tone::Plain, info.join(", ")),
        ],
        below: set.pods.iter().map(|part| pod(part, now, detail)).collect(),
    }
}

fn pod(pod: &v1::PodSummary, now: Timestamp, detail: Detail) -> Node {
    let word = if pod.terminating { "Terminating".to_owned() } else { words::one_line(&pod.phase) };
    // A running pod that is not ready is on its way; the word alone does not tell.
    let tone = match Tone::of_state(&word) {
        Tone::Good if !pod.ready && word == "Running" => Tone::Moving,
        tone => tone,
    };
    // The reason begins with the word that stands in the column already.
    let reason = words::one_line(&pod.reason);
    let reason =
        reason.strip_prefix(&word).map_or(reason.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    let mut info = vec![reason.to_owned()];
    if detail == Detail::Wide && !pod.node.is_empty() {
        info.push(format!("on {}", pod.node));
    }
    info.retain(|part| !part.is_empty());
    Node {
        cells: [
            cell(Tone::Plain, pod.name.as_str()),
            cell(tone, word),
            cell(Tone::Plain, format!("{}/{}", pod.ready_containers, pod.containers)),
            cell(if pod.restarts > 0 { Tone::Held } else { Tone::Plain }, pod.restarts.to_string()),
            cell(Tone::Plain, words::age(pod.create_time.as_ref(), now)),
            cell(Tone::Plain, info.join(", ")),
        ],
        below: Vec::new(),
    }
}

fn run(run: &v1::RunSummary, kind: &str, now: Timestamp) -> Node {
    let message = words::one_line(&run.message);
    let info = if message.is_empty() { kind.to_owned() } else { format!("{kind}: {message}") };
    Node {
        cells: [
            cell(Tone::Plain, run.name.as_str()),
            state(words::one_line(&run.phase)),
            cell(Tone::Plain, ""),
            cell(Tone::Plain, ""),
            cell(Tone::Plain, words::age(run.create_time.as_ref(), now)),
            cell(Tone::Plain, info),
        ],
        below: Vec::new(),
    }
}

fn state(word: String) -> Cell {
    (Tone::of_state(&word), word)
}
