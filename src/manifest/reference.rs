//! How the objects of manifests go together: whether each is there once, and the Services that rollouts name.
//!
//! Follows Argo Rollouts' own checks of references, as far as they need no cluster, and what the controller refuses.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::form::Findings;
use super::item::without_nulls;
use super::kind::ROLLOUT;
use super::{Fault, Item};
use crate::crd::{LabelSelector, Rollout, keys};
use crate::pb::v1;
use crate::validate::{self, Path};

/// The reasons of warnings.
const SERVICE_MISSING: &str = "SERVICE_MISSING";
const SELECTORS_OVERLAP: &str = "SELECTORS_OVERLAP";

/// Objects that stand in manifests more than once; all but the first.
#[must_use]
pub fn duplicates(items: &[Item]) -> Vec<Fault> {
    let mut seen = BTreeMap::new();
    let mut faults = Vec::new();
    for item in items {
        let first = seen.entry((item.kind.kind, &item.namespace, &item.name)).or_insert(item);
        if !std::ptr::eq(*first, item) {
            let (kind, name, place) = (item.kind.kind, &item.name, &first.document.place);
            let description = format!("{kind} {name:?} is there twice: at {place} as well");
            faults.push(Fault::new(item.document.at("metadata.name"), description));
        }
    }
    faults
}

/// Whether what rollouts name is there and fits.
#[must_use]
pub fn check(items: &[Item]) -> Findings {
    let rollouts: Vec<Deployed<'_>> = items.iter().filter_map(Deployed::new).collect();
    let services: Services<'_> = items
        .iter()
        .filter(|item| item.kind.kind == "Service")
        .map(|item| ((item.namespace.as_str(), item.name.as_str()), item))
        .collect();
    let mut findings = Findings::default();
    for rollout in &rollouts {
        rollout.services(&services, &mut findings);
    }
    findings.faults.extend(shared(&rollouts));
    findings.warnings.extend(overlapping(&rollouts));
    findings
}

/// By namespace and name.
type Services<'a> = BTreeMap<(&'a str, &'a str), &'a Item>;

/// A rollout with what it names.
struct Deployed<'a> {
    item: &'a Item,
    selector: Option<LabelSelector>,
    /// Of its pods; none where another object holds the template.
    labels: Option<BTreeMap<String, String>>,
    references: Vec<Reference>,
}

/// A field that names a Service.
struct Reference {
    field: Path,
    service: String,
    role: Role,
}

/// What the controller does with a Service.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    /// It keeps the selector on one version.
    Selects,
    /// It leaves it alone; clients use it.
    Root,
}

impl<'a> Deployed<'a> {
    /// What cannot be decoded has been complained of already.
    fn new(item: &'a Item) -> Option<Self> {
        if *item.kind != ROLLOUT {
            return None;
        }
        let rollout = Rollout::decode(&without_nulls(&item.manifest)).ok()?;
        let references = references(&rollout);
        let labels =
            rollout.spec.template.as_ref().filter(|_| rollout.spec.workload_ref.is_none()).map(labels);
        Some(Self { item, selector: rollout.spec.selector, labels, references })
    }

    fn services(&self, services: &Services<'_>, findings: &mut Findings) {
        for Reference { field, service, .. } in &self.references {
            let field = self.item.document.at(&field.to_string());
            match services.get(&(self.item.namespace.as_str(), service.as_str())) {
                Some(found) => findings.faults.extend(self.unfit(found).map(|why| Fault::new(field, why))),
                // Where there are none at all they are kept elsewhere.
                None if services.is_empty() => findings.warnings.push(v1::Warning {
                    reason: SERVICE_MISSING.to_owned(),
                    field,
                    description: format!("Service {service:?} is not among the manifests, as no Service is"),
                }),
                None => {
                    let description = format!(
                        "Service {service:?} is not among the manifests in namespace {:?}",
                        self.item.namespace
                    );
                    findings.faults.push(Fault::new(field, description));
                }
            }
        }
    }

    /// Why a Service cannot send traffic to the rollout's pods.
    fn unfit(&self, service: &Item) -> Option<String> {
        let (manifest, at) = (&service.manifest, &service.document.place);
        let manager = manifest["metadata"]["annotations"][keys::MANAGED_BY_ROLLOUTS].as_str();
        if let Some(other) = manager.filter(|manager| *manager != self.item.name) {
            return Some(format!("Service {:?} ({at}) is managed by Rollout {other:?}", service.name));
        }
        let labels = self.labels.as_ref()?;
        let selector = manifest["spec"]["selector"].as_object()?;
        let differs = |(key, value): &(&String, &Value)| {
            // The controller writes the hash itself, into pods and selectors.
            key.as_str() != keys::POD_TEMPLATE_HASH && labels.get(*key) != Some(&plain(value))
        };
        let (key, value) = selector.iter().find(differs)?;
        let has = match labels.get(key) {
            Some(label) => format!("have {key}: {label}"),
            None => format!("have no label {key}"),
        };
        let name = &service.name;
        Some(format!(
            "Service {name:?} ({at}) selects pods with {key}: {}, but this rollout's {has}",
            plain(value)
        ))
    }

    /// Whether its selector takes pods with these labels.
    fn selects(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let matched = self.selector.as_ref().zip(labels);
        matched.and_then(|(selector, labels)| validate::selects(selector, labels)).unwrap_or_default()
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

fn labels(template: &Value) -> BTreeMap<String, String> {
    let labels = template["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// The Services that a rollout names, field by field.
fn references(rollout: &Rollout) -> Vec<Reference> {
    let Some(strategy) = &rollout.spec.strategy else { return Vec::new() };
    let root = Path::root("spec").field("strategy");
    let mut references = Vec::new();
    let mut name = |fields: &[&'static str], service: Option<&str>, role: Role| {
        if let Some(service) = service.filter(|service| !service.is_empty()) {
            references.push(Reference { field: root.fields(fields), service: service.to_owned(), role });
        }
    };
    if let Some(blue_green) = &strategy.blue_green {
        name(&["blueGreen", "activeService"], Some(&blue_green.active_service), Role::Selects);
        name(&["blueGreen", "previewService"], blue_green.preview_service.as_deref(), Role::Selects);
    }
    if let Some(canary) = &strategy.canary {
        name(&["canary", "canaryService"], canary.canary_service.as_deref(), Role::Selects);
        name(&["canary", "stableService"], canary.stable_service.as_deref(), Role::Selects);
        if let Some(services) = &canary.ping_pong {
            name(&["canary", "pingPong", "pingService"], Some(&services.ping_service), Role::Selects);
            name(&["canary", "pingPong", "pongService"], Some(&services.pong_service), Role::Selects);
        }
        let routing = canary.traffic_routing.as_ref();
        let alb = routing.and_then(|routing| routing.alb.as_ref()?.root_service.as_deref());
        name(&["canary", "trafficRouting", "alb", "rootService"], alb, Role::Root);
        let smi = routing.and_then(|routing| routing.smi.as_ref()?.root_service.as_deref());
        name(&["canary", "trafficRouting", "smi", "rootService"], smi, Role::Root);
    }
    references
}

/// Services whose selector two rollouts want to write; the controller refuses the second.
fn shared(rollouts: &[Deployed<'_>]) -> Vec<Fault> {
    let mut owners: BTreeMap<(&str, &str), &Item> = BTreeMap::new();
    let mut faults = Vec::new();
    for rollout in rollouts {
        let written = rollout.references.iter().filter(|reference| reference.role == Role::Selects);
        for Reference { field, service, .. } in written {
            let owner = owners.entry((&rollout.item.namespace, service)).or_insert(rollout.item);
            if !std::ptr::eq(*owner, rollout.item) {
                let (name, place) = (&owner.name, &owner.document.place);
                let description =
                    format!("Service {service:?} belongs to Rollout {name:?} ({place}); each needs its own");
                faults.push(Fault::new(rollout.item.document.at(&field.to_string()), description));
            }
        }
    }
    faults
}

/// Rollouts of a namespace of which one takes the other's pods for its own.
fn overlapping(rollouts: &[Deployed<'_>]) -> Vec<v1::Warning> {
    let mut warnings = Vec::new();
    let mut warned = BTreeSet::new();
    for (index, second) in rollouts.iter().enumerate() {
        for first in &rollouts[..index] {
            let is_near =
                first.item.namespace == second.item.namespace && first.item.name != second.item.name;
            let takes = first.selects(second.labels.as_ref()) || second.selects(first.labels.as_ref());
            // One warning a rollout says it: where many copies stand side by side there are many pairs.
            if is_near && takes && warned.insert(index) {
                let (name, place) = (&first.item.name, &first.item.document.place);
                warnings.push(v1::Warning {
                    reason: SELECTORS_OVERLAP.to_owned(),
                    field: second.item.document.at("spec.selector"),
                    description: format!(
                        "the selectors of this rollout and of Rollout {name:?} ({place}) take pods of both; tell them apart by a label"
                    ),
                });
            }
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{document, item};

    fn items(manifest: &str) -> Vec<Item> {
        item::find(document::read(manifest).unwrap().objects, "shop").items
    }

    fn rollout(name: &str, strategy: &str) -> String {
        format!(
            "---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {{name: {name}}}\nspec:\n  \
             selector: {{matchLabels: {{app: {name}}}}}\n  strategy: {strategy}\n  \
             template: {{metadata: {{labels: {{app: {name}, tier: front}}}}, spec: {{containers: []}}}}\n"
        )
    }

    fn service(name: &str, selector: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {selector}}}\n"
        )
    }

    fn faults(manifest: &str) -> Vec<(String, String)> {
        let findings = check(&items(manifest));
        assert_eq!(findings.warnings, [], "{manifest}");
        findings.faults.into_iter().map(|fault| (fault.field, fault.description)).collect()
    }

    #[test]
    fn every_field_that_names_a_service_is_looked_at() {
        for (strategy, field) in [
            ("{canary: {canaryService: x}}", "canary.canaryService"),
            ("{canary: {stableService: x}}", "canary.stableService"),
            ("{canary: {pingPong: {pingService: x, pongService: web}}}", "canary.pingPong.pingService"),
            ("{canary: {pingPong: {pingService: web, pongService: x}}}", "canary.pingPong.pongService"),
            (
                "{canary: {trafficRouting: {alb: {ingress: i, servicePort: 80, rootService: x}}}}",
                "canary.trafficRouting.alb.rootService",
            ),
            ("{canary: {trafficRouting: {smi: {rootService: x}}}}", "canary.trafficRouting.smi.rootService"),
            ("{blueGreen: {activeService: x}}", "blueGreen.activeService"),
            ("{blueGreen: {activeService: web, previewService: x}}", "blueGreen.previewService"),
        ] {
            let manifest = rollout("web", strategy) + &service("web", "{app: web}");
            let missing = "Service \"x\" is not among the manifests in namespace \"shop\"".to_owned();
            assert_eq!(faults(&manifest), [(format!("[0].spec.strategy.{field}"), missing)]);
            let there = manifest + &service("x", "{tier: front, rollouts-pod-template-hash: abc}");
            assert_eq!(faults(&there), []);
        }
    }

    #[test]
    fn without_any_service_a_missing_one_is_a_warning() {
        let findings = check(&items(&rollout("web", "{canary: {canaryService: x}}")));
        assert_eq!(findings.faults, []);
        assert_eq!(findings.warnings[0].reason, SERVICE_MISSING);
        assert_eq!(findings.warnings[0].field, "[0].spec.strategy.canary.canaryService");
    }

    #[test]
    fn a_service_of_another_namespace_is_another_one() {
        let manifest = rollout("web", "{canary: {canaryService: x}}")
            + "---\n{apiVersion: v1, kind: Service, metadata: {name: x, namespace: bank}}\n";
        assert_eq!(faults(&manifest).len(), 1);
    }

    #[test]
    fn a_service_must_select_the_rollouts_pods_and_be_no_others() {
        for (service, why) in [
            (
                service("x", "{app: other}"),
                "Service \"x\" ([1]) selects pods with app: other, but this rollout's have app: web",
            ),
            (
                service("x", "{version: 2}"),
                "Service \"x\" ([1]) selects pods with version: 2, but this rollout's have no label version",
            ),
            (
                "---\n{apiVersion: v1, kind: Service, metadata: {name: x, annotations: \
                 {argo-rollouts.argoproj.io/managed-by-rollouts: api}}}\n"
                    .to_owned(),
                "Service \"x\" ([1]) is managed by Rollout \"api\"",
            ),
        ] {
            let found = faults(&(rollout("web", "{canary: {canaryService: x}}") + &service));
            assert_eq!(found, [("[0].spec.strategy.canary.canaryService".to_owned(), why.to_owned())]);
        }
    }

    #[test]
    fn pods_whose_template_is_elsewhere_may_have_any_labels() {
        let manifest = "---\napiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\nspec: {workloadRef: \
                        {apiVersion: apps/v1, kind: Deployment, name: web}, strategy: {canary: {canaryService: x}}}\n"
            .to_owned();
        assert_eq!(faults(&(manifest + &service("x", "{app: other}"))), []);
    }

    #[test]
    fn two_rollouts_must_not_switch_one_service_but_may_share_a_root() {
        let of = |name: &str| {
            rollout(name, "{canary: {canaryService: x, trafficRouting: {smi: {rootService: r}}}}")
        };
        let manifest = of("a") + &of("b") + &service("x", "{tier: front}") + &service("r", "{tier: front}");
        let why = "Service \"x\" belongs to Rollout \"a\" ([0]); each needs its own".to_owned();
        assert_eq!(faults(&manifest), [("[1].spec.strategy.canary.canaryService".to_owned(), why)]);
    }

    #[test]
    fn rollouts_that_take_each_others_pods_are_warned_about() {
        let both = |selector: &str| {
            let manifest = rollout("a", "{canary: {}}") + &rollout("b", "{canary: {}}");
            check(&items(&manifest.replace("{app: b}}", selector))).warnings
        };
        assert_eq!(both("{app: b}}"), []);
        let warnings = both("{tier: front}}");
        assert_eq!((warnings.len(), warnings[0].reason.as_str()), (1, SELECTORS_OVERLAP));
        assert_eq!(warnings[0].field, "[1].spec.selector");
        assert!(warnings[0].description.contains("Rollout \"a\" ([0])"), "{}", warnings[0].description);
        assert_eq!(
            both("{}, matchExpressions: [{key: app, operator: Odd}]}"),
            [],
            "no selector is no overlap"
        );
    }

    #[test]
    fn an_object_that_stands_there_more_than_once_is_told_of_each_time_but_the_first() {
        let faults = duplicates(&items(&service("x", "{}").repeat(3)));
        let again = |place: &str| Fault::new(place, "Service \"x\" is there twice: at [0] as well");
        assert_eq!(faults, [again("[1].metadata.name"), again("[2].metadata.name")]);
    }
}
