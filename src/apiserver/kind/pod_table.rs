//! The table of pods: how many containers are ready, and the one word that says how the pod is.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::apiserver::object::Object;
use crate::apiserver::table::{Column, age, since};

pub(super) fn columns() -> Vec<Column> {
    let column = |name: &str, description: &str| Column::new(name, "string", description);
    vec![
        Column::name(),
        column("Ready", "The aggregate readiness state of this pod for accepting traffic."),
        column("Status", "The aggregate status of the containers in this pod."),
        column(
            "Restarts",
            "The number of times the containers in this pod have been restarted and when the last container in this \
             pod has restarted.",
        ),
        Column::age(),
        column("IP", "IP address allocated to the pod.").wide(),
        column("Node", "NodeName indicates in which node this pod is scheduled.").wide(),
        column("Nominated Node", "The node on which this pod is nominated to run.").wide(),
        column("Readiness Gates", "Conditions that the pod's readiness depends on, and how many hold.")
            .wide(),
    ]
}

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let or_none = |text: &str| json!(if text.is_empty() { "<none>" } else { text });
    let restarts = match summary.last_restart {
        Some(moment) if summary.restarts > 0 => {
            let ago = since(moment, now);
            json!(format!("{} ({} ago)", summary.restarts, ago.as_str().unwrap_or_default()))
        }
        _ => json!(summary.restarts.to_string()),
    };
    vec![
        json!(pod.name()),
        json!(format!("{}/{}", summary.ready, pod.list("/spec/containers").len())),
        json!(summary.word),
        restarts,
        age(pod, now),
        or_none(pod.text("/status/podIPs/0/ip")),
        or_none(pod.text("/spec/nodeName")),
        or_none(pod.text("/status/nominatedNodeName")),
        json!(readiness_gates(pod)),
    ]
}

fn readiness_gates(pod: &Value) -> String {
    let gates = pod.list("/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".to_owned();
    }
    let holds = |gate: &&Value| condition_status(pod, gate.text("/conditionType")) == "True";
    format!("{}/{}", gates.iter().filter(holds).count(), gates.len())
}

fn condition_status<'p>(pod: &'p Value, kind: &str) -> &'p str {
    let condition = pod.list("/status/conditions").iter().find(|c| c.text("/type") == kind);
    condition.map_or("", |condition| condition.text("/status"))
}

struct Summary<'p> {
    ready: usize,
    restarts: i64,
    last_restart: Option<&'p str>,
    word: String,
}

impl<'p> Summary<'p> {
    fn of(pod: &'p Value) -> Self {
        let phase = pod.text("/status/phase");
        let reason = pod.text("/status/reason");
        let word = if reason.is_empty() { phase } else { reason };
        let mut summary = Self { ready: 0, restarts: 0, last_restart: None, word: word.to_owned() };
        let initializing = summary.count_init(pod);
        if !initializing || condition_status(pod, "Initialized") == "True" {
            summary.restarts = 0;
            summary.last_restart = None;
            summary.count_containers(pod);
        }
        if pod.is_being_deleted() {
            if reason == "NodeLost" {
                "Unknown".clone_into(&mut summary.word);
            } else if !matches!(phase, "Failed" | "Succeeded") {
                "Terminating".clone_into(&mut summary.word);
            }
        }
        summary
    }

    fn count(&mut self, status: &'p Value) {
        self.restarts += status.integer("/restartCount").unwrap_or(0);
        let finished = status.text("/lastState/terminated/finishedAt");
        if !finished.is_empty() {
            self.last_restart = self.last_restart.max(Some(finished));
        }
    }

    /// Whether an init container has not succeeded yet.
    fn count_init(&mut self, pod: &'p Value) -> bool {
        let total = pod.list("/spec/initContainers").len();
        for (index, status) in pod.list("/status/initContainerStatuses").iter().enumerate() {
            self.count(status);
            let terminated = &status["state"]["terminated"];
            if terminated.is_object() && terminated.integer("/exitCode").unwrap_or(0) == 0 {
                continue;
            }
            let waiting = status.text("/state/waiting/reason");
            self.word = if terminated.is_object() {
                format!("Init:{}", ended(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{total}")
            };
            return true;
        }
        false
    }

    fn count_containers(&mut self, pod: &'p Value) {
        let (mut running, mut failure) = (false, None);
        for status in pod.list("/status/containerStatuses").iter().rev() {
            self.count(status);
            let waiting = status.text("/state/waiting/reason");
            let terminated = &status["state"]["terminated"];
            if !waiting.is_empty() {
                waiting.clone_into(&mut self.word);
            } else if terminated.is_object() {
                self.word = ended(terminated);
                if terminated.integer("/exitCode").unwrap_or(0) != 0 {
                    failure = Some(self.word.clone());
                }
            } else if status["ready"] == json!(true) && status["state"]["running"].is_object() {
                running = true;
                self.ready += 1;
            }
        }
        if self.word == "Completed" {
            match (running, failure) {
                (true, _) if condition_status(pod, "Ready") == "True" => "Running".clone_into(&mut self.word),
                (_, Some(failure)) => self.word = failure,
                (true, None) => "NotReady".clone_into(&mut self.word),
                (false, None) => {}
            }
        }
    }
}

/// Why a container ended.
fn ended(terminated: &Value) -> String {
    match (terminated.text("/reason"), terminated.integer("/signal").unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated.integer("/exitCode").unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(status: &Value, extra: &Value) -> Vec<Value> {
        let mut pod = json!({"metadata": {"name": "p", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "spec": {"containers": [{}, {}]}, "status": status});
        for (key, value) in extra.as_object().unwrap() {
            pod.set_meta(key, Some(value.clone()));
        }
        cells(&pod, Timestamp::from_second(60).unwrap())
    }

    #[test]
    fn the_status_is_one_word() {
        let running = json!({"ready": true, "state": {"running": {}}});
        let cases = [
            (json!({"phase": "Pending"}), "0/2", "Pending", "0"),
            (json!({"phase": "Running", "containerStatuses": [running, running]}), "2/2", "Running", "0"),
            (
                json!({"phase": "Running", "containerStatuses": [running, {"restartCount": 3,
                    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                    "lastState": {"terminated": {"finishedAt": "1970-01-01T00:00:30Z"}}}]}),
                "1/2",
                "CrashLoopBackOff",
                "3 (30s ago)",
            ),
            (
                json!({"phase": "Failed", "containerStatuses": [{"state": {"terminated": {"exitCode": 2}}}]}),
                "0/2",
                "ExitCode:2",
                "0",
            ),
            (
                json!({"phase": "Pending", "initContainerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}]}),
                "0/2",
                "Init:0/0",
                "0",
            ),
        ];
        for (status, ready, word, restarts) in cases {
            let cells = row(&status, &json!({}));
            assert_eq!(
                (&cells[1], &cells[2], &cells[3]),
                (&json!(ready), &json!(word), &json!(restarts)),
                "{status}"
            );
        }
    }

    #[test]
    fn a_pod_that_is_being_deleted_says_so() {
        let cells = row(&json!({"phase": "Running"}), &json!({"deletionTimestamp": "1970-01-01T00:00:00Z"}));
        assert_eq!(cells[2], "Terminating");
        assert_eq!(cells[4], "60s");
        assert_eq!(cells[5], "<none>");
    }
}
