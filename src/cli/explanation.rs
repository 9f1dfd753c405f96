//! What a rollout waits for, a paragraph for each wait.
//!
//! Pure. The most telling wait stands first, as the server has them.

use jiff::Timestamp;

use super::words;
use crate::pb::v1;
use v1::blocker::Reason;

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
        ("reason", reason(blocker).to_owned()),
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

/// The reason as the API's pages list it.
fn reason(blocker: &v1::Blocker) -> &'static str {
    match blocker.reason() {
        Reason::Unspecified => "",
        reason => reason.as_str_name().trim_start_matches("REASON_"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocker(reason: Reason, object: (&str, &str), texts: [&str; 3], at: [Option<i64>; 2]) -> v1::Blocker {
        let time = |at: Option<i64>| at.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 });
        let [message, condition, next] = texts.map(str::to_owned);
        let (kind, name) = (object.0.to_owned(), object.1.to_owned());
        let object = Some(v1::ObjectReference { kind, name, ..v1::ObjectReference::default() });
        let [since_time, next_time] = at.map(time);
        v1::Blocker { reason: reason.into(), object, condition, since_time, message, next, next_time }
    }

    #[test]
    fn each_wait_is_a_paragraph_that_says_what_to_do() {
        let answer = v1::ExplainRolloutResponse {
            state: v1::rollout_status::State::Progressing.into(),
            message: "more replicas need to be updated".to_owned(),
            blockers: vec![
                blocker(
                    Reason::PodFailing,
                    ("Pod", "web-7c9-x2x"),
                    [
                        "pod \"web-7c9-x2x\": container \"web\": ImagePullBackOff: Back-off pulling image \"web:v2\"",
                        "status.containerStatuses[web].state ImagePullBackOff/Running",
                        "the progress deadline passes, unless it runs before; abort, or change the pod template",
                    ],
                    [Some(1_000), Some(1_600)],
                ),
                blocker(
                    Reason::PermissionMissing,
                    ("ReplicaSet", "web-7c9"),
                    [
                        "this server's account is not allowed to create replicasets.apps in namespace \"shop\"",
                        "allowed to create replicasets.apps in namespace \"shop\"",
                        "tried again; grant the rule {apiGroups: [\"apps\"], resources: [\"replicasets\"], verbs: [\"create\"]}",
                    ],
                    [Some(1_000), Some(1_130)],
                ),
                blocker(
                    Reason::ServiceMissing,
                    ("Service", "active"),
                    [
                        "Service \"active\", which spec.strategy.blueGreen.activeService names, does not exist",
                        "exists",
                        "it goes on once the Service is created, or the spec names another",
                    ],
                    [None, None],
                ),
            ],
        };
        let said = lines(&answer, Timestamp::from_second(1_120).unwrap()).join("\n");
        insta::assert_snapshot!(said, @r#"
        Progressing: more replicas need to be updated

        pod "web-7c9-x2x": container "web": ImagePullBackOff: Back-off pulling image "web:v2"
          reason:    POD_FAILING
          object:    Pod web-7c9-x2x
          condition: status.containerStatuses[web].state ImagePullBackOff/Running
          since:     1970-01-01T00:16:40Z (2m ago)
          next:      the progress deadline passes, unless it runs before; abort, or change the pod template
          at:        1970-01-01T00:26:40Z (in 8m)

        this server's account is not allowed to create replicasets.apps in namespace "shop"
          reason:    PERMISSION_MISSING
          object:    ReplicaSet web-7c9
          condition: allowed to create replicasets.apps in namespace "shop"
          since:     1970-01-01T00:16:40Z (2m ago)
          next:      tried again; grant the rule {apiGroups: ["apps"], resources: ["replicasets"], verbs: ["create"]}
          at:        1970-01-01T00:18:50Z (in 10s)

        Service "active", which spec.strategy.blueGreen.activeService names, does not exist
          reason:    SERVICE_MISSING
          object:    Service active
          condition: exists
          next:      it goes on once the Service is created, or the spec names another
        "#);
    }
}
