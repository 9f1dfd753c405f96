//! Where the kubeconfig of the embedded cluster lies: a private folder that goes with the process, or the cluster's own.
//!
//! The kubeconfig is also how the port is remembered: what was given to another process goes on working after a restart.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

const KUBECONFIG: &str = "kubeconfig";
const NAME: &str = "rolloutd-dev";

/// A folder that only its owner can read.
pub(super) enum Folder {
    Passing(TempDir),
    Kept(PathBuf),
}

impl Folder {
    /// A folder that is gone in the end.
    pub(super) fn passing() -> io::Result<Self> {
        Ok(Self::Passing(tempfile::Builder::new().prefix("rolloutd-dev-").tempdir()?))
    }

    /// A file that kubectl takes.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.path().join(KUBECONFIG)
    }

    fn path(&self) -> &Path {
        match self {
            Self::Passing(folder) => folder.path(),
            Self::Kept(folder) => folder,
        }
    }

    /// Writes the kubeconfig for the server at `url`, readable by its owner only; whoever reads it sees the old one or
    /// the new one.
    pub(super) fn write_kubeconfig(&self, url: &str) -> io::Result<()> {
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": NAME,
            "clusters": [{ "name": NAME, "cluster": { "server": url } }],
            "users": [{ "name": NAME, "user": {} }],
            "contexts": [{ "name": NAME, "context": { "cluster": NAME, "user": NAME, "namespace": "default" } }],
        });
        // JSON is YAML.
        let text = format!("{kubeconfig:#}\n");
        if fs::read_to_string(self.kubeconfig()).is_ok_and(|there| there == text) {
            // A full disk is no reason not to serve what is on it.
            return Ok(());
        }
        let mut file = NamedTempFile::new_in(self.path())?;
        file.write_all(text.as_bytes())?;
        file.persist(self.kubeconfig()).map_err(|error| error.error)?;
        Ok(())
    }
}

/// The port that the kubeconfig of a folder names; `None` where there is none that was written here.
pub(super) fn remembered_port(folder: &Path) -> Option<u16> {
    let text = fs::read_to_string(folder.join(KUBECONFIG)).ok()?;
    let kubeconfig: Value = serde_json::from_str(&text).ok()?;
    let url = kubeconfig.pointer("/clusters/0/cluster/server")?.as_str()?;
    url.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_port_is_remembered_from_the_kubeconfig_that_only_its_owner_reads() {
        let kept = tempfile::tempdir().unwrap();
        assert_eq!(remembered_port(kept.path()), None);
        let folder = Folder::Kept(kept.path().to_owned());
        for (url, port) in [("http://127.0.0.1:8001", 8001), ("http://[::1]:8002", 8002)] {
            folder.write_kubeconfig(url).unwrap();
            assert_eq!(remembered_port(kept.path()), Some(port));
        }
        let mode = fs::metadata(folder.kubeconfig()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(kept.path()).unwrap().count(), 1, "nothing unfinished is left");
        fs::write(folder.kubeconfig(), "kind: Config").unwrap();
        assert_eq!(remembered_port(kept.path()), None);
    }
}
