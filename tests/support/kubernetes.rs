//! A real etcd and kube-apiserver for tests, where `KUBEBUILDER_ASSETS` names a folder that holds them.
//!
//! Depends on nothing of the package; test binaries include it with `#[path]`. No controller manager, scheduler
//! or kubelet runs: `simcluster` stands in for them. Tests share one instance ([`shared`]) and keep apart by
//! namespaces of their own.

#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::panic, reason = "a test binary without its API server has nothing to return an error to")]

use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::process::{Child, Command};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// Starting takes five to ten seconds on two idle cores; builds may run beside it.
const START_UP_DEADLINE: Duration = Duration::from_secs(120);
const PROBE_INTERVAL: Duration = Duration::from_millis(100);
/// One probe of readiness; a server that is just starting may accept and not answer.
const PROBE_DEADLINE: Duration = Duration::from_secs(5);
/// A free port may be taken by another process between our look and the server's bind.
const START_ATTEMPTS: u32 = 3;
/// How much of a server's log a failed start shows.
const LOG_TAIL_LINES: usize = 40;

/// A user of the test API server: token, name and groups of one line of `--token-auth-file`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct User {
    /// The bearer token; also the user's name in kubeconfig.
    pub(crate) token: &'static str,
    /// The user's name as RBAC sees it.
    pub(crate) name: &'static str,
    /// The groups, separated by commas.
    pub(crate) groups: &'static str,
}

/// May do everything.
pub(crate) const ADMIN: User = User { token: "admin-token", name: "admin", groups: "system:masters" };

/// Everybody the server knows; RBAC decides what those outside of `system:masters` may do.
const USERS: [User; 1] = [ADMIN];

/// Runs both servers until its standard input closes, which happens however this process ends; then stops
/// them and removes the data. A static is never dropped, so dropping alone would leave the servers behind.
const SUPERVISOR: &str = r#"
dir=$1
run() {
  sh -c "echo \$\$ >'$dir/$1.pid'; exec $2" >"$dir/$1.log" 2>&1 </dev/null
  : >"$dir/exited"
}
run etcd "$2" &
run kube-apiserver "$3" &
read -r _
kill -9 $(cat "$dir"/*.pid) 2>/dev/null
wait
rm -rf "$dir"
"#;

/// Why the servers did not start; carries the end of their logs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A file or process of ours failed.
    #[error("setting up the servers: {0}")]
    Io(#[from] std::io::Error),
    /// The kubeconfig that we wrote was not understood.
    #[error("reading our own kubeconfig: {0}")]
    Kubeconfig(#[from] kube::config::KubeconfigError),
    /// The client could not be built.
    #[error("building a client: {0}")]
    Client(#[from] kube::Error),
    /// The server did not answer in time.
    #[error("not ready after {waited:?}, last answer: {answer}\n{logs}")]
    NotReady {
        /// How long we waited.
        waited: Duration,
        /// What the last probe said.
        answer: String,
        /// The ends of both logs.
        logs: String,
    },
}

/// A running etcd and kube-apiserver; dropping it stops both and removes their data.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    kubeconfig: PathBuf,
    /// Its folder, which the supervisor removes.
    data: PathBuf,
    _supervisor: Child,
}

impl Kubernetes {
    /// Starts both servers out of the folder `assets` and waits until the API server is ready.
    pub(crate) async fn start(assets: &Path) -> Result<Self, StartError> {
        let mut attempt = 1;
        loop {
            match Self::try_start(assets).await {
                Err(StartError::NotReady { logs, .. })
                    if attempt < START_ATTEMPTS && logs.contains("address already in use") =>
                {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_start(assets: &Path) -> Result<Self, StartError> {
        let data = tempfile::Builder::new().prefix("kubernetes-").tempdir()?;
        let ports = free_ports()?;
        let tokens: String = USERS
            .iter()
            .map(|user| format!("{},{},{},\"{}\"\n", user.token, user.name, user.name, user.groups))
            .collect();
        std::fs::write(data.path().join("tokens.csv"), tokens)?;
        let supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, "sh"])
            .arg(data.path())
            .arg(shell_words(&assets.join("etcd"), &etcd_flags(data.path(), ports)))
            .arg(shell_words(&assets.join("kube-apiserver"), &apiserver_flags(data.path(), ports)))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()?;
        let server = format!("https://{}:{}", Ipv4Addr::LOCALHOST, ports.apiserver);
        let kubeconfig = data.path().join("kubeconfig");
        std::fs::write(&kubeconfig, kubeconfig_for(&server))?;
        let kubernetes = Self { kubeconfig, data: data.keep(), _supervisor: supervisor };
        kubernetes.wait_until_ready().await?;
        Ok(kubernetes)
    }

    /// A client with every right, whose requests carry `user_agent`.
    pub(crate) async fn client(&self, user_agent: &str) -> Result<Client, StartError> {
        self.client_as(ADMIN, user_agent).await
    }

    /// How `user` reaches the server.
    pub(crate) async fn config(&self, user: User) -> Result<Config, StartError> {
        let options =
            KubeConfigOptions { context: Some(user.token.to_owned()), ..KubeConfigOptions::default() };
        Ok(Config::from_custom_kubeconfig(Kubeconfig::read_from(&self.kubeconfig)?, &options).await?)
    }

    /// A client that acts as `user`.
    pub(crate) async fn client_as(&self, user: User, user_agent: &str) -> Result<Client, StartError> {
        let mut config = self.config(user).await?;
        let agent =
            http::HeaderValue::from_str(user_agent).map_err(|error| kube::Error::HttpError(error.into()))?;
        config.headers.push((http::header::USER_AGENT, agent));
        // What the server refuses for the moment is to be seen.
        config.default_retry = false;
        Ok(Client::try_from(config)?)
    }

    /// A kubeconfig for `kubectl`, with one context per [`User`], named by its token; the current one is [`ADMIN`].
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    async fn wait_until_ready(&self) -> Result<(), StartError> {
        let began = Instant::now();
        loop {
            let answer = match tokio::time::timeout(PROBE_DEADLINE, self.probe()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "no answer".to_owned(),
            };
            let waited = began.elapsed();
            if waited > START_UP_DEADLINE || self.has_exited() {
                return Err(StartError::NotReady { waited, answer, logs: self.logs() });
            }
            rolloutd::clock::real_sleep(PROBE_INTERVAL).await;
        }
    }

    async fn probe(&self) -> Result<(), StartError> {
        let client = self.client("readiness-probe").await?;
        let request = http::Request::get("/readyz").body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request_text(request).await?;
        Ok(())
    }

    /// Whether one of the servers gave up; waiting longer would be in vain.
    fn has_exited(&self) -> bool {
        self.data.join("exited").exists()
    }

    fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["etcd.log", "kube-apiserver.log"] {
            let log = std::fs::read_to_string(self.data.join(name)).unwrap_or_else(|error| error.to_string());
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
            let _ = writeln!(text, "--- {name}\n{tail}");
        }
        text
    }
}

#[derive(Clone, Copy)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    apiserver: u16,
}

fn free_ports() -> std::io::Result<Ports> {
    // All are held until all are known, so that they differ.
    let listeners: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<_, _>>()?;
    let port = |index: usize| listeners[index].local_addr().map(|address| address.port());
    Ok(Ports { etcd: port(0)?, etcd_peer: port(1)?, apiserver: port(2)? })
}

fn etcd_flags(data: &Path, ports: Ports) -> Vec<String> {
    let (client, peer) =
        (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.etcd_peer));
    vec![
        format!("--data-dir={}", data.join("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // The data lives as long as the tests: durability would only cost time.
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn apiserver_flags(data: &Path, ports: Ports) -> Vec<String> {
    let certificates = data.join("certificates");
    // The server makes this key for its own certificate before it reads the service account's key.
    let key = certificates.join("apiserver.key");
    vec![
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--bind-address=127.0.0.1".to_owned(),
        "--advertise-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", ports.apiserver),
        format!("--cert-dir={}", certificates.display()),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-key-file={}", key.display()),
        format!("--service-account-signing-key-file={}", key.display()),
        format!("--token-auth-file={}", data.join("tokens.csv").display()),
        "--authorization-mode=RBAC".to_owned(),
        // Nobody makes service accounts here, so that admission would refuse every pod.
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/16".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        "--v=0".to_owned(),
    ]
}

/// One command line for the supervisor's shell.
fn shell_words(program: &Path, flags: &[String]) -> OsString {
    let quote = |word: &str| format!("'{}'", word.replace('\'', r"'\''"));
    let words: Vec<String> = std::iter::once(quote(&program.to_string_lossy()))
        .chain(flags.iter().map(|flag| quote(flag)))
        .collect();
    words.join(" ").into()
}

/// Certificates are made by the server when it starts; on the loopback interface nobody needs to check them.
fn kubeconfig_for(server: &str) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: {}\nclusters:\n- name: test\n  cluster:\n    server: {server}\n    insecure-skip-tls-verify: true\n",
        ADMIN.token
    );
    text.push_str("users:\n");
    for user in USERS {
        let _ = writeln!(text, "- name: {0}\n  user:\n    token: {0}", user.token);
    }
    text.push_str("contexts:\n");
    for user in USERS {
        let _ = writeln!(text, "- name: {0}\n  context:\n    cluster: test\n    user: {0}", user.token);
    }
    text
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started")
});

/// The runtime that the shared instance and everything on it lives on. A runtime per test would take the
/// connections of its clients away when the test ends.
pub(crate) fn runtime() -> &'static Runtime {
    &RUNTIME
}

/// The instance that all tests of this binary share, started by the first that asks, or `None` where
/// `KUBEBUILDER_ASSETS` is not set. Panics when it is set and the servers do not start.
pub(crate) async fn shared() -> Option<Arc<Kubernetes>> {
    static SHARED: OnceCell<Option<Arc<Kubernetes>>> = OnceCell::const_new();
    let start = || async { own().await.map(Arc::new) };
    SHARED.get_or_init(start).await.clone()
}

/// An instance of its own, for a test that changes what all would share.
pub(crate) async fn own() -> Option<Kubernetes> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS")?;
    match Kubernetes::start(Path::new(&assets)).await {
        Ok(kubernetes) => Some(kubernetes),
        Err(error) => panic!("{error}"),
    }
}
