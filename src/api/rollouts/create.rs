//! CreateRollout.

use serde_json::{Value, json};

use super::super::cluster::Mode;
use super::super::convert::{Faults, manifest, path};
use super::super::error::Error;
use super::super::kind::NAMESPACE;
use super::super::mutation::{Done, Effect, Subject, target};
use super::super::name;
use super::super::status::Reason;
use super::super::ticket::Ticket;
use super::Rollouts;
use super::change::{check, check_unheeded};
use crate::crd::{self, keys};
use crate::pb::v1;
use crate::store::Key;

/// The generation of an object that was just created.
const FIRST_GENERATION: i64 = 1;

impl Rollouts {
    /// CreateRollout.
    pub(super) async fn create(
        &self,
        request: v1::CreateRolloutRequest,
    ) -> Result<v1::CreateRolloutResponse, Error> {
        let ticket = Ticket::of(&request)?;
        let namespace = name::namespace(&request.parent, "parent")?;
        name::rollout_id(&request.rollout_id, "rollout_id")?;
        let key = Key::new(namespace, request.rollout_id);
        let rollout = request.rollout.ok_or_else(|| Error::field("rollout", "is required"))?;
        let mut object = self.new_object(&key, rollout)?;
        if let Some(ticket) = &ticket {
            object["metadata"]["annotations"][keys::REQUESTS] =
                json!(ticket.recorded(&object, FIRST_GENERATION));
        }

        let mode = Mode::of(request.validate_only);
        let done = match self.create_object(&key, &object, mode).await {
            Ok(after) => Done { before: None, after, effect: Effect::Changed, mode, revision: 0 },
            Err(error) => match (ticket, error.reason()) {
                (Some(ticket), Reason::AlreadyExists) => self.created_before(&key, &ticket, error).await?,
                _ => return Err(error),
            },
        };
        Ok(self.answer(&Done { mode, ..done }, ""))
    }

    /// The manifest of a rollout that does not exist.
    pub(super) fn new_object(&self, key: &Key, mut rollout: v1::Rollout) -> Result<Value, Error> {
        self.take_on(&mut rollout)?;
        let mut faults = Faults::default();
        let mut object = manifest(rollout, &mut faults);
        let faults = faults.beyond(&Faults::default());
        if !faults.is_empty() {
            return Err(Error::invalid(faults));
        }
        object["apiVersion"] = json!(crd::API_VERSION);
        object["kind"] = json!(crd::KIND);
        object["metadata"]["name"] = json!(key.name);
        object["metadata"]["namespace"] = json!(key.namespace);
        check(&object)?;
        check_unheeded(None, &object)?;
        Ok(object)
    }

    /// Has a rollout created.
    pub(super) async fn create_object(
        &self,
        key: &Key,
        object: &Value,
        mode: Mode,
    ) -> Result<Subject, Error> {
        let shown = |field: &str| path::in_messages(&path::parse(field));
        let created = self.context.cluster.create(target(key), object, mode).await;
        created.map(Subject::new).map_err(|error| explain(error.rename_fields(shown), key))
    }

    /// The rollout that is in the way, where this very request has made it.
    async fn created_before(&self, key: &Key, ticket: &Ticket, error: Error) -> Result<Done, Error> {
        let existing = match self.context.read(key).await {
            Ok(existing) => existing,
            // Gone again.
            Err(gone) if gone.reason() == Reason::NotFound => return Err(error),
            Err(error) => return Err(error),
        };
        match ticket.was_used(&existing.object)? {
            true => {
                let effect = Effect::Repeated;
                Ok(Done { before: None, after: existing, effect, mode: Mode::Commit, revision: 0 })
            }
            false => Err(error),
        }
    }

    /// Labels a rollout with the instance id that this server serves, without which it would not see it (contract 4.1).
    fn take_on(&self, rollout: &mut v1::Rollout) -> Result<(), Error> {
        let ours = &self.context.server.instance_id;
        let given = rollout.labels.get(keys::CONTROLLER_INSTANCE_ID);
        if given.is_none() && !ours.is_empty() {
            rollout.labels.insert(keys::CONTROLLER_INSTANCE_ID.to_owned(), ours.clone());
            return Ok(());
        }
        match given {
            Some(given) if given != ours => {
                let field = format!("rollout.labels[{}]", keys::CONTROLLER_INSTANCE_ID);
                Err(Error::field(field, format!("this server serves instance id {ours:?}, not {given:?}")))
            }
            _ => Ok(()),
        }
    }
}

/// A rollout that is created does not exist: what was not found is its namespace.
fn explain(error: Error, key: &Key) -> Error {
    if error.reason() == Reason::NotFound {
        return Error::not_found(NAMESPACE.named("", &key.namespace));
    }
    error
}
