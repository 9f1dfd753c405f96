//! Command lines that make no sense, and those that need no cluster.

use std::net::TcpListener;
use std::process::Command;

use crate::process::{ROLLOUTD, fails, succeeds};

#[test]
fn an_address_that_others_reach_is_refused_with_the_remedy() {
    for arguments in [
        &["serve", "--listen", "0.0.0.0:0"][..],
        &["dev", "--listen", "[::]:0"],
        &["dev", "--listen", "127.0.0.1:0", "--kubernetes", "0.0.0.0:0"],
        &["dev", "--listen", "127.0.0.1:0", "--http", "0.0.0.0:0"],
    ] {
        let (code, err) = fails(Command::new(ROLLOUTD).args(arguments));
        assert_eq!(code, Some(1), "{err}");
        assert!(err.contains("is not a loopback address") && err.contains("--insecure-listen"), "{err}");
        assert!(err.contains(&format!("{}: ", arguments[arguments.len() - 2])), "{err}");
    }
}

#[test]
fn an_address_in_use_is_named_with_its_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--listen", "--http", "--kubernetes"] {
        let mut arguments = vec!["dev", flag, &address];
        for other in ["--listen", "--http"].into_iter().filter(|other| *other != flag) {
            arguments.extend([other, "127.0.0.1:0"]);
        }
        let (code, err) = fails(Command::new(ROLLOUTD).args(&arguments));
        assert_eq!(code, Some(1));
        assert!(err.contains(flag) && err.contains(&address), "{err}");
    }
}

#[test]
fn no_cluster_is_an_error_that_says_what_to_give() {
    let home = tempfile::tempdir().unwrap();
    let mut serve = Command::new(ROLLOUTD);
    serve.args(["serve", "--listen", "127.0.0.1:0", "--healthzPort", "0", "--metricsPort", "0"]);
    serve.env_remove("KUBECONFIG").env_remove("KUBERNETES_SERVICE_HOST").env("HOME", home.path());
    let (code, err) = fails(&mut serve);
    assert_eq!(code, Some(1));
    assert!(err.contains("--kubeconfig") && err.contains("KUBECONFIG"), "{err}");
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for (arguments, named) in [
        (&["dev", "--once"][..], "--demo"),
        (&["dev", "--speed", "0"], "--speed"),
        (&["dev", "--cluster-only", "--listen", "127.0.0.1:0"], "--listen"),
        (&["dev", "--cluster-only", "--http", "127.0.0.1:0"], "--http"),
        (&["dev", "--cluster-only", "--demo"], "--demo"),
        (&["dev", "--cluster-only", "--speed", "2"], "--speed"),
        (&["dev", "--demo", "--data-dir", "somewhere"], "--data-dir"),
        (&["serve", "--logformat", "xml"], "--logformat"),
        (&["serve", "--controllers", "rollouts"], "--controllers"),
        (&["brew"], "brew"),
    ] {
        let (code, err) = fails(Command::new(ROLLOUTD).args(arguments));
        assert_eq!(code, Some(2), "{arguments:?}: {err}");
        assert!(err.contains(named), "{arguments:?}: {err}");
    }
}

#[test]
fn crds_prints_what_lies_in_deploy() {
    let printed = succeeds(Command::new(ROLLOUTD).arg("crds"));
    let mut kinds: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("    kind: ")).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        ["AnalysisRun", "AnalysisTemplate", "ClusterAnalysisTemplate", "Experiment", "Rollout"]
    );
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/crds");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        assert!(printed.contains(&text), "deploy/crds is another: make crds");
        files += 1;
    }
    assert_eq!(files, kinds.len());
}

#[test]
fn the_version_is_told() {
    // Argo Rollouts' controller takes the flag where serve has its others.
    for arguments in [&["--version"][..], &["serve", "--version"]] {
        let printed = succeeds(Command::new(ROLLOUTD).args(arguments));
        assert!(printed.starts_with("rolloutd") && printed.contains(env!("CARGO_PKG_VERSION")), "{printed}");
    }
}
