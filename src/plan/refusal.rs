//! Requests that the API server refuses, as blockers; of a right that is missing, the rule that grants it.
//!
//! A refusal is known to the process that met it. Another one knows of a ReplicaSet that cannot be created by what the status says.

use super::blocker::{Blocker, BlockerReason, Object};
use super::observed::{Attempt, Observed, Setback};
use crate::crd::ConditionType;

/// The blockers that refusals are.
#[must_use]
pub(super) fn refusals(seen: &Observed) -> Vec<Blocker> {
    seen.setbacks.iter().map(blocker).collect()
}

/// The creation of the new set that, by the status, was refused to the controller that leads.
#[must_use]
pub(super) fn recorded(seen: &Observed) -> Option<Blocker> {
    let condition = seen.rollout.status().condition(&ConditionType::Progressing)?;
    let is_known = seen.setbacks.iter().any(|setback| matches!(setback.attempt, Attempt::Create(_)));
    if condition.reason != "ReplicaSetCreateError" || is_known {
        return None;
    }
    let (name, message) = condition
        .message
        .strip_prefix(super::conditions::NOT_CREATED)?
        .strip_prefix('"')?
        .split_once("\": ")?;
    Some(blocker(&Setback {
        attempt: Attempt::Create(name.to_owned()),
        reason: String::new(),
        message: message.to_owned(),
        since: condition.last_update_time.instant(),
        next_try: None,
    }))
}

fn blocker(setback: &Setback) -> Blocker {
    let (object, what) = match &setback.attempt {
        Attempt::Create(name) | Attempt::Collide(name) => (Object::ReplicaSet(name.clone()), "created"),
        Attempt::Change(name) => (Object::ReplicaSet(name.clone()), "changed"),
        Attempt::Delete(name) => (Object::ReplicaSet(name.clone()), "deleted"),
        Attempt::Service(name) => (Object::Service(name.clone()), "changed"),
        Attempt::Evict(name) => (Object::ReplicaSet(name.clone()), "pods evicted"),
        Attempt::Label(name) => {
            (Object::ReplicaSet(name.clone()), "labels and annotations of its pods changed")
        }
        Attempt::LookForService(name) => (Object::Service(name.clone()), "looked for"),
        Attempt::LookForWorkload(name) => (Object::Workload(name.clone()), "looked for"),
        Attempt::Workload(name) => (Object::Workload(name.clone()), "changed"),
        Attempt::Read(object) => (object.clone(), "read afresh after a write that the watch does not show"),
        Attempt::AskForDefaults => (Object::Rollout, "pod template with its defaults known"),
        Attempt::Rollout => (Object::Rollout, "changed"),
    };
    let refused = Blocker {
        reason: match setback.attempt {
            Attempt::Evict(_) => BlockerReason::Restarting,
            _ => BlockerReason::WriteRefused,
        },
        object,
        condition: what.to_owned(),
        since: Some(setback.since),
        message: setback.message.clone(),
        next: "tried again".to_owned(),
        next_at: setback.next_try,
    };
    match Right::read(&setback.message) {
        None if setback.is_refusal() => refused,
        None => {
            Blocker { message: format!("the API server does not answer: {}", setback.message), ..refused }
        }
        Some(right) => Blocker {
            reason: BlockerReason::PermissionMissing,
            condition: format!("allowed to {right}"),
            // Who lacks it is nobody's business but the API server's.
            message: format!("this server's account is not allowed to {right}"),
            next: format!("tried again; grant the rule {}", right.rule()),
            ..refused
        },
    }
}

/// A right that an account lacks, as the API server's authorization names it.
#[derive(Debug, PartialEq)]
struct Right<'a> {
    verb: &'a str,
    /// With its subresource.
    resource: &'a str,
    group: &'a str,
    /// `None` for the whole cluster.
    namespace: Option<&'a str>,
}

impl<'a> Right<'a> {
    /// Reads `… User "u" cannot create resource "replicasets" in API group "apps" in the namespace "shop"`; `None` where the message is
    /// about something else, such as a quota.
    fn read(message: &'a str) -> Option<Self> {
        let (_, rest) = message.split_once(" is forbidden: User \"")?;
        let (_, rest) = rest.split_once("\" cannot ")?;
        let (verb, rest) = rest.split_once(" resource \"")?;
        let (resource, rest) = rest.split_once("\" in API group \"")?;
        let (group, rest) = rest.split_once('"')?;
        let namespace = rest.strip_prefix(" in the namespace \"").and_then(|rest| rest.split('"').next());
        Some(Self { verb, resource, group, namespace })
    }

    /// The rule of a Role that grants it.
    fn rule(&self) -> String {
        let Self { verb, resource, group, .. } = self;
        format!("{{apiGroups: [{group:?}], resources: [{resource:?}], verbs: [{verb:?}]}}")
    }
}

impl std::fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        write!(f, "{} {resource}", self.verb)?;
        for (mark, part) in [('.', self.group), ('/', subresource)] {
            if !part.is_empty() {
                write!(f, "{mark}{part}")?;
            }
        }
        match self.namespace {
            Some(namespace) => write!(f, " in namespace {namespace:?}"),
            None => write!(f, " in the whole cluster"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::UNAVAILABLE;

    fn refused(attempt: Attempt, reason: &str, message: &str) -> Blocker {
        let since = jiff::Timestamp::UNIX_EPOCH;
        let (reason, message) = (reason.to_owned(), message.to_owned());
        blocker(&Setback { attempt, reason, message, since, next_try: Some(since) })
    }

    #[test]
    fn a_missing_right_is_named_with_the_rule_that_grants_it() {
        let account = "system:serviceaccount:argo-rollouts:rolloutd";
        for (attempt, verb, resource, group, place, condition, rule) in [
            (
                Attempt::Create("web-1".to_owned()),
                "create",
                "replicasets",
                "apps",
                "in the namespace \"shop\"",
                "allowed to create replicasets.apps in namespace \"shop\"",
                "{apiGroups: [\"apps\"], resources: [\"replicasets\"], verbs: [\"create\"]}",
            ),
            (
                Attempt::Rollout,
                "patch",
                "rollouts/status",
                "argoproj.io",
                "in the namespace \"shop\"",
                "allowed to patch rollouts.argoproj.io/status in namespace \"shop\"",
                "{apiGroups: [\"argoproj.io\"], resources: [\"rollouts/status\"], verbs: [\"patch\"]}",
            ),
            (
                Attempt::Evict("web-1".to_owned()),
                "create",
                "pods/eviction",
                "",
                "at the cluster scope",
                "allowed to create pods/eviction in the whole cluster",
                "{apiGroups: [\"\"], resources: [\"pods/eviction\"], verbs: [\"create\"]}",
            ),
        ] {
            let message = format!(
                "x is forbidden: User \"{account}\" cannot {verb} resource \"{resource}\" in API group \"{group}\" {place}: no rule"
            );
            let blocker = refused(attempt, "Forbidden", &message);
            assert_eq!(blocker.reason, BlockerReason::PermissionMissing);
            assert_eq!(blocker.condition, condition);
            assert_eq!(blocker.message, format!("this server's account is not {condition}"));
            assert_eq!(blocker.next, format!("tried again; grant the rule {rule}"));
            assert_eq!(blocker.next_at, blocker.since);
        }
    }

    #[test]
    fn what_is_forbidden_for_another_reason_is_a_refusal_in_the_servers_words() {
        for message in [
            "replicasets.apps \"web-1\" is forbidden: exceeded quota: few, requested: count/replicasets.apps=1",
            "admission webhook \"policy\" denied the request: User \"x\" cannot have this",
            "",
        ] {
            let blocker = refused(Attempt::Create("web-1".to_owned()), "Forbidden", message);
            assert_eq!((blocker.reason, blocker.message.as_str()), (BlockerReason::WriteRefused, message));
            assert_eq!(blocker.object, Object::ReplicaSet("web-1".to_owned()));
        }
    }

    #[test]
    fn a_server_that_is_away_is_named_as_such() {
        let blocker =
            refused(Attempt::LookForService("active".to_owned()), UNAVAILABLE, "no answer within 10s");
        assert_eq!(blocker.message, "the API server does not answer: no answer within 10s");
        assert_eq!(blocker.object, Object::Service("active".to_owned()));
    }
}
