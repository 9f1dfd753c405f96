//! A plugin's process: how it is started, greeted, heard and ended.

use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ring::digest;
use tempfile::TempDir;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};

use super::config::Program;
use super::{cut, greeting};

/// Tells a program that it was started as a plugin: one that finds another value, or none, was started by somebody who should read its
/// manual first.
const COOKIE: (&str, &str) = ("ROLLOUTD_PLUGIN_COOKIE", "01c26931-baab-4798-8804-787513805254");

/// Names a folder that a plugin has to itself, for its socket; go-plugin's name for it.
const FOLDER: &str = "PLUGIN_UNIX_SOCKET_DIR";

/// How long a plugin may take from its start until it can be reached.
const START: Duration = Duration::from_secs(10);

/// How long what a process said last may take to arrive after its end.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How much of a line is logged at once, in bytes; the rest of a longer one is logged as further lines.
const LINE: u64 = 4096;

/// How much of its last words a message quotes.
const QUOTED: usize = 200;

/// A plugin that can be called. Its process ends with this value.
#[derive(Debug)]
pub(super) struct Process {
    /// How it is reached.
    pub channel: Channel,
    ended: CancellationToken,
    end: CancellationToken,
    _end_when_dropped: DropGuard,
}

impl Process {
    /// Starts a plugin and waits until it can be reached.
    ///
    /// # Errors
    /// Why that is not so; nothing runs then.
    pub(super) async fn start(name: &str, program: &Program) -> Result<Self, String> {
        match timeout(START, Self::reach(name, program)).await {
            Ok(reached) => reached,
            Err(_) => {
                Err(format!("{} cannot be reached {} s after its start", shown(program), START.as_secs()))
            }
        }
    }

    async fn reach(name: &str, program: &Program) -> Result<Self, String> {
        check(program).await?;
        let mut started = Started::new(name, program)?;
        let line = started.first_line().await;
        if line.is_empty() {
            return Err(format!("{} {}", shown(program), started.silence().await));
        }
        let address = greeting::read(&String::from_utf8_lossy(&line))
            .map_err(|fault| format!("{}: {fault}", shown(program)))?;
        let uri = address.uri();
        let endpoint = Endpoint::from_shared(uri.clone());
        let connected = async { endpoint?.connect().await };
        let channel = connected.await.map_err(|error| {
            let greeted = format!("{} greeted with {uri}, and nothing answers there", shown(program));
            format!("{greeted}: {}", told(&error))
        })?;
        tracing::info!(plugin = name, program = %program.path.display(), address = %uri, "plugin started");
        Ok(started.watched(channel))
    }

    /// Whether the process ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled() || self.end.is_cancelled()
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.end.cancel();
    }

    /// Is cancelled once it has ended.
    #[cfg(test)]
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }
}

/// A process that is not known to be a plugin yet; it ends with this value.
struct Started {
    name: String,
    child: Child,
    output: BufReader<ChildStdout>,
    complaints: AbortOnDropHandle<()>,
    /// What it said last.
    last: Arc<Mutex<Vec<u8>>>,
    folder: Option<TempDir>,
}

impl Started {
    fn new(name: &str, program: &Program) -> Result<Self, String> {
        // Where there is no place for it, a plugin may have another, or listen on a port.
        let folder = tempfile::Builder::new().prefix("rolloutd-plugin-").tempdir().ok();
        let mut command = Command::new(&program.path);
        command.args(&program.args).env(COOKIE.0, COOKIE.1);
        if let Some(folder) = &folder {
            command.env(FOLDER, folder.path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // What is typed at a terminal, such as Ctrl-C, is for us; we end our plugins ourselves.
        command.process_group(0);
        let cannot = |why: &str| format!("{} cannot be started: {why}", shown(program));
        let mut child = command.spawn().map_err(|error| cannot(&error.to_string()))?;
        let pipes = child.stdout.take().zip(child.stderr.take());
        let (output, complaints) = pipes.ok_or_else(|| cannot("it has no pipes"))?;
        let last = Arc::default();
        let follow = follow(name.to_owned(), BufReader::new(complaints), Arc::clone(&last));
        Ok(Self {
            name: name.to_owned(),
            child,
            output: BufReader::new(output),
            complaints: AbortOnDropHandle::new(tokio::spawn(follow)),
            last,
            folder,
        })
    }

    /// The first line of its output; empty where it ends without.
    async fn first_line(&mut self) -> Vec<u8> {
        let mut line = Vec::new();
        read_line(&mut self.output, &mut line).await;
        line
    }

    /// Why it greeted nobody.
    async fn silence(&mut self) -> String {
        let end = async {
            let status = self.child.wait().await;
            // Its standard error may be open in a process that it left behind.
            let _ = (&mut self.complaints).await;
            status
        };
        let status = timeout(LAST_WORDS, end).await;
        let how = match status {
            Ok(Ok(status)) => format!("ended ({status})"),
            Ok(Err(_)) | Err(_) => "closed its standard output".to_owned(),
        };
        match last_words(&self.last) {
            words if words.is_empty() => format!("{how} without a greeting"),
            words => format!("{how} without a greeting; its last words: {words}"),
        }
    }

    /// Watches over it from now on.
    fn watched(self, channel: Channel) -> Process {
        let (ended, end) = (CancellationToken::new(), CancellationToken::new());
        let _end_when_dropped = end.clone().drop_guard();
        tokio::spawn(watch(self, end.clone(), ended.clone()));
        Process { channel, ended, end, _end_when_dropped }
    }
}

/// Waits for the end of a process, or ends it.
async fn watch(started: Started, end: CancellationToken, ended: CancellationToken) {
    let Started { name, mut child, output, complaints, last, folder } = started;
    let output = AbortOnDropHandle::new(tokio::spawn(follow(name.clone(), output, Arc::clone(&last))));
    let status = tokio::select! {
        biased;
        status = child.wait() => Some(status),
        () = end.cancelled() => None,
    };
    if status.is_none() {
        // It fails where the process has just ended, which is as well.
        let _ = child.kill().await;
    }
    ended.cancel();
    drop(folder);
    let all_said = async { (output.await, complaints.await) };
    // A process that it left behind may hold its pipes open.
    let _ = timeout(LAST_WORDS, all_said).await;
    match status {
        Some(status) => {
            let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
            let last_words = last_words(&last);
            tracing::warn!(plugin = name, how, last_words, "plugin ended; it is started when it is needed");
        }
        None => tracing::info!(plugin = name, "plugin stopped"),
    }
}

fn last_words(last: &Mutex<Vec<u8>>) -> String {
    let last = last.lock().unwrap_or_else(PoisonError::into_inner);
    cut(&String::from_utf8_lossy(&last), QUOTED)
}

/// Checks that the executable has the content that the configuration demands.
async fn check(program: &Program) -> Result<(), String> {
    let Some(wanted) = &program.sha256 else { return Ok(()) };
    let found = sha256(&program.path).await.map_err(|error| format!("{}: {error}", shown(program)))?;
    if found == *wanted {
        return Ok(());
    }
    let remedy = "if that is the program that is meant, correct sha256";
    Err(format!(
        "{} has the sha256 {found}, and the configuration demands {wanted}: {remedy}",
        shown(program)
    ))
}

async fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = File::open(path).await?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut part = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut part).await?;
        match part.get(..length) {
            None | Some([]) => break,
            Some(read) => context.update(read),
        }
    }
    Ok(context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Logs what a process says, line by line, and keeps the last that is not empty.
async fn follow(plugin: String, mut said: BufReader<impl AsyncRead + Unpin>, last: Arc<Mutex<Vec<u8>>>) {
    let mut line = Vec::new();
    loop {
        line.clear();
        read_line(&mut said, &mut line).await;
        if line.is_empty() {
            return;
        }
        line.truncate(line.trim_ascii_end().len());
        if !line.is_empty() {
            tracing::debug!(plugin, "{}", String::from_utf8_lossy(&line));
            last.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&line);
        }
    }
}

/// Reads a line, or the beginning of one that is too long; nothing at the end. A pipe that cannot be read is at its end.
async fn read_line(said: &mut BufReader<impl AsyncRead + Unpin>, line: &mut Vec<u8>) {
    let _ = said.take(LINE).read_until(b'\n', line).await;
}

fn shown(program: &Program) -> String {
    program.path.display().to_string()
}

/// An error with its causes, of which tonic's errors say nothing themselves.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A program of the shell's.
    fn shell(script: &str) -> Program {
        Program { path: "/bin/sh".into(), sha256: None, args: vec!["-c".to_owned(), script.to_owned()] }
    }

    async fn refusal(program: &Program) -> String {
        Process::start("acme/smoke", program).await.expect_err("it is no plugin")
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_cannot_be_started() {
        let program = Program { path: "/nowhere/plugin".into(), sha256: None, args: Vec::new() };
        let refusal = refusal(&program).await;
        assert_eq!(refusal, "/nowhere/plugin cannot be started: No such file or directory (os error 2)");
    }

    #[tokio::test]
    async fn a_program_that_says_something_else_is_refused_with_its_words() {
        let refusal = refusal(&shell("echo hello; exec sleep 1000")).await;
        assert!(
            refusal.starts_with("/bin/sh: its first line is \"hello\": that is no greeting"),
            "{refusal}"
        );
    }

    #[tokio::test]
    async fn a_program_that_ends_at_once_is_refused_with_its_last_words() {
        let program = shell("echo first >&2; echo 'no module named grpc' >&2; exit 3");
        let said = "/bin/sh ended (exit status: 3) without a greeting; its last words: no module named grpc";
        assert_eq!(refusal(&program).await, said);
        assert_eq!(refusal(&shell("exit 0")).await, "/bin/sh ended (exit status: 0) without a greeting");
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_says_nothing_is_not_waited_for() {
        let said = "/bin/sh cannot be reached 10 s after its start";
        assert_eq!(refusal(&shell("exec sleep 1000")).await, said);
    }

    #[tokio::test]
    async fn a_program_that_is_not_where_it_says_is_refused() {
        let refusal = refusal(&shell("echo '1|1|unix|/nowhere/socket|grpc'; exec sleep 1000")).await;
        let said = "/bin/sh greeted with unix:///nowhere/socket, and nothing answers there: ";
        assert!(refusal.starts_with(said), "{refusal}");
    }

    #[tokio::test]
    async fn only_a_program_with_the_demanded_content_is_started() {
        let digest = sha256(Path::new("/bin/sh")).await.expect("there is a shell");
        let program = |sha256: &str| Program { sha256: Some(sha256.to_owned()), ..shell("exit 0") };
        let said = refusal(&program(&digest)).await;
        assert!(said.contains("without a greeting"), "it was started: {said}");
        let other = "0".repeat(64);
        let said = refusal(&program(&other)).await;
        assert!(said.starts_with(&format!("/bin/sh has the sha256 {digest}, and ")), "{said}");
        assert!(said.contains(&format!("demands {other}: if")), "{said}");
    }

    #[test]
    fn the_manual_and_the_example_know_the_cookie() {
        for text in
            [include_str!("../../docs/plugins.md"), include_str!("../../examples/step-plugin/plugin.py")]
        {
            assert!(text.contains(COOKIE.0) && text.contains(COOKIE.1) && text.contains(FOLDER), "{text}");
        }
    }

    #[tokio::test]
    async fn a_long_line_is_read_in_parts() {
        let mut said = BufReader::new([b'x'; 10_000].as_slice());
        let mut line = Vec::new();
        read_line(&mut said, &mut line).await;
        assert_eq!(line.len(), 4096);
    }
}
