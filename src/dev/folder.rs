//! Where the kubeconfig of the embedded cluster lies: a private folder that goes with the process, or the cluster's own.
//!
//! The kubeconfig is also how the port is remembered: what was given to another process goes on working after a restart.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use kube::config::{Kubeconfig, NamedCluster};
use serde_json::json;
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
    /// the new one. One that names that server stays as it is.
    ///
    /// # Errors
    ///
    /// As [`remembered_server`].
    pub(super) fn write_kubeconfig(&self, url: &str) -> io::Result<()> {
        if remembered_server(self.path())?.is_some_and(|server| server == url) {
            // A full disk is no reason not to serve what is on it.
            return Ok(());
        }
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": NAME,
            "clusters": [{ "name": NAME, "cluster": { "server": url } }],
            "users": [{ "name": NAME, "user": {} }],
            "contexts": [{ "name": NAME, "context": { "cluster": NAME, "user": NAME, "namespace": "default" } }],
        });
        let mut file = NamedTempFile::new_in(self.path())?;
        // JSON is YAML.
        file.write_all(format!("{kubeconfig:#}\n").as_bytes())?;
        file.persist(self.kubeconfig()).map_err(|error| error.error)?;
        Ok(())
    }
}

/// The port of the cluster in a folder; `None` where there was none yet.
pub(super) fn remembered_port(folder: &Path) -> Option<u16> {
    let url = remembered_server(folder).ok()??;
    url.rsplit(':').next()?.parse().ok()
}

/// The server that the kubeconfig of a folder names, also where kubectl wrote it again; `None` where there is none yet.
///
/// # Errors
///
/// Says what to do where a file of this name is anything but a kubeconfig of this cluster alone: it is not ours to be written.
pub(super) fn remembered_server(folder: &Path) -> io::Result<Option<String>> {
    let path = folder.join(KUBECONFIG);
    let text = match fs::read(&path) {
        Ok(bytes) if bytes.is_empty() => return Ok(None),
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        // What is wrong with the folder is told when the cluster in it is opened.
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        Err(error) => {
            let told = format!("--data-dir {}: {}: {error}", folder.display(), path.display());
            return Err(io::Error::new(error.kind(), told));
        }
    };
    let ours = |clusters: Vec<NamedCluster>| {
        let [only] = <[_; 1]>::try_from(clusters).ok()?;
        only.cluster.filter(|_| only.name == NAME)?.server
    };
    match Kubeconfig::from_yaml(&text).ok().and_then(|kubeconfig| ours(kubeconfig.clusters)) {
        Some(server) => Ok(Some(server)),
        None => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!(
                "--data-dir {}: {path} was not written by rolloutd, or names other clusters too; give another directory, or move that file away",
                folder.display(),
                path = path.display(),
            ),
        )),
    }
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
    }

    #[test]
    fn a_kubeconfig_that_is_not_ours_is_left_as_it_is_and_one_that_kubectl_wrote_again_is_ours() {
        let kept = tempfile::tempdir().unwrap();
        let folder = Folder::Kept(kept.path().to_owned());
        let cluster = |name: &str| format!("- name: {name}\n  cluster:\n    server: http://127.0.0.1:8001\n");
        let other = format!("clusters:\n{}", cluster("staging"));
        let both = format!("clusters:\n{}{}", cluster(NAME), cluster("staging"));
        for foreign in ["kind: Config".to_owned(), "{".to_owned(), other, both] {
            fs::write(folder.kubeconfig(), &foreign).unwrap();
            let refused = folder.write_kubeconfig("http://127.0.0.1:8001").unwrap_err().to_string();
            assert!(refused.contains("/kubeconfig was not written by rolloutd"), "{refused}");
            assert_eq!(fs::read_to_string(folder.kubeconfig()).unwrap(), foreign);
            assert_eq!(remembered_port(kept.path()), None);
        }
        fs::write(folder.kubeconfig(), "").unwrap();
        folder.write_kubeconfig("http://127.0.0.1:8001").unwrap();
        assert_eq!(remembered_port(kept.path()), Some(8001), "an empty one is nobody's");
        let ours = format!("current-context: other\nclusters:\n{}", cluster(NAME));
        fs::write(folder.kubeconfig(), &ours).unwrap();
        folder.write_kubeconfig("http://127.0.0.1:8001").unwrap();
        assert_eq!(fs::read_to_string(folder.kubeconfig()).unwrap(), ours);
        assert_eq!(remembered_port(kept.path()), Some(8001));
    }
}
