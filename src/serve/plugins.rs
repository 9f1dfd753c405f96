//! Which step plugins there are: key `stepPlugins` of ConfigMap `argo-rollouts-config` beside the controller (contract A13), read once.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use crate::clock;
use crate::plan::KnownPlugins;
use crate::plugin::{AskPlugins, Configuration, StepPlugins};
use crate::store::Store;

/// The ConfigMap.
const NAME: &str = "argo-rollouts-config";

/// The key of what is read here.
const KEY: &str = "stepPlugins";

/// How long it is waited before it is tried again to read what could not be.
const REST: Duration = Duration::from_secs(5);

/// Where step plugins come from.
#[derive(Clone, Debug)]
pub enum PluginSource {
    /// The ConfigMap in this namespace.
    ConfigMapIn(String),
    /// Given as they are.
    These(Arc<dyn AskPlugins>),
}

/// Learns which step plugins there are.
pub(super) async fn learn(
    client: Client,
    source: PluginSource,
    store: Arc<Store>,
    plugins: Arc<OnceLock<Arc<dyn AskPlugins>>>,
) {
    let configured: Arc<dyn AskPlugins> = match source {
        PluginSource::These(plugins) => plugins,
        PluginSource::ConfigMapIn(namespace) => Arc::new(read(client, &namespace, &store).await),
    };
    let known = configured.known();
    let _ = plugins.set(configured);
    store.plugins_are(known);
}

/// Reads the configuration. Until that succeeds, rollouts that come to a plugin's step say why they wait.
async fn read(client: Client, namespace: &str, store: &Store) -> StepPlugins {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let found = loop {
        match api.get_opt(NAME).await {
            Ok(found) => break found,
            Err(error) => {
                let fault = format!("ConfigMap {namespace}/{NAME} cannot be read: {error}");
                let known = KnownPlugins { fault: Some(fault), ..KnownPlugins::default() };
                if store.plugins_are(Arc::new(known)) {
                    tracing::warn!(%error, namespace, name = NAME, "step plugins are not known yet; it is tried again");
                }
                clock::real_sleep(REST).await;
            }
        }
    };
    let text = found.and_then(|found| found.data?.remove(KEY));
    let configured = StepPlugins::new(Configuration::read(text.as_deref()));
    let known = configured.known();
    if let Some(fault) = &known.fault {
        tracing::error!(
            namespace,
            name = NAME,
            key = KEY,
            fault,
            "the configuration of step plugins is wrong"
        );
    }
    if !known.by_name.is_empty() {
        tracing::info!(plugins = ?known.by_name, "step plugins");
    }
    configured
}
