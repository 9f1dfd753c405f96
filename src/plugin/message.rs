//! What is said to a plugin, and what it answers, as messages. Pure.
//!
//! A plugin's answer is checked here: what it may say that cannot be kept in a rollout's status is refused with the remedy.

use jiff::SignedDuration;
use prost_types::Struct;
use serde_json::Value;

use super::cut;
use crate::crd::StepPluginPhase;
use crate::pb::plugin::v1;
use crate::pb::wide::{self, Beyond, Part};
use crate::plan::{Call, Reply};

/// How many characters of a message are kept.
const MESSAGE: usize = 1024;

/// How large a status may be, as JSON: a rollout is stored as a whole, in at most 1.5 MiB.
const STATUS: usize = 64 << 10;

/// What protobuf allows as a duration: about 10,000 years.
const LONGEST: i64 = 315_576_000_000;

/// The step as it is told to a plugin.
pub(super) fn step(call: &Call, rollout: &Value) -> v1::Step {
    v1::Step {
        plugin_name: call.asked.name.clone(),
        step_index: call.asked.index,
        config: call.config.as_ref().map(wide::json_to_value),
        status: call.status.as_ref().and_then(wide::json_to_struct),
        rollout: wide::json_to_struct(rollout),
    }
}

/// A plugin's answer.
///
/// # Errors
/// Why it cannot be taken.
pub(super) fn reply(outcome: Option<v1::Outcome>) -> Result<Reply, String> {
    let v1::Outcome { phase, message, requeue_after, status } =
        outcome.ok_or("its answer has no outcome: it must say how the operation goes")?;
    let phase = known_phase(phase)?;
    let requeue_after = requeue_after.map(|after| duration(&after)).transpose()?;
    Ok(Reply {
        requeue_after: requeue_after.filter(|_| phase == StepPluginPhase::Running),
        phase,
        message: cut(&message, MESSAGE),
        status: status.map(known_status).transpose()?,
    })
}

fn known_phase(phase: i32) -> Result<StepPluginPhase, String> {
    match v1::Phase::try_from(phase) {
        Ok(v1::Phase::Running) => Ok(StepPluginPhase::Running),
        Ok(v1::Phase::Successful) => Ok(StepPluginPhase::Successful),
        Ok(v1::Phase::Failed) => Ok(StepPluginPhase::Failed),
        Ok(v1::Phase::Error) => Ok(StepPluginPhase::Error),
        Ok(v1::Phase::Unspecified) => {
            Err("its answer has no phase: it must say how the operation goes".to_owned())
        }
        Err(_) => Err(format!("its answer has the phase {phase}, which this version does not know")),
    }
}

fn duration(after: &prost_types::Duration) -> Result<SignedDuration, String> {
    let is_valid = (0..=LONGEST).contains(&after.seconds) && (0..1_000_000_000).contains(&after.nanos);
    is_valid.then(|| SignedDuration::new(after.seconds, after.nanos)).ok_or_else(|| {
        let given = format!("{} s and {} ns", after.seconds, after.nanos);
        format!(
            "its answer has a requeue_after of {given}; it must not be negative, nor more than 10,000 years"
        )
    })
}

fn known_status(status: Struct) -> Result<Value, String> {
    let (status, beyond) = wide::struct_to_json(status);
    if let Some(Beyond { at, number }) = beyond.first() {
        let remedy = "beyond 2^53 a Struct does not hold every integer: write it as a string";
        return Err(format!("its answer has {number} in its status{}; {remedy}", cut(&place(at), 200)));
    }
    let size = status.to_string().len();
    if size > STATUS {
        let most = format!("at most {STATUS} bytes can be kept in a rollout");
        return Err(format!("its answer has a status of {size} bytes as JSON; {most}"));
    }
    Ok(status)
}

fn place(at: &[Part]) -> String {
    let shown = |part: &Part| match part {
        Part::Field(field) => format!(".{field}"),
        Part::Index(index) => format!("[{index}]"),
    };
    at.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn outcome(phase: v1::Phase) -> v1::Outcome {
        v1::Outcome { phase: phase.into(), ..v1::Outcome::default() }
    }

    fn with_status(status: &Value) -> Result<Reply, String> {
        let status = wide::json_to_struct(status);
        reply(Some(v1::Outcome { status, ..outcome(v1::Phase::Successful) }))
    }

    #[test]
    fn every_phase_is_taken_but_none_and_unknown_ones() {
        for (phase, known) in [
            (v1::Phase::Running, StepPluginPhase::Running),
            (v1::Phase::Successful, StepPluginPhase::Successful),
            (v1::Phase::Failed, StepPluginPhase::Failed),
            (v1::Phase::Error, StepPluginPhase::Error),
        ] {
            assert_eq!(reply(Some(outcome(phase))).unwrap().phase, known);
        }
        let refusal = reply(Some(outcome(v1::Phase::Unspecified))).unwrap_err();
        assert!(refusal.starts_with("its answer has no phase"), "{refusal}");
        let refusal = reply(Some(v1::Outcome { phase: 17, ..v1::Outcome::default() })).unwrap_err();
        assert!(refusal.starts_with("its answer has the phase 17, which"), "{refusal}");
        assert!(reply(None).unwrap_err().starts_with("its answer has no outcome"));
    }

    #[test]
    fn a_time_to_wait_counts_while_the_operation_goes_on_and_is_not_negative() {
        let after = |seconds, nanos, phase| {
            let requeue_after = Some(prost_types::Duration { seconds, nanos });
            reply(Some(v1::Outcome { requeue_after, ..outcome(phase) })).map(|reply| reply.requeue_after)
        };
        let running = v1::Phase::Running;
        assert_eq!(after(90, 500_000_000, running), Ok(Some(SignedDuration::from_millis(90_500))));
        assert_eq!(after(90, 0, v1::Phase::Error), Ok(None));
        for (seconds, nanos) in [(-1, 0), (0, -1), (5, 1_000_000_000), (i64::MAX, 0), (i64::MIN, i32::MIN)] {
            let refusal = after(seconds, nanos, running).unwrap_err();
            assert!(
                refusal.starts_with(&format!("its answer has a requeue_after of {seconds} s")),
                "{refusal}"
            );
        }
    }

    #[test]
    fn a_status_comes_back_as_it_was_and_is_not_too_large() {
        let status = json!({ "seen": 3, "share": 0.5, "names": ["a", null, true], "in": { "deep": -1 } });
        assert_eq!(with_status(&status).unwrap().status, Some(status));
        assert_eq!(reply(Some(outcome(v1::Phase::Failed))).unwrap().status, None);
        let text = |length: usize| json!({ "a": "x".repeat(length) });
        assert!(with_status(&text(STATUS - r#"{"a":""}"#.len())).is_ok());
        let refusal = with_status(&text(STATUS)).unwrap_err();
        assert!(
            refusal.starts_with("its answer has a status of 65544 bytes as JSON; at most 65536"),
            "{refusal}"
        );
    }

    #[test]
    fn a_number_that_a_struct_cannot_hold_for_certain_is_refused() {
        let refusal = with_status(&json!({ "a": [{ "b": 1e300 }] })).unwrap_err();
        assert!(refusal.contains(" in its status.a[0].b; "), "{refusal}");
    }

    #[test]
    fn a_long_message_is_cut() {
        let message = "ä".repeat(5000);
        let reply = reply(Some(v1::Outcome { message, ..outcome(v1::Phase::Failed) })).unwrap();
        assert_eq!(reply.message.chars().count(), MESSAGE + 1);
    }
}
