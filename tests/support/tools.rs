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

/// Whether Python is there with what a plugin in Python needs.
pub(crate) fn has_python_grpc() -> bool {
    let imports =
        Command::new("python3").args(["-c", "import grpc, grpc_tools"]).stderr(Stdio::null()).status();
    let found = has_python() && imports.is_ok_and(|status| status.success());
    if !found {
        assert!(std::env::var_os("ROLLOUTD_REQUIRE_TOOLS").is_none(), "python3 has no grpcio-tools");
        println!("skipped: python3 has no grpcio-tools");
    }
    found
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
