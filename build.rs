//! Compiles proto/ with protox (no protoc) into Rust and into the descriptor set that reflection serves.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost::Message as _;

#[expect(clippy::disallowed_methods, reason = "cargo tells build scripts where to write by the environment")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let mut files: Vec<PathBuf> = fs::read_dir(root.join("rolloutd/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<_>>()?;
    files.sort();

    let descriptors = protox::compile(&files, [root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("rolloutd.v1.bin"), descriptors.encode_to_vec())?;
    // Maps in key order: the same message has the same bytes, which request ids and page tokens compare.
    let config = tonic_prost_build::configure().compile_well_known_types(false).btree_map(".");
    config.compile_fds(descriptors)?;
    println!("cargo:rustc-env=ROLLOUTD_COMMIT={}", commit());
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
