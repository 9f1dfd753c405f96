//! Processes of `rolloutd`, and commands run beside them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const ROLLOUTD: &str = env!("CARGO_BIN_EXE_rolloutd");
pub const ROLLOUTCTL: &str = env!("CARGO_BIN_EXE_rolloutctl");

/// How long anything may take: generous, since machines are shared.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until a condition holds, in real time: these are other processes.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < DEADLINE, "never came about: {what}");
        #[expect(clippy::disallowed_methods, reason = "other processes do not run on our clock")]
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A process that ends with this value.
pub struct Running {
    child: Child,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        Self { child: command.stdin(Stdio::null()).spawn().expect("it starts") }
    }

    pub fn output(&mut self) -> BufReader<impl Read + use<>> {
        BufReader::new(self.child.stdout.take().expect("its output is piped"))
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        // The shell's own: not every machine has a program of that name.
        let kill = format!("kill -s {name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("a shell runs");
        assert!(sent.success());
    }

    /// Ends it as `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be waited for").is_some()
    }

    /// Waits until it has ended, and gives its exit code.
    pub fn ended(&mut self) -> Option<i32> {
        until("the end of a process", || self.child.try_wait().expect("it can be waited for")).code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `rolloutd dev` that runs.
pub struct Dev {
    pub running: Running,
    pub grpc: String,
    pub http: String,
    pub kubernetes: String,
    pub kubeconfig: PathBuf,
}

impl Dev {
    /// On free ports, with its clock ten times as fast.
    pub fn start() -> Self {
        Self::with(&["--speed", "10"])
    }

    /// On free ports, with more flags.
    pub fn with(flags: &[&str]) -> Self {
        let mut command = Command::new(ROLLOUTD);
        command.args(["dev", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]).args(flags);
        let mut running = Running::start(command.stdout(Stdio::piped()));
        let mut lines = running.output().lines();
        let mut announced = |what: &str| {
            let line = lines.next().expect("it says where it is").expect("its output is text");
            let value = line.strip_prefix(what).unwrap_or_else(|| panic!("{what} is not in {line:?}"));
            value.split_whitespace().next().expect("a value").to_owned()
        };
        Self {
            grpc: announced("gRPC"),
            http: announced("HTTP"),
            kubernetes: announced("Kubernetes"),
            kubeconfig: announced("kubeconfig").into(),
            running,
        }
    }

    /// rolloutctl, pointed at it.
    pub fn rolloutctl(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(ROLLOUTCTL);
        succeeds(command.args(arguments).env("ROLLOUTD_SERVER", &self.grpc))
    }

    /// kubectl, pointed at it.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        succeeds(&mut kubectl(&self.kubeconfig, arguments))
    }
}

/// kubectl with a kubeconfig, and with nothing of the person who runs the tests.
pub fn kubectl(kubeconfig: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("kubectl");
    command.args(arguments).env("KUBECONFIG", kubeconfig).env("HOME", kubeconfig.parent().expect("a folder"));
    command
}

/// The status and the body of a plain GET; `None` while nobody answers.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split_whitespace().nth(1)?.parse().ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    Some((status, body.to_owned()))
}

/// Runs a command that must succeed. Gives what it printed.
pub fn succeeds(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = printed(&output);
    assert!(output.status.success(), "{command:?}: {}\n{out}{err}", output.status);
    out
}

/// Runs a command that must fail. Gives its exit code and what it printed on standard error.
pub fn fails(command: &mut Command) -> (Option<i32>, String) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, err) = printed(&output);
    assert!(!output.status.success(), "{command:?} succeeded:\n{out}{err}");
    (output.status.code(), err)
}

fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// PATH with the folder of our own programs in front.
pub fn path_with_programs() -> std::ffi::OsString {
    let folder = Path::new(ROLLOUTD).parent().expect("programs lie in a folder");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(folder.to_owned()).chain(std::env::split_paths(OsStr::new(&path)));
    std::env::join_paths(all).expect("folders make a PATH")
}
