//! Keeps dependencies pointing downwards, and the core pure (ARCHITECTURE.md has the picture).

#![allow(clippy::unwrap_used, clippy::panic, reason = "all of it is tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

const L0: &[&str] = &["clock", "crd", "hash", "json", "pb", "pod_template"];

/// What each module of the library may use besides itself.
fn allowed() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let over = |below: &[&'static str], more: &[&'static str]| below.iter().chain(more).copied().collect();
    let l3 = |more: &[&'static str]| over(L0, &[&["validate", "plan", "telemetry"], more].concat());
    let served = ["store", "lease", "plugin", "worker", "api", "http"];
    BTreeMap::from([
        ("clock", over(&[], &[])),
        ("pb", over(&[], &[])),
        ("crd", over(&[], &[])),
        ("hash", over(&[], &["crd"])),
        ("json", over(&[], &["hash"])),
        ("pod_template", over(&[], &["crd", "hash"])),
        ("validate", over(L0, &[])),
        ("manifest", over(L0, &["validate"])),
        ("plan", over(L0, &["validate"])),
        ("foresight", over(L0, &["validate", "plan"])),
        ("telemetry", over(L0, &[])),
        ("store", l3(&[])),
        ("lease", l3(&[])),
        ("plugin", l3(&[])),
        ("worker", l3(&["store", "lease", "plugin"])),
        ("api", l3(&["store", "lease", "manifest", "foresight"])),
        ("http", over(&["telemetry", "pb", "clock"], &[])),
        ("serve", l3(&served)),
        ("apiserver", over(&["clock", "pod_template", "hash", "json"], &[])),
        ("simcluster", over(&["clock", "crd"], &[])),
        ("cli", over(&["pb", "clock", "validate", "manifest", "crd", "hash"], &[])),
        ("dev", l3(&[&served[..], &["serve", "apiserver", "simcluster", "cli"]].concat())),
    ])
}

/// What must not appear in pure modules: anything that waits, asks, or knows the time.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "reqwest",
    "futures",
    "tracing",
    "uuid",
    "axum",
    "std::env",
    "std::time::Instant",
    "std::fs",
    "kube::Client",
    "kube::Api",
];
const PURE: &[&str] = &["crd", "hash", "json", "pod_template", "validate", "manifest", "plan", "foresight"];

struct Uses {
    paths: BTreeSet<String>,
    prefix: Vec<String>,
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.paths.insert(segments.join("::"));
        syn::visit::visit_path(self, path);
    }

    fn visit_use_path(&mut self, path: &'ast syn::UsePath) {
        self.prefix.push(path.ident.to_string());
        syn::visit::visit_use_path(self, path);
        self.prefix.pop();
    }

    fn visit_use_name(&mut self, name: &'ast syn::UseName) {
        self.paths.insert([self.prefix.join("::"), name.ident.to_string()].join("::"));
    }

    fn visit_use_rename(&mut self, rename: &'ast syn::UseRename) {
        self.paths.insert([self.prefix.join("::"), rename.ident.to_string()].join("::"));
    }

    fn visit_use_glob(&mut self, _: &'ast syn::UseGlob) {
        self.paths.insert(self.prefix.join("::"));
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        // What tests use is their own affair.
        let is_test = module.attrs.iter().any(|attribute| {
            attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|cfg| cfg.is_ident("test"))
        });
        if !is_test {
            syn::visit::visit_item_mod(self, module);
        }
    }
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "tests" && name != "bin" {
            files.extend(sources(&path));
        } else if name.ends_with(".rs") && name != "tests.rs" {
            files.push(path);
        }
    }
    files
}

/// The top-level module that a file belongs to.
fn module_of(file: &Path) -> String {
    let inside = file.strip_prefix("src").unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

fn uses() -> Vec<(PathBuf, String, BTreeSet<String>)> {
    let files = sources(Path::new("src"));
    assert!(files.len() > 50, "the sources were found");
    let parse = |file: PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        let syntax = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut uses = Uses { paths: BTreeSet::new(), prefix: Vec::new() };
        uses.visit_file(&syntax);
        let module = module_of(&file);
        (file, module, uses.paths)
    };
    files.into_iter().map(parse).collect()
}

#[test]
fn dependencies_point_downwards() {
    let allowed = allowed();
    let mut violations = Vec::new();
    for (file, module, paths) in uses() {
        if module == "lib" {
            continue;
        }
        let Some(allowed) = allowed.get(module.as_str()) else {
            violations
                .push(format!("module {module} has no layer: say in tests/architecture.rs what it may use"));
            continue;
        };
        for path in &paths {
            let Some(used) = path.strip_prefix("crate::").map(|rest| rest.split("::").next().unwrap()) else {
                continue;
            };
            if used != module && !allowed.contains(used) {
                violations.push(format!("{}: {module} must not use {used} ({path})", file.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn the_core_is_pure() {
    let mut violations = Vec::new();
    for (file, module, paths) in uses() {
        if !PURE.contains(&module.as_str()) {
            continue;
        }
        for path in &paths {
            if IMPURE.iter().any(|impure| path == impure || path.starts_with(&format!("{impure}::"))) {
                violations.push(format!("{}: {path}", file.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn a_dependency_upwards_would_be_noticed() {
    let file = syn::parse_file("use crate::{plan, worker::Workers}; fn f() { crate::api::g() }").unwrap();
    let mut uses = Uses { paths: BTreeSet::new(), prefix: Vec::new() };
    uses.visit_file(&file);
    for path in ["crate::plan", "crate::worker::Workers", "crate::api::g"] {
        assert!(uses.paths.contains(path), "{path}: {:?}", uses.paths);
    }
}
