//! `rolloutd dev`: the first thing that a newcomer runs.

use std::process::Command;

use crate::process::{Dev, ROLLOUTD, get, succeeds, until};

#[test]
fn the_demo_takes_a_canary_to_the_end() {
    let arguments =
        ["dev", "--demo", "--once", "--speed", "20", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    let out = succeeds(Command::new(ROLLOUTD).args(arguments));
    let at = |what: &str| {
        out.lines()
            .position(|line| line.contains(what))
            .unwrap_or_else(|| panic!("{what:?} is not in:\n{out}"))
    };
    let story = [
        at("applied deploy/examples/canary.yaml"),
        at("set image web=nginx:1.28"),
        at("web Paused"),
        at("promoted: step 1"),
        at("step 6/8"),
    ];
    assert!(story.is_sorted(), "{out}");
    assert!(out.lines().last().is_some_and(|line| line.contains("Healthy")), "{out}");
    assert!(out.contains("kubeconfig"), "{out}");
}

#[test]
fn dev_says_where_it_is_and_leaves_nothing_behind() {
    let mut dev = Dev::start();
    let http = dev.http.strip_prefix("http://").expect("a URL").parse().expect("an address");
    until("ready", || get(http, "/readyz").filter(|(status, _)| *status == 200));
    assert_eq!(get(http, "/healthz"), Some((200, "ok".to_owned())));
    let (_, metrics) = get(http, "/metrics").expect("metrics");
    assert!(metrics.contains("argo_rollouts_controller_info"), "{metrics}");
    let kubernetes = dev.kubernetes.strip_prefix("http://").expect("a URL").parse().expect("an address");
    assert_eq!(get(kubernetes, "/version").map(|(status, _)| status), Some(200));
    let kubeconfig = std::fs::read_to_string(&dev.kubeconfig).expect("a kubeconfig");
    assert!(kubeconfig.contains(&dev.kubernetes), "{kubeconfig}");

    dev.running.signal("INT");
    assert_eq!(dev.running.ended(), Some(0));
    assert!(!dev.kubeconfig.exists(), "the kubeconfig is left");
}
