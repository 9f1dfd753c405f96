//! Compiles proto/ with protox (no protoc) into Rust and into descriptor sets, of which reflection serves the API's.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost::Message as _;

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts where to write by the environment")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo:rerun-if-changed=proto");
    // Apart: what the server serves has reflection, and what it calls is not a part of that.
    for package in ["rolloutd/v1", "rolloutd/plugin/v1"] {
        compile(package, &out)?;
    }
    println!("cargo:rustc-env=ROLLOUTD_COMMIT={}", commit());
    Ok(())
}

/// Compiles the files of a package, which is given by its folder in proto/.
fn compile(package: &str, out: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    let mut files: Vec<PathBuf> = fs::read_dir(root.join(package))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    files.sort();

    let descriptors = protox::compile(&files, [root])?;
    fs::write(out.join(format!("{}.bin", package.replace('/', "."))), descriptors.encode_to_vec())?;
    // Maps in key order: the same message has the same bytes, which request ids and page tokens compare.
    let config = tonic_prost_build::configure().compile_well_known_types(false).btree_map(".");
    config.compile_fds(descriptors)?;
    Ok(())
}

/// The commit being built, or nothing where there is no git; `version` and GetServerInfo show it.
fn commit() -> String {
    // A file that is not there would run this script again with every build.
    // The log has a line for each commit and each checkout.
    let log = Path::new(".git/logs/HEAD");
    if log.exists() {
        println!("cargo:rerun-if-changed={}", log.display());
    }
    std::process::Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .map(|commit| commit.trim().to_owned())
        .unwrap_or_default()
}
