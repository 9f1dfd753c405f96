//! Parameters of requests: list and watch options, delete options, dry run, field validation.
//!
//! Names, defaults and refusals are those of `metav1.ListOptions` and its siblings.

use serde_json::Value;

use crate::apiserver::audit::Effect;
use crate::apiserver::field::{Path, Violation, Violations};
use crate::apiserver::object::Object;
use crate::apiserver::selector::{FieldSelector, LabelSelector};
use crate::apiserver::status::{ApiError, GroupKind};

/// A parsed query string.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// The first value of a parameter; empty counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    }

    pub(crate) fn all<'q>(&'q self, name: &'q str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A switch: present and neither `false` nor `0`.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.0.iter().find(|(key, _)| key == name).is_some_and(|(_, value)| value != "false" && value != "0")
    }

    fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
        })
    }
}

/// What is done about fields that the kind does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// Options of create, update and patch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WriteOptions {
    pub(crate) effect: Effect,
    pub(crate) field_validation: FieldValidation,
}

impl WriteOptions {
    /// `kind` is CreateOptions, UpdateOptions or PatchOptions.
    pub(crate) fn parse(query: &Query, kind: &str) -> Result<Self, ApiError> {
        let mut violations = Violations::new();
        let dry_run: Vec<String> = query.all("dryRun").map(str::to_owned).collect();
        let effect = effect(&dry_run, &mut violations);
        let field_validation = match query.get("fieldValidation") {
            None | Some("Warn") => FieldValidation::Warn,
            Some("Ignore") => FieldValidation::Ignore,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let path = Path::of("fieldValidation");
                violations.push(Violation::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        ApiError::check(&GroupKind::options(kind), "", violations)?;
        Ok(Self { effect, field_validation })
    }
}

fn effect(dry_run: &[String], violations: &mut Violations) -> Effect {
    if dry_run.is_empty() {
        return Effect::Real;
    }
    if dry_run.iter().any(|value| value != "All") {
        violations.push(Violation::not_supported(&Path::of("dryRun"), dry_run.to_vec(), &["All"]));
    }
    Effect::DryRun
}

/// What becomes of the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

/// Options of a deletion.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) effect: Effect,
    pub(crate) grace_period_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    /// Asked for with the old `orphanDependents: false`, which is answered with 202 while the object stays.
    pub(crate) cascades_by_old_option: bool,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
}

impl DeleteOptions {
    /// From the query of a request without a body.
    pub(crate) fn from_query(query: &Query) -> Result<Self, ApiError> {
        let orphan = query.get("orphanDependents").map(|value| value == "true");
        let dry_run: Vec<String> = query.all("dryRun").map(str::to_owned).collect();
        let grace = query.integer("gracePeriodSeconds")?;
        Self::checked(grace, query.get("propagationPolicy"), orphan, &dry_run)
    }

    /// From a decoded `DeleteOptions` body.
    pub(crate) fn from_body(body: &Value) -> Result<Self, ApiError> {
        let dry_run: Vec<String> =
            body.list("/dryRun").iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let mut options = Self::checked(
            body.integer("/gracePeriodSeconds"),
            body["propagationPolicy"].as_str(),
            body["orphanDependents"].as_bool(),
            &dry_run,
        )?;
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        options.uid = text("/preconditions/uid");
        options.resource_version = text("/preconditions/resourceVersion");
        Ok(options)
    }

    fn checked(
        grace: Option<i64>,
        policy: Option<&str>,
        orphan: Option<bool>,
        dry_run: &[String],
    ) -> Result<Self, ApiError> {
        let path = Path::of("propagationPolicy");
        let mut violations = Violations::new();
        if let (Some(policy), Some(_)) = (policy, orphan) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            violations.push(Violation::invalid(&path, policy, detail));
        }
        let named = match policy {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                violations.push(Violation::not_supported(&path, other, &supported));
                None
            }
        };
        let effect = effect(dry_run, &mut violations);
        ApiError::check(&GroupKind::options("DeleteOptions"), "", violations)?;
        let old = orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background });
        Ok(Self {
            effect,
            grace_period_seconds: grace,
            propagation: named.or(old),
            cascades_by_old_option: orphan == Some(false),
            uid: None,
            resource_version: None,
        })
    }
}

/// How old the answer to a list may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// The present.
    Latest,
    /// The present, which must not be before this revision.
    NotOlderThan(u64),
    /// Exactly this revision.
    Exact(u64),
}

/// Options of list, watch and deletecollection.
#[derive(Clone, Debug)]
pub(crate) struct ListOptions {
    pub(crate) labels: LabelSelector,
    pub(crate) fields: FieldSelector,
    pub(crate) as_of: AsOf,
    /// Revision from which a watch starts; `None` asks for the present objects first.
    pub(crate) since: Option<u64>,
    pub(crate) limit: usize,
    pub(crate) continue_token: Option<String>,
    pub(crate) bookmarks: bool,
    pub(crate) timeout_seconds: Option<u64>,
}

/// Whether a request watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    List,
    Watch,
}

impl ListOptions {
    pub(crate) fn parse(query: &Query, mode: Mode) -> Result<Self, ApiError> {
        check_version_match(query, mode)?;
        let labels = LabelSelector::parse(query.get("labelSelector").unwrap_or_default())
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let fields = FieldSelector::parse(query.get("fieldSelector").unwrap_or_default())
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        let version = match query.get("resourceVersion") {
            None => None,
            Some(text) => Some(parse_version(text, mode)?),
        };
        let as_of = match (version, query.get("resourceVersionMatch")) {
            (Some(version), Some("Exact")) => AsOf::Exact(version),
            (Some(version), None) if version > 0 && query.get("limit").is_some() => AsOf::Exact(version),
            (Some(version), _) => AsOf::NotOlderThan(version),
            (None, _) => AsOf::Latest,
        };
        let natural = |value: Option<i64>| value.and_then(|v| u64::try_from(v).ok());
        Ok(Self {
            labels,
            fields,
            as_of,
            since: version.filter(|version| *version > 0),
            limit: natural(query.integer("limit")?).and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
            continue_token: query.get("continue").map(str::to_owned),
            bookmarks: query.flag("allowWatchBookmarks"),
            timeout_seconds: natural(query.integer("timeoutSeconds")?).filter(|seconds| *seconds > 0),
        })
    }
}

fn parse_version(text: &str, mode: Mode) -> Result<u64, ApiError> {
    text.parse().map_err(|_| {
        let detail = format!("strconv.ParseUint: parsing \"{text}\": invalid syntax");
        let violation = Violation::invalid(&Path::of("resourceVersion"), text, detail);
        match mode {
            Mode::List => ApiError::bad_request(format!("invalid resource version: {violation}")),
            Mode::Watch => ApiError::Unclassified(violation.to_string()),
        }
    })
}

/// `resourceVersionMatch` and `sendInitialEvents`, as a server without WatchList answers them.
fn check_version_match(query: &Query, mode: Mode) -> Result<(), ApiError> {
    let path = Path::of("resourceVersionMatch");
    let version_match = query.get("resourceVersionMatch");
    let mut violations = Violations::new();
    let forbidden = |detail: &str| Violation::forbidden(&path, detail);
    let initial = query.get("sendInitialEvents").is_some();
    if initial {
        let detail = match mode {
            Mode::Watch => {
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"
            }
            Mode::List => "sendInitialEvents is forbidden for list",
        };
        violations.push(Violation::forbidden(&Path::of("sendInitialEvents"), detail));
    }
    match (mode, version_match) {
        (Mode::Watch, Some(_)) if !initial => {
            violations.push(forbidden(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        (_, None) | (Mode::Watch, Some(_)) => {}
        (Mode::List, Some(version_match)) => {
            let version = query.get("resourceVersion");
            if version.is_none() {
                violations
                    .push(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
            }
            if query.get("continue").is_some() {
                violations.push(forbidden("resourceVersionMatch is forbidden when continue is provided"));
            }
            if !["Exact", "NotOlderThan"].contains(&version_match) {
                let supported = ["Exact", "NotOlderThan", ""];
                violations.push(Violation::not_supported(&path, version_match, &supported));
            }
            if version_match == "Exact" && version == Some("0") {
                violations
                    .push(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
            }
        }
    }
    ApiError::check(&GroupKind::options("ListOptions"), "", violations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn list(query: &str) -> Result<ListOptions, String> {
        ListOptions::parse(&Query::parse(query), Mode::List).map_err(|e| e.to_string())
    }

    #[test]
    fn versions_say_how_old_a_list_may_be() {
        let cases = [
            ("", AsOf::Latest),
            ("resourceVersion=", AsOf::Latest),
            ("resourceVersion=0", AsOf::NotOlderThan(0)),
            ("resourceVersion=5", AsOf::NotOlderThan(5)),
            ("resourceVersion=5&resourceVersionMatch=NotOlderThan", AsOf::NotOlderThan(5)),
            ("resourceVersion=5&resourceVersionMatch=Exact", AsOf::Exact(5)),
            ("resourceVersion=5&limit=1", AsOf::Exact(5)),
            ("resourceVersion=0&limit=1", AsOf::NotOlderThan(0)),
        ];
        for (query, as_of) in cases {
            assert_eq!(list(query).unwrap().as_of, as_of, "{query}");
        }
    }

    #[test]
    fn malformed_options_are_refused() {
        let cases = [
            ("limit=x", "strconv.ParseInt: parsing \"x\": invalid syntax"),
            (
                "resourceVersion=x",
                "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint",
            ),
            (
                "resourceVersionMatch=Exact",
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless",
            ),
            ("labelSelector=a%20b", "unable to parse requirement"),
            ("fieldSelector=a", "invalid selector"),
        ];
        for (query, message) in cases {
            let error = list(query).unwrap_err();
            assert!(error.starts_with(message), "{query}: {error}");
        }
        let watch = ListOptions::parse(
            &Query::parse("sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
            Mode::Watch,
        );
        assert_eq!(watch.unwrap_err().code(), 422);
    }

    #[test]
    fn delete_options_come_from_the_body_or_the_query() {
        let body = json!({"propagationPolicy": "Foreground", "gracePeriodSeconds": 0, "dryRun": ["All"],
            "preconditions": {"uid": "u", "resourceVersion": "7"}});
        let options = DeleteOptions::from_body(&body).unwrap();
        assert_eq!(options.propagation, Some(Propagation::Foreground));
        assert_eq!(options.effect, Effect::DryRun);
        assert_eq!((options.uid.as_deref(), options.resource_version.as_deref()), (Some("u"), Some("7")));
        let options = DeleteOptions::from_query(&Query::parse("orphanDependents=true")).unwrap();
        assert_eq!(options.propagation, Some(Propagation::Orphan));
        let both = DeleteOptions::from_query(&Query::parse("orphanDependents=true&propagationPolicy=Orphan"));
        assert!(both.unwrap_err().to_string().contains("cannot be both set"));
    }
}
