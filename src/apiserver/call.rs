//! One request about a resource, resolved: which resource, in which version, what is to be done.
//!
//! Depends on the catalog and the parsed request. [`super::server`] makes it, the handlers in [`super::read`] and
//! [`super::write`] carry it out.

use std::sync::Arc;

use super::audit::{Effect, Verb};
use super::http::Request;
use super::http::accept::{self, Accept};
use super::http::options::{FieldValidation, WriteOptions};
use super::http::route::{self, Target};
use super::present::Presenter;
use super::resource::{Origin, ReadError, Resource, Rules, Scope, Subresource, Version};
use super::state::{Author, State};
use super::status::ApiError;
use super::store::Key;
use crate::hash::FieldPath;
use crate::json::Json;

/// A resolved request.
pub(crate) struct Call<'r> {
    pub(crate) request: &'r Request,
    pub(crate) target: Target,
    pub(crate) resource: Arc<Resource>,
    pub(crate) version: Version,
    pub(crate) subresource: Option<Subresource>,
    pub(crate) verb: Verb,
    pub(crate) accept: Accept,
    pub(crate) options: WriteOptions,
    pub(crate) warnings: Vec<String>,
}

impl<'r> Call<'r> {
    /// Looks the target up; refuses what the resource does not do.
    pub(crate) fn resolve(state: &State, request: &'r Request, target: Target) -> Result<Self, ApiError> {
        let Target { group, version, plural, .. } = &target;
        let Some(resource) = state.catalog.served(group, version, plural) else {
            let known = group.is_empty() || state.catalog.is_built_in(group);
            return Err(if known { ApiError::UnknownResource } else { ApiError::UnknownPath });
        };
        let version = resource.version(version).ok_or(ApiError::UnknownResource)?.clone();
        let subresource = match target.subresource.as_str() {
            "" => None,
            name => Some(
                version
                    .subresources
                    .iter()
                    .copied()
                    .find(|subresource| subresource.name() == name)
                    .ok_or_else(|| match resource.origin {
                        Origin::BuiltIn => ApiError::UnknownResource,
                        Origin::Definition => ApiError::not_found(&resource.id, &target.name),
                    })?,
            ),
        };
        let verb = route::verb(&request.method, &target, &request.query).ok_or(ApiError::MethodNotAllowed)?;
        check_scope(resource, &target, verb).map_err(|error| match resource.origin {
            Origin::BuiltIn => error,
            Origin::Definition => ApiError::UnknownPath,
        })?;
        let collection = verb == Verb::DeleteCollection && !version.rules.deletes_collections();
        if collection || !allows(subresource, verb, &target) {
            return Err(ApiError::MethodNotAllowed);
        }
        let options = match verb {
            Verb::Create => WriteOptions::parse(&request.query, "CreateOptions")?,
            Verb::Update => WriteOptions::parse(&request.query, "UpdateOptions")?,
            Verb::Patch => WriteOptions::parse(&request.query, "PatchOptions")?,
            Verb::Get | Verb::List | Verb::Watch | Verb::Delete | Verb::DeleteCollection => {
                WriteOptions::default()
            }
        };
        Ok(Self {
            accept: accept::negotiate(&request.headers, &request.query)?,
            warnings: version.deprecation.iter().cloned().collect(),
            request,
            resource: resource.clone(),
            version,
            subresource,
            verb,
            options,
            target,
        })
    }

    pub(crate) fn rules(&self) -> Arc<dyn Rules> {
        self.version.rules.clone()
    }

    pub(crate) fn key(&self) -> Key {
        Key::new(&self.target.namespace, &self.target.name)
    }

    pub(crate) fn author(&self) -> Author<'r> {
        Author {
            agent: &self.request.user_agent,
            verb: self.verb,
            subresource: self.subresource.map_or("", Subresource::name),
        }
    }

    pub(crate) fn is_dry_run(&self) -> bool {
        self.options.effect == Effect::DryRun
    }

    pub(crate) fn presenter(&self) -> Presenter {
        Presenter { resource: self.resource.clone(), version: self.version.clone(), accept: self.accept }
    }

    pub(crate) fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.resource.id, &self.target.name)
    }

    /// Deals with fields that are unknown or given twice, as the client wants it: a refusal in Strict, else warnings.
    pub(crate) fn judge_fields(
        &mut self,
        unknown: &[String],
        duplicates: &[FieldPath],
    ) -> Result<(), String> {
        let unknown = unknown.iter().map(|field| format!("unknown field \"{field}\""));
        let texts: Vec<String> =
            unknown.chain(duplicates.iter().map(|field| format!("duplicate field \"{field}\""))).collect();
        match self.options.field_validation {
            FieldValidation::Strict if !texts.is_empty() => {
                return Err(format!("strict decoding error: {}", texts.join(", ")));
            }
            FieldValidation::Warn => self.warnings.extend(texts),
            FieldValidation::Strict | FieldValidation::Ignore => {}
        }
        Ok(())
    }

    /// Reads the body of a create or update as an object of the resource, in the version of storage.
    pub(crate) fn read(&mut self, body: Json) -> Result<serde_json::Value, ApiError> {
        let read = self.version.rules.read(body.value)?;
        let unfit = |why: String, call: &Self| {
            ApiError::from(ReadError::Unfit {
                stated: call.resource.names.kind.clone(),
                version: call.version.name.clone(),
                kind: call.resource.names.kind.clone(),
                why,
            })
        };
        self.judge_fields(&read.unknown, &body.duplicates).map_err(|why| unfit(why, self))?;
        Ok(read.object)
    }
}

/// Objects of namespaces are named with their namespace, others without.
fn check_scope(resource: &Resource, target: &Target, verb: Verb) -> Result<(), ApiError> {
    let across = target.name.is_empty() && matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection);
    match resource.scope {
        Scope::Namespaced if target.namespace.is_empty() && target.name.is_empty() && !across => {
            Err(ApiError::MethodNotAllowed)
        }
        Scope::Namespaced if target.namespace.is_empty() && verb == Verb::DeleteCollection => {
            Err(ApiError::MethodNotAllowed)
        }
        Scope::Namespaced if target.namespace.is_empty() && !across => Err(ApiError::UnknownResource),
        Scope::Cluster if !target.namespace.is_empty() => Err(ApiError::UnknownResource),
        Scope::Namespaced | Scope::Cluster => Ok(()),
    }
}

fn allows(subresource: Option<Subresource>, verb: Verb, target: &Target) -> bool {
    match subresource {
        Some(Subresource::Status | Subresource::Scale) => {
            matches!(verb, Verb::Get | Verb::Update | Verb::Patch)
        }
        Some(Subresource::Binding | Subresource::Eviction) => verb == Verb::Create,
        Some(Subresource::Finalize) => verb == Verb::Update,
        None => match verb {
            Verb::Update | Verb::Patch => !target.name.is_empty(),
            Verb::Create => target.name.is_empty(),
            Verb::Get | Verb::List | Verb::Watch | Verb::Delete | Verb::DeleteCollection => true,
        },
    }
}
