//! What a rollout waits for, a paragraph for each wait.
//!
//! Pure. The most telling wait stands first, as the server has them.

use jiff::Timestamp;

use super::words;
use crate::pb::v1;

/// The lines of an explanation.
pub(super) fn lines(answer: &v1::ExplainRolloutResponse, now: Timestamp) -> Vec<String> {
    let message = words::one_line(&answer.message);
    let state = words::state(answer.state);
    let mut lines = vec![if message.is_empty() { state } else { format!("{state}: {message}") }];
    if answer.blockers.is_empty() {
        lines.push("It waits for nothing.".to_owned());
    }
    lines.extend(answer.blockers.iter().flat_map(|blocker| wait(blocker, now)));
    lines
}

fn wait(blocker: &v1::Blocker, now: Timestamp) -> Vec<String> {
    let object = blocker.object.as_ref().map(|object| format!("{} {}", object.kind, object.name));
    let since = words::moment(blocker.since_time.as_ref())
        .map(|since| format!("{since} ({} ago)", words::age(blocker.since_time.as_ref(), now)));
    let at = words::moment(blocker.next_time.as_ref())
        .map(|next| format!("{next} (in {})", words::span(next.duration_since(now))));
    let details = [
        ("object", object.unwrap_or_default()),
        ("condition", blocker.condition.clone()),
        ("since", since.unwrap_or_default()),
        ("next", blocker.next.clone()),
        ("at", at.unwrap_or_default()),
    ];
    let told = details.iter().filter(|(_, text)| !text.is_empty());
    let told = told.map(|(label, text)| format!("  {:11}{}", format!("{label}:"), words::one_line(text)));
    [String::new(), words::one_line(&blocker.message)].into_iter().chain(told).collect()
}
