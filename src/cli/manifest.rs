//! Manifests from files, directories and standard input.
//!
//! Only read here; the server parses them, and [`super::lint`].

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::failure::Failure;

/// What a directory's files must end in to be taken for manifests, as kubectl has it.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A manifest and where it came from.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    /// The file's path, or `standard input`.
    pub(super) place: String,
    pub(super) text: String,
}

/// Reads all, in the order given; the files of a directory by name. All are read before anything is sent, so that a
/// misspelled file changes nothing.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let mut manifests = Vec::new();
    for path in paths {
        if path == Path::new("-") {
            manifests.push(standard_input()?);
        } else if path.is_dir() {
            for path in files(path)? {
                manifests.push(file(&path)?);
            }
        } else {
            manifests.push(file(path)?);
        }
    }
    Ok(manifests)
}

fn standard_input() -> Result<Manifest, Failure> {
    let place = "standard input".to_owned();
    let mut text = String::new();
    match io::stdin().read_to_string(&mut text) {
        Ok(_) => Ok(Manifest { place, text }),
        Err(source) => Err(Failure::File { path: place, source }),
    }
}

fn file(path: &Path) -> Result<Manifest, Failure> {
    let text = fs::read_to_string(path).map_err(|source| failure(path, source))?;
    Ok(Manifest { place: path.display().to_string(), text })
}

/// The manifests of a directory, not of those below it; none is a mistake.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(folder).map_err(|source| failure(folder, source))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>();
    let mut paths = paths.map_err(|source| failure(folder, source))?;
    paths.retain(|path| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) && path.is_file()
    });
    paths.sort();
    if paths.is_empty() {
        let message = "the directory holds no *.yaml, *.yml or *.json";
        return Err(failure(folder, io::Error::new(io::ErrorKind::NotFound, message)));
    }
    Ok(paths)
}

fn failure(path: &Path, source: io::Error) -> Failure {
    Failure::File { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_gives_its_manifests_by_name_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.yaml", "a.json", "c.yml", "notes.txt", ".yaml"] {
            fs::write(folder.path().join(name), name).unwrap();
        }
        fs::create_dir(folder.path().join("d.yaml")).unwrap();
        let manifests = read(&[folder.path().to_owned()]).unwrap();
        let texts: Vec<&str> = manifests.iter().map(|manifest| manifest.text.as_str()).collect();
        assert_eq!(texts, ["a.json", "b.yaml", "c.yml"]);
    }

    #[test]
    fn a_file_that_is_not_there_or_no_text_and_an_empty_directory_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let binary = folder.path().join("binary");
        fs::write(&binary, [0xff, 0xfe]).unwrap();
        for path in [folder.path().to_owned(), folder.path().join("missing.yaml"), binary] {
            let failure = read(std::slice::from_ref(&path)).unwrap_err();
            assert!(failure.to_string().contains(&path.display().to_string()), "{failure}");
        }
    }
}
