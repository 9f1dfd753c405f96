//! `pods/eviction`: deletes a pod, unless a PodDisruptionBudget forbids it now.
//!
//! The order of checks and writes is that of `registry/core/pod/storage/eviction.go`: the budget gives a disruption
//! away before the pod is deleted, also when the deletion is refused then.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{check_name, delete, settle_namespace};
use crate::apiserver::audit::{Effect, Verb};
use crate::apiserver::call::Call;
use crate::apiserver::go_types;
use crate::apiserver::http::body;
use crate::apiserver::http::options::DeleteOptions;
use crate::apiserver::http::reply::Reply;
use crate::apiserver::object::{self, Object};
use crate::apiserver::resource::ReadError;
use crate::apiserver::selector::LabelSelector;
use crate::apiserver::state::{Author, State};
use crate::apiserver::status::{ApiError, GroupResource, Retry};
use crate::json::Json;

/// Evictions that a budget keeps before somebody has to confirm them (`MaxDisruptedPodSize`).
const DISRUPTED_MAX: usize = 2000;

/// When to ask again about a budget whose status is not of its present spec.
const RETRY_SECONDS: u64 = 10;

/// POST of an Eviction.
pub(crate) fn evict(state: &mut State, call: &mut Call<'_>) -> Result<Reply, ApiError> {
    let body = body::parse(call.request, "Eviction")?;
    let mut eviction = read(call, &body)?;
    settle_namespace(call, &mut eviction)?;
    check_names(call, &eviction)?;
    settle_effect(call, &eviction["deleteOptions"])?;
    let pod = state.store.get(&call.resource.id, &call.key()).cloned().ok_or_else(|| call.not_found())?;
    let permit = if goes_at_once(&pod) { Permit::AsAsked } else { ask_budgets(state, call, &pod)? };
    let mut options = eviction["deleteOptions"].clone();
    if permit == Permit::WhileUnready {
        // The version that was looked at stands in for one that the client named.
        options["preconditions"]["resourceVersion"] = json!(pod.resource_version());
    }
    delete_marked(state, call, &pod, &options)?;
    let status =
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Ok(Reply::document(status, call.accept.media).with_code(201))
}

/// Reads the body; the version before the present one has the same form.
fn read(call: &mut Call<'_>, body: &Json) -> Result<Value, ApiError> {
    let stated = |key: &str, default: &'static str| match body.value.text(key) {
        "" => default.to_owned(),
        text => text.to_owned(),
    };
    let (kind, version) = (stated("/kind", "Eviction"), stated("/apiVersion", "policy/v1"));
    let unfit = |why: String| ReadError::Unfit {
        stated: kind.clone(),
        version: version.rsplit('/').next().unwrap_or_default().to_owned(),
        kind: "Eviction".to_owned(),
        why,
    };
    if kind != "Eviction" || !["policy/v1", "policy/v1beta1"].contains(&version.as_str()) {
        let scheme = "pkg/runtime/scheme.go:111";
        let why =
            format!("no kind \"{kind}\" is registered for version \"{version}\" in scheme \"{scheme}\"");
        return Err(unfit(why).into());
    }
    let decoded = go_types::decode("io.k8s.api.policy.v1.Eviction", &body.value)
        .map_err(|error| ApiError::from(unfit(error.to_string())))?;
    call.judge_fields(&decoded.unknown, &body.duplicates).map_err(|why| ApiError::from(unfit(why)))?;
    Ok(decoded.object)
}

fn check_names(call: &Call<'_>, eviction: &Value) -> Result<(), ApiError> {
    check_name(call, eviction)
        .map_err(|_| ApiError::bad_request("name in URL does not match name in Eviction object"))
}

/// A dry run may be asked for in the query or in the body, but not in two different ways.
fn settle_effect(call: &mut Call<'_>, options: &Value) -> Result<(), ApiError> {
    let asked: Vec<&str> = call.request.query.all("dryRun").collect();
    let stated: Vec<&str> = options.list("/dryRun").iter().filter_map(Value::as_str).collect();
    if !asked.is_empty() && !stated.is_empty() && asked != stated {
        let list = |items: &[&str]| format!("[{}]", items.join(" "));
        return Err(ApiError::Unclassified(format!(
            "Non-matching dry-run options in request and content: {} and {}",
            list(&asked),
            list(&stated)
        )));
    }
    if !stated.is_empty() {
        call.options.effect = Effect::DryRun;
    }
    Ok(())
}

/// Pods whose loss no budget counts any more, or not yet.
fn goes_at_once(pod: &Value) -> bool {
    pod.is_being_deleted() || matches!(pod.text("/status/phase"), "Pending" | "Succeeded" | "Failed")
}

fn is_ready(pod: &Value) -> bool {
    let ready = |condition: &Value| condition.text("/type") == "Ready" && condition.text("/status") == "True";
    pod.list("/status/conditions").iter().any(ready)
}

/// On what terms a pod may be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permit {
    AsAsked,
    /// It may go because it serves nobody: only as long as that is so.
    WhileUnready,
}

fn budgets() -> GroupResource {
    GroupResource::new("policy", "poddisruptionbudgets")
}

/// Asks the budget of the pod, which gives one disruption away unless the pod is none.
fn ask_budgets(state: &mut State, call: &Call<'_>, pod: &Value) -> Result<Permit, ApiError> {
    let selects = |budget: &Value| {
        let selector = &budget["spec"]["selector"];
        !selector.is_null() && LabelSelector::from_object(selector).matches(pod.labels())
    };
    let all = state.store.list(&budgets(), Some(pod.namespace()));
    let selecting: Vec<Arc<Value>> =
        all.filter(|(_, budget)| selects(budget)).map(|(_, budget)| budget.clone()).collect();
    let budget = match selecting.as_slice() {
        [] => return Ok(Permit::AsAsked),
        [budget] => budget,
        _ => {
            return Err(ApiError::Unclassified(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
                    .to_owned(),
            ));
        }
    };
    if !is_ready(pod) {
        let count = |field: &str| budget.integer(&format!("/status/{field}")).unwrap_or(0);
        let met = count("currentHealthy") >= count("desiredHealthy") && count("desiredHealthy") > 0;
        if budget.text("/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow" || met {
            return Ok(Permit::WhileUnready);
        }
    }
    check_budget(budget)?;
    if !call.is_dry_run() {
        let now = object::time(state.now());
        let taken = with_disruption(budget, pod.name(), &now);
        let Some(resource) = state.catalog.get(&budgets()).cloned() else { return Ok(Permit::AsAsked) };
        let author = Author { verb: Verb::Update, subresource: "status", ..call.author() };
        state.write(author, &resource, taken);
    }
    Ok(Permit::AsAsked)
}

/// Whether the budget has a disruption to give away.
fn check_budget(budget: &Value) -> Result<(), ApiError> {
    let count = |field: &str| budget.integer(&format!("/status/{field}")).unwrap_or(0);
    let name = budget.name();
    if count("observedGeneration") < budget.generation() {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(ApiError::Disrupting { why, retry: Retry::AfterSeconds(RETRY_SECONDS) });
    }
    let forbidden =
        |why: &str| Err(ApiError::forbidden(&GroupResource::new("policy", "poddisruptionbudget"), name, why));
    if count("disruptionsAllowed") < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if budget.map("/status/disruptedPods").is_some_and(|pods| pods.len() > DISRUPTED_MAX) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if count("disruptionsAllowed") > 0 {
        return Ok(());
    }
    let (wanted, found) = (count("desiredHealthy"), count("currentHealthy"));
    let conditions = budget.list("/status/conditions").iter();
    let condition = conditions
        .filter(|condition| condition.text("/type") == "DisruptionAllowed")
        .find(|condition| condition.text("/status") == "False" && !condition.text("/message").is_empty());
    let told = condition.map(|condition| (condition.text("/reason"), condition.text("/message")));
    let current = format!("The disruption budget {name} does not allow evicting pods currently");
    let why = match told {
        // Its numbers are not to be trusted then.
        Some(("SyncFailed", message)) => format!("{current} because it failed sync: {message}"),
        _ if found <= wanted => {
            format!("The disruption budget {name} needs {wanted} healthy pods and has {found} currently")
        }
        Some((reason, message)) => format!("{current} ({reason}): {message}"),
        None => current,
    };
    Err(ApiError::Disrupting { why, retry: Retry::Unsaid })
}

/// The budget with one disruption less, which is the pod's.
fn with_disruption(budget: &Value, pod: &str, now: &str) -> Value {
    let mut taken = budget.clone();
    let left = budget.integer("/status/disruptionsAllowed").unwrap_or(0) - 1;
    let status = &mut taken["status"];
    status["disruptionsAllowed"] = json!(left);
    status["disruptedPods"][pod] = json!(now);
    if left == 0 {
        let observed = status.get("observedGeneration").cloned();
        let mut conditions = status.list("/conditions").to_vec();
        let known = conditions.iter_mut().find(|condition| condition.text("/type") == "DisruptionAllowed");
        let since = match &known {
            Some(condition) if condition.text("/status") == "False" => {
                condition["lastTransitionTime"].clone()
            }
            _ => json!(now),
        };
        let mut condition = json!({"type": "DisruptionAllowed", "status": "False", "lastTransitionTime": since,
            "reason": "InsufficientPods", "message": ""});
        condition.set_member("observedGeneration", observed);
        match known {
            Some(known) => *known = condition,
            None => conditions.push(condition),
        }
        status["conditions"] = Value::Array(conditions);
    }
    taken
}

/// Says on the pod why it goes, and deletes it.
fn delete_marked(
    state: &mut State,
    call: &mut Call<'_>,
    pod: &Arc<Value>,
    options: &Value,
) -> Result<(), ApiError> {
    let mut preconditions = DeleteOptions::default();
    let text = |pointer: &str| options.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    preconditions.uid = text("/preconditions/uid");
    preconditions.resource_version = text("/preconditions/resourceVersion");
    delete::check_preconditions(call, pod, &preconditions)?;
    if !call.is_dry_run() {
        let now = object::time(state.now());
        let marked = with_condition(pod, &now);
        if marked != **pod {
            state.write(call.author(), &call.resource, marked);
        }
    }
    let mut options = DeleteOptions::from_body(options)?;
    options.effect = call.options.effect;
    options.resource_version = None;
    delete::delete_one(state, call, &options).map(drop)
}

fn with_condition(pod: &Value, now: &str) -> Value {
    let mut marked = pod.clone();
    let wanted = json!({"type": "DisruptionTarget", "status": "True", "lastProbeTime": null,
        "lastTransitionTime": now, "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"});
    let mut conditions = pod.list("/status/conditions").to_vec();
    match conditions.iter_mut().find(|condition| condition.text("/type") == "DisruptionTarget") {
        Some(known) => {
            let since = known["lastTransitionTime"].clone();
            let same = known.text("/status") == "True";
            *known = wanted;
            if same {
                known["lastTransitionTime"] = since;
            }
        }
        None => conditions.push(wanted),
    }
    marked["status"]["conditions"] = Value::Array(conditions);
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(status: &Value) -> Value {
        json!({"metadata": {"name": "b", "generation": 2}, "status": status})
    }

    fn refusal(status: &Value) -> String {
        match check_budget(&budget(status)) {
            Ok(()) => "allowed".to_owned(),
            Err(ApiError::Disrupting { why, retry }) => format!("{retry:?} {why}"),
            Err(other) => other.to_string(),
        }
    }

    #[test]
    fn a_budget_says_why_it_refuses() {
        let cases = [
            (json!({"observedGeneration": 1}), "AfterSeconds(10) The disruption budget b is still being"),
            (json!({"observedGeneration": 2, "disruptionsAllowed": 1}), "allowed"),
            (
                json!({"observedGeneration": 2, "disruptionsAllowed": -1}),
                "poddisruptionbudget.policy \"b\" is forbidden: pdb disruptions allowed is negative",
            ),
            (
                json!({"observedGeneration": 2, "currentHealthy": 1, "desiredHealthy": 2}),
                "Unsaid The disruption budget b needs 2 healthy pods and has 1 currently",
            ),
            (
                json!({"observedGeneration": 2, "currentHealthy": 3, "desiredHealthy": 2}),
                "Unsaid The disruption budget b does not allow evicting pods currently",
            ),
        ];
        for (status, start) in cases {
            let refusal = refusal(&status);
            assert!(refusal.starts_with(start), "{status}: {refusal}");
        }
    }

    #[test]
    fn the_last_disruption_changes_the_condition() {
        let before =
            json!({"disruptionsAllowed": 2, "conditions": [{"type": "DisruptionAllowed", "status": "True"}]});
        let one = with_disruption(&budget(&before), "p", "now");
        assert_eq!(one["status"]["disruptedPods"], json!({"p": "now"}));
        assert_eq!(one["status"]["conditions"][0]["status"], "True");
        let none = with_disruption(&one, "q", "later");
        assert_eq!(none["status"]["disruptionsAllowed"], 0);
        assert_eq!(none["status"]["conditions"].as_array().map(Vec::len), Some(1));
        let condition = &none["status"]["conditions"][0];
        assert_eq!(
            (&condition["status"], &condition["lastTransitionTime"]),
            (&json!("False"), &json!("later"))
        );
    }

    #[test]
    fn a_pod_is_marked_once() {
        let once = with_condition(&json!({"status": {"conditions": [{"type": "Ready"}]}}), "t1");
        assert_eq!(once["status"]["conditions"].as_array().map(Vec::len), Some(2));
        assert_eq!(with_condition(&once, "t2"), once);
    }
}
