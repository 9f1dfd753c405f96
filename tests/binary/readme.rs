//! The README's commands, run as they stand there; only the address is that of this test's server.

use std::path::Path;
use std::process::Command;

use crate::process::{Dev, path_with_programs, succeeds};
use crate::tools::{has_grpcurl, has_kubectl};

/// The block of shell lines that a comment marks.
fn block(mark: &str) -> String {
    let readme = include_str!("../../README.md");
    let (_, after) =
        readme.split_once(&format!("<!-- tested: {mark} -->\n```sh\n")).expect("the README marks it");
    let (block, _) = after.split_once("\n```").expect("the block ends");
    block.to_owned()
}

fn run(dev: &Dev, block: &str) {
    let script = format!("set -eux\n{}\n", block.replace("127.0.0.1:50051", &dev.grpc));
    let folder = dev.kubeconfig.parent().expect("a folder");
    succeeds(
        Command::new("bash")
            .args(["-c", &script])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
            .env("PATH", path_with_programs())
            .env("ROLLOUTD_SERVER", &dev.grpc)
            .env("KUBECONFIG", &dev.kubeconfig)
            .env("HOME", folder),
    );
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
