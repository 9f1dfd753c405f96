//! Workloads that rollouts take their pod templates from: looked for afresh, and Deployments scaled.

use kube::{Api, ResourceExt};
use serde_json::Value;

use super::super::expect::Expectation;
use super::super::object::{Key, ObjectId};
use super::super::workload::{Deployment, Kind, PodTemplate, ReplicaSet, WorkloadRecord};
use super::{WriteError, Writer, conditional};
use crate::crd::{WorkloadKind, WorkloadName};
use crate::plan::Version;

impl Writer {
    /// Changes a Deployment that a rollout takes over from by a JSON merge patch.
    ///
    /// # Errors
    ///
    /// [`WriteError::Stale`] when the version is not the current one.
    pub async fn patch_deployment(
        &self,
        rollout: &Key,
        name: &str,
        version: &Version,
        patch: &Value,
    ) -> Result<(), WriteError> {
        let api = self.workloads::<Deployment>(rollout);
        let (params, patch) = conditional(patch, version);
        let request = api.patch(name, &params, &patch);
        let object = ObjectId::Workload(WorkloadKind::Deployment, Key::new(&*rollout.namespace, name));
        let deployment = self.answer_for(object.clone(), rollout, version, request).await?;
        let written = Expectation::AtLeast(deployment.resource_version().unwrap_or_default());
        self.store.expect(&object, rollout, &written);
        Ok(())
    }

    /// Looks afresh whether a workload exists, and takes it in if it does.
    ///
    /// # Errors
    ///
    /// [`WriteError::Refused`] when the server does not answer.
    pub async fn look_for_workload(&self, rollout: &Key, named: &WorkloadName) -> Result<bool, WriteError> {
        match named.kind {
            WorkloadKind::Deployment => self.look_for::<Deployment>(rollout, &named.name).await,
            WorkloadKind::ReplicaSet => self.look_for::<ReplicaSet>(rollout, &named.name).await,
            WorkloadKind::PodTemplate => self.look_for::<PodTemplate>(rollout, &named.name).await,
        }
    }

    async fn look_for<K: Kind>(&self, rollout: &Key, name: &str) -> Result<bool, WriteError> {
        let found = self.answer(self.workloads::<K>(rollout).get_opt(name)).await?;
        let is_there = found.is_some();
        if let Some(found) = found {
            self.store.take_in(found);
        }
        Ok(is_there)
    }

    pub(super) fn workloads<K: Kind>(&self, rollout: &Key) -> Api<WorkloadRecord<K>> {
        Api::namespaced(self.client.clone(), &rollout.namespace)
    }
}
