//! Programs that tests run and that not every machine has.
//!
//! Without one its tests are skipped, with a printed line; with ROLLOUTD_REQUIRE_TOOLS set that fails instead. Test binaries
//! include it with `#[path]`.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::process::{Command, Stdio};

/// Whether kubectl is there.
pub(crate) fn has_kubectl() -> bool {
    has("kubectl", &["version", "--client"])
}

/// Whether grpcurl is there.
pub(crate) fn has_grpcurl() -> bool {
    has("grpcurl", &["-version"])
}

/// Whether buf is there.
pub(crate) fn has_buf() -> bool {
    has("buf", &["--version"])
}

/// Whether Python is there.
pub(crate) fn has_python() -> bool {
    has("python3", &["--version"])
}

fn has(tool: &str, version: &[&str]) -> bool {
    let found = Command::new(tool).args(version).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Ok(_) => true,
        Err(error) => {
            assert!(std::env::var_os("ROLLOUTD_REQUIRE_TOOLS").is_none(), "{tool}: {error}");
            println!("skipped: {tool} is not on the PATH");
            false
        }
    }
}
