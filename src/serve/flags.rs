//! The flags of `rolloutd serve`: every flag of Argo Rollouts' controller, so that a Deployment switches by its image (contract
//! A10), and a few of our own.
//!
//! Flags that have no effect yet are taken and named in a warning, so that nobody believes in them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};

use crate::crd::{go_duration, keys};
use crate::plan::StatusLabels;
use crate::telemetry::logs;
use crate::validate;

/// Flags of `rolloutd serve`.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Where the gRPC API listens
    #[arg(long, default_value = "127.0.0.1:50051", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Let the gRPC API listen on an address that is not loopback, without authentication
    #[arg(long)]
    pub insecure_listen: bool,
    /// Serve one namespace only: that of --namespace, or of the kubeconfig
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub namespaced: bool,
    /// Serve rollouts that carry this instance id; without it, those that carry none
    #[arg(long, default_value = "", value_name = "ID")]
    pub instance_id: String,
    /// The least severe level that is logged: error, warn, info, debug or trace
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub loglevel: String,
    /// How logs are written
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    pub logformat: logs::Format,
    /// The port of /metrics
    #[arg(long = "metricsPort", alias = "metricsport", default_value_t = 8090, value_name = "PORT")]
    pub metrics_port: u16,
    /// The port of /healthz and /readyz
    #[arg(long = "healthzPort", default_value_t = 8080, value_name = "PORT")]
    pub healthz_port: u16,
    /// Requests to the API server a second; not positive: as many as there are
    #[arg(long, default_value_t = 40.0, value_name = "RATE", allow_negative_numbers = true)]
    pub qps: f64,
    /// Requests to the API server at once
    #[arg(long, default_value_t = 80, value_name = "COUNT")]
    pub burst: u32,
    /// Lead by Lease: of several processes one writes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "true", action = ArgAction::Set)]
    pub leader_elect: bool,
    /// How long a Lease that is not renewed keeps others out
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub leader_election_lease_duration: Duration,
    /// How long the leader tries to renew its Lease before it gives up
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub leader_election_renew_deadline: Duration,
    /// How often the Lease is tried for
    #[arg(long, default_value = "2s", value_parser = duration, value_name = "DURATION")]
    pub leader_election_retry_period: Duration,
    /// Reconcile these kinds only
    #[arg(long, value_delimiter = ',', value_name = "KINDS")]
    pub controllers: Vec<Controllers>,
    /// How many rollouts are written to at the same time
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    pub rollout_threads: usize,
    /// How many rollouts' Services are written to at the same time
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    pub service_threads: usize,
    /// How many rollouts' pods are given labels and annotations at the same time
    #[arg(long, default_value_t = 10, value_name = "COUNT")]
    pub ephemeral_metadata_threads: usize,
    /// Labels that tell what pods are to their rollout.
    #[command(flatten)]
    pub status_labels: StatusLabelFlags,
    /// How the cluster is reached.
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Flags without effect.
    #[command(flatten)]
    pub accepted: AcceptedFlags,
}

/// The status label of pods.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Status labels")]
pub struct StatusLabelFlags {
    /// Give pods a label that tells whether their version is stable, where the Rollout's annotation rolloutd.dev/status-labels does not say
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub enable_canary_status_labels: bool,
    /// The label's key
    #[arg(long, default_value = "argo-rollouts-status", value_name = "KEY", value_parser = label_key)]
    pub status_label_key: String,
    /// Its value for a canary strategy's versions that are not stable
    #[arg(long, default_value = "canary", value_name = "VALUE", value_parser = label_value)]
    pub status_label_canary: String,
    /// Its value for the stable version
    #[arg(long, default_value = "stable", value_name = "VALUE", value_parser = label_value)]
    pub status_label_stable: String,
    /// Its value for a blue-green strategy's versions that are not active
    #[arg(long, default_value = "preview", value_name = "VALUE", value_parser = label_value)]
    pub status_label_preview: String,
    /// Its value for the active version
    #[arg(long, default_value = "active", value_name = "VALUE", value_parser = label_value)]
    pub status_label_active: String,
}

impl StatusLabelFlags {
    /// What plans are told.
    #[must_use]
    pub fn settings(self) -> StatusLabels {
        StatusLabels {
            enabled: self.enable_canary_status_labels,
            key: self.status_label_key,
            canary: self.status_label_canary,
            stable: self.status_label_stable,
            preview: self.status_label_preview,
            active: self.status_label_active,
        }
    }
}

/// Kinds that can be reconciled alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Controllers {
    /// Analysis runs.
    Analysis,
}

/// client-go's flags for reaching a cluster; they override the kubeconfig.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterFlags {
    /// The kubeconfig; default: $KUBECONFIG, ~/.kube/config, or the service account of a pod
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context
    #[arg(long)]
    pub context: Option<String>,
    /// The kubeconfig's cluster
    #[arg(long)]
    pub cluster: Option<String>,
    /// The kubeconfig's user
    #[arg(long)]
    pub user: Option<String>,
    /// The namespace
    #[arg(long, short)]
    pub namespace: Option<String>,
    /// The API server's address
    #[arg(long, value_name = "URL")]
    pub server: Option<http::Uri>,
    /// A bearer token
    #[arg(long)]
    pub token: Option<String>,
    /// A user name for basic authentication
    #[arg(long)]
    pub username: Option<String>,
    /// A password for basic authentication
    #[arg(long)]
    pub password: Option<String>,
    /// The certificate authority of the API server
    #[arg(long, value_name = "FILE")]
    pub certificate_authority: Option<PathBuf>,
    /// A client certificate
    #[arg(long, value_name = "FILE")]
    pub client_certificate: Option<PathBuf>,
    /// The key of the client certificate
    #[arg(long, value_name = "FILE")]
    pub client_key: Option<PathBuf>,
    /// Do not check the API server's certificate
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub insecure_skip_tls_verify: bool,
    /// The name that the API server's certificate must have
    #[arg(long, value_name = "NAME")]
    pub tls_server_name: Option<String>,
    /// Act as this user
    #[arg(long = "as", value_name = "USER")]
    pub as_user: Option<String>,
    /// Act as a member of this group
    #[arg(long, value_name = "GROUP")]
    pub as_group: Vec<String>,
    /// A proxy to reach the API server by
    #[arg(long, value_name = "URL")]
    pub proxy_url: Option<http::Uri>,
    /// Do not ask for compressed answers
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "false", action = ArgAction::Set)]
    pub disable_compression: bool,
}

/// Flags of Argo Rollouts that have no effect here (yet).
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Accepted for compatibility, without effect")]
pub struct AcceptedFlags {
    #[arg(long, hide_short_help = true)]
    rollout_resync: Option<i64>,
    #[arg(long, hide_short_help = true)]
    kloglevel: Option<i64>,
    #[arg(long, hide_short_help = true)]
    experiment_threads: Option<i64>,
    #[arg(long, hide_short_help = true)]
    analysis_threads: Option<i64>,
    #[arg(long, hide_short_help = true)]
    ingress_threads: Option<i64>,
    #[arg(long, hide_short_help = true)]
    ephemeral_metadata_update_pod_retries: Option<i64>,
    #[arg(long, hide_short_help = true)]
    aws_target_group_binding_api_version: Option<String>,
    #[arg(long, hide_short_help = true)]
    alb_tag_key_resource_id: Option<String>,
    #[arg(long, hide_short_help = true)]
    istio_api_version: Option<String>,
    #[arg(long, hide_short_help = true)]
    ambassador_api_version: Option<String>,
    #[arg(long, hide_short_help = true)]
    traffic_split_api_version: Option<String>,
    #[arg(long, hide_short_help = true)]
    traefik_api_group: Option<String>,
    #[arg(long, hide_short_help = true)]
    traefik_api_version: Option<String>,
    #[arg(long, hide_short_help = true)]
    ingress_api_version: Option<String>,
    #[arg(long, hide_short_help = true)]
    appmesh_crd_version: Option<String>,
    #[arg(long, hide_short_help = true)]
    alb_ingress_classes: Option<String>,
    #[arg(long, hide_short_help = true)]
    nginx_ingress_classes: Option<String>,
    #[arg(long, hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    alb_verify_weight: Option<bool>,
    #[arg(long, hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    aws_verify_target_group: Option<bool>,
    #[arg(long, hide_short_help = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    self_service_notification_enabled: Option<bool>,
    #[arg(long, hide_short_help = true)]
    enable_pprof_address: Option<String>,
    #[arg(long, hide_short_help = true)]
    request_timeout: Option<String>,
    #[arg(long, hide_short_help = true)]
    as_uid: Option<String>,
    #[arg(long, hide_short_help = true)]
    as_user_extra: Option<String>,
}

impl AcceptedFlags {
    /// The flags that were given and have no effect.
    #[must_use]
    pub fn given(&self) -> Vec<&'static str> {
        macro_rules! given {
            ($($flag:ident $name:literal)+) => {
                [$(($name, self.$flag.is_some())),+]
            };
        }
        let flags = given! {
            rollout_resync "--rollout-resync"
            kloglevel "--kloglevel"
            experiment_threads "--experiment-threads"
            analysis_threads "--analysis-threads"
            ingress_threads "--ingress-threads"
            ephemeral_metadata_update_pod_retries "--ephemeral-metadata-update-pod-retries"
            aws_target_group_binding_api_version "--aws-target-group-binding-api-version"
            alb_tag_key_resource_id "--alb-tag-key-resource-id"
            istio_api_version "--istio-api-version"
            ambassador_api_version "--ambassador-api-version"
            traffic_split_api_version "--traffic-split-api-version"
            traefik_api_group "--traefik-api-group"
            traefik_api_version "--traefik-api-version"
            ingress_api_version "--ingress-api-version"
            appmesh_crd_version "--appmesh-crd-version"
            alb_ingress_classes "--alb-ingress-classes"
            nginx_ingress_classes "--nginx-ingress-classes"
            alb_verify_weight "--alb-verify-weight"
            aws_verify_target_group "--aws-verify-target-group"
            self_service_notification_enabled "--self-service-notification-enabled"
            enable_pprof_address "--enable-pprof-address"
            request_timeout "--request-timeout"
            as_uid "--as-uid"
            as_user_extra "--as-user-extra"
        };
        flags.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}

/// A Go duration that is positive.
fn duration(text: &str) -> Result<Duration, String> {
    let parsed = go_duration::parse(text).map_err(|error| error.to_string())?;
    Duration::try_from(parsed)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("{text:?} is not a positive duration such as 15s"))
}

/// A label's key that is free for us to set.
fn label_key(text: &str) -> Result<String, String> {
    match validate::key_rule(text) {
        Some(rule) => Err(rule.to_owned()),
        None if [keys::POD_TEMPLATE_HASH, keys::CONTROLLER_INSTANCE_ID].contains(&text) => {
            Err("is a label that pods are found by".to_owned())
        }
        None => Ok(text.to_owned()),
    }
}

/// A label's value that says something.
fn label_value(text: &str) -> Result<String, String> {
    match validate::value_rule(text) {
        Some(rule) => Err(rule.to_owned()),
        None if text.is_empty() => Err("must not be empty".to_owned()),
        None => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        flags: Flags,
    }

    #[test]
    fn every_flag_of_argo_rollouts_is_accepted() {
        let arguments = [
            "--rollout-resync=900",
            "--namespaced",
            "--loglevel=debug",
            "--logformat=json",
            "--kloglevel=0",
            "--metricsPort=8090",
            "--healthzPort=8080",
            "--instance-id=blue",
            "--qps=40",
            "--burst=80",
            "--rollout-threads=10",
            "--experiment-threads=10",
            "--analysis-threads=30",
            "--service-threads=10",
            "--ingress-threads=10",
            "--ephemeral-metadata-threads=10",
            "--ephemeral-metadata-update-pod-retries=3",
            "--aws-target-group-binding-api-version=elbv2.k8s.aws/v1beta1",
            "--alb-tag-key-resource-id=ingress.k8s.aws/resource",
            "--istio-api-version=v1alpha3",
            "--ambassador-api-version=getambassador.io/v2",
            "--traffic-split-api-version=v1alpha1",
            "--traefik-api-group=traefik.io",
            "--traefik-api-version=traefik.io/v1alpha1",
            "--ingress-api-version=",
            "--appmesh-crd-version=v1beta2",
            "--alb-ingress-classes=alb",
            "--nginx-ingress-classes=nginx",
            "--alb-verify-weight",
            "--aws-verify-target-group",
            "--leader-elect=false",
            "--leader-election-lease-duration=15s",
            "--leader-election-renew-deadline=10s",
            "--leader-election-retry-period=2s",
            "--self-service-notification-enabled",
            "--controllers=analysis",
            "--enable-pprof-address=:6060",
            "--kubeconfig=/tmp/config",
            "--context=a",
            "--cluster=b",
            "--user=c",
            "--namespace=d",
            "--server=https://e",
            "--token=f",
            "--username=g",
            "--password=h",
            "--certificate-authority=i",
            "--client-certificate=j",
            "--client-key=k",
            "--insecure-skip-tls-verify",
            "--tls-server-name=l",
            "--as=m",
            "--as-group=n",
            "--as-uid=o",
            "--as-user-extra=p",
            "--request-timeout=0",
            "--proxy-url=http://q",
            "--disable-compression",
        ];
        let flags =
            Command::try_parse_from(["serve"].iter().chain(&arguments)).map(|command| command.flags).unwrap();
        assert!(flags.namespaced && !flags.leader_elect && flags.cluster.insecure_skip_tls_verify);
        assert_eq!(flags.accepted.given().len(), 24);
        assert_eq!(flags.controllers, [Controllers::Analysis]);
    }

    #[test]
    fn the_defaults_are_argo_rollouts() {
        let Command { flags } = Command::try_parse_from(["serve"]).unwrap();
        assert_eq!((flags.metrics_port, flags.healthz_port, flags.burst), (8090, 8080, 80));
        assert_eq!(flags.leader_election_lease_duration, Duration::from_secs(15));
        assert!(flags.leader_elect && !flags.namespaced && flags.accepted.given().is_empty());
        assert_eq!(flags.listen.to_string(), "127.0.0.1:50051");
    }

    #[test]
    fn the_deprecated_spelling_of_the_metrics_port_is_taken() {
        let Command { flags } = Command::try_parse_from(["serve", "--metricsport", "9000"]).unwrap();
        assert_eq!(flags.metrics_port, 9000);
    }

    #[test]
    fn a_status_label_is_what_the_flags_say_and_must_be_a_label() {
        let Command { flags } = Command::try_parse_from(["serve"]).unwrap();
        assert_eq!(flags.status_labels.settings(), StatusLabels::default());
        let arguments = [
            "serve",
            "--enable-canary-status-labels",
            "--status-label-key=shop.io/role",
            "--status-label-canary=new",
        ];
        let Command { flags } = Command::try_parse_from(arguments).unwrap();
        let (key, canary) = ("shop.io/role".to_owned(), "new".to_owned());
        assert_eq!(
            flags.status_labels.settings(),
            StatusLabels { enabled: true, key, canary, ..StatusLabels::default() }
        );
        for argument in [
            "--status-label-key=a b",
            "--status-label-key=",
            "--status-label-key=rollouts-pod-template-hash",
            "--status-label-stable=",
            "--status-label-active=-",
        ] {
            assert!(Command::try_parse_from(["serve", argument]).is_err(), "{argument}");
        }
    }

    #[test]
    fn a_duration_that_is_none_is_refused() {
        for text in ["0s", "-1s", "soon", "15"] {
            let arguments = ["serve", "--leader-election-lease-duration", text];
            assert!(Command::try_parse_from(arguments).is_err(), "{text}");
        }
    }
}
