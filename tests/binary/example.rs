//! examples/environment: the application reads what rolloutd writes, to the letter, and reads it again when it changes.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rolloutd::plan::environment::written;

use crate::process::{Running, get, until};
use crate::tools::has_python;

fn values(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Replaces a file as a whole, as the kubelet does.
fn replace(file: &Path, text: &str) {
    let fresh = PathBuf::from(format!("{}.new", file.display()));
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, file).unwrap();
}

#[test]
fn the_application_follows_its_environment() {
    if !has_python() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("environment");
    let first = values(&[("LOG_LEVEL", "info"), ("MOTTO", "a \"b\" $HOME `id` \\ 'c'\nline two\n")]);
    replace(&file, &written(&first));
    let app = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/environment/app.py");
    let mut command = Command::new("python3");
    command.arg("-B").arg(app).arg(&file).arg("0").stdout(Stdio::piped());
    let mut running = Running::start(&mut command);
    let mut lines = running.output().lines();
    let port = lines
        .find_map(|line| line.unwrap().strip_prefix("listening on ")?.parse().ok())
        .expect("it says where it listens");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));

    let shown = || {
        let (_, body) = get(address, "/")?;
        serde_json::from_str::<BTreeMap<String, String>>(&body).ok()
    };
    assert_eq!(until("an answer", shown), first);
    assert_eq!(get(address, "/healthz").unwrap().0, 200);

    let bad = values(&[("LOG_LEVEL", "loud")]);
    replace(&file, &written(&bad));
    until("the change", || shown().filter(|now| *now == bad));
    let (status, why) = get(address, "/healthz").unwrap();
    assert_eq!(status, 503, "a change that it cannot work with makes it unready");
    assert!(why.contains("LOG_LEVEL is 'loud'"), "{why}");

    replace(&file, &written(&first));
    until("the way back", || shown().filter(|now| *now == first));
    assert_eq!(get(address, "/healthz").unwrap().0, 200);
}
