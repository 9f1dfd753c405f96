//! The README's commands, run as they stand there; only the address is that of this test's server.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use crate::process::{Dev, fails, path_with_programs, succeeds};
use crate::tools::{has_grpcurl, has_kubectl};

/// The block that a comment marks.
fn block(mark: &str) -> String {
    let readme = include_str!("../../README.md");
    let (_, after) =
        readme.split_once(&format!("<!-- tested: {mark} -->\n```")).expect("the README marks it");
    let (_language, after) = after.split_once('\n').expect("the block begins");
    let (block, _) = after.split_once("\n```").expect("the block ends");
    block.to_owned()
}

fn run(dev: &Dev, block: &str) {
    let folder = dev.kubeconfig.parent().expect("a folder");
    let script = block.replace("127.0.0.1:50051", &dev.grpc);
    succeeds(
        bash(&script)
            .env("ROLLOUTD_SERVER", &dev.grpc)
            .env("KUBECONFIG", &dev.kubeconfig)
            .env("HOME", folder),
    );
}

/// Runs lines in the repository's folder, with the built programs at hand.
fn bash(lines: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -eux\n{lines}\n")]);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).env("PATH", path_with_programs());
    command
}

#[test]
fn every_command_works_as_pasted() {
    let dev = Dev::start();
    run(&dev, &block("rolloutctl"));
    let grpcurl = block("grpcurl");
    assert!(grpcurl.lines().filter(|line| line.starts_with("grpcurl ")).count() >= 8, "{grpcurl}");
    if has_grpcurl() {
        run(&dev, &grpcurl);
    } else {
        dev.rolloutctl(&["set", "image", "web", "web=nginx:1.29"]);
    }
    if has_kubectl() {
        run(&dev, &block("kubectl"));
    }
}

#[test]
fn a_pipeline_plans_a_file_with_a_cluster_of_its_own() {
    // A port that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let (pipeline, planned) = (block("pipeline"), block("planned"));
    let dev = "rolloutd dev &";
    assert!(pipeline.contains(dev), "{pipeline}");
    let script = pipeline.replace(dev, &format!("rolloutd dev --listen {address} --http 127.0.0.1:0 &"));
    let folder = tempfile::tempdir().expect("a folder");
    let run = |script: &str| {
        let mut command = bash(script);
        command.env("ROLLOUTD_SERVER", address.to_string()).env("HOME", folder.path());
        command
    };
    let printed = succeeds(&mut run(&script));
    assert!(printed.contains(&format!("{planned}\n")), "{planned}\nis not in\n{printed}");
    // The cluster has gone with the job, also when that ends at a failure.
    fails(&mut run("rolloutctl list"));
    let failing = script.replace("deploy/examples/canary.yaml --wait", "no-such-file");
    assert_ne!(failing, script);
    let (code, complaint) = fails(&mut run(&failing));
    assert!(code.is_some_and(|code| code > 0) && complaint.contains("no-such-file"), "{code:?} {complaint}");
    fails(&mut run("rolloutctl list"));
}
