//! `lint`, which asks nobody.

use std::fs;

use crate::program::{Ended, finish, program};

const ROLLOUT: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name: web
spec:
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - {name: web, image: 'shop/web:v1'}
  strategy:
    canary:
      stableService: web
      steps:
      - setWeight: 20
";

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata:
  name: web
spec:
  selector: {app: web}
";

/// Lints files of a folder, whose name is left out of what is printed.
async fn lint(files: &[(&str, &str)], flags: &str) -> Ended {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().display().to_string();
    let ended = finish(program(&format!("lint -f {path} {flags}"))).await;
    Ended { stdout: ended.stdout.replace(&format!("{path}/"), ""), ..ended }
}

#[tokio::test]
async fn manifests_without_mistakes_end_with_0() {
    let ended = lint(&[("a.yaml", ROLLOUT), ("b.yaml", SERVICE)], "--strict").await;
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", "2 files, 2 objects: nothing wrong\n"));
    ended.ok();
}

#[tokio::test]
async fn mistakes_end_with_1_and_are_told_with_file_path_and_line() {
    let bad = ROLLOUT.replace("setWeight: 20", "setWeight: 101") + "---\nkind: StatefulSet\n";
    let service = SERVICE.replace("app: web", "app: api");
    let ended = lint(&[("a.yaml", &bad), ("b.yaml", &service)], "").await;
    assert_eq!(
        ended.stdout,
        "error: a.yaml[0].spec.strategy.canary.stableService (line 16): Service \"web\" (b.yaml[0]) selects pods with app: api, but this \
         rollout's have app: web\n\
         error: a.yaml[0].spec.strategy.canary.steps[0].setWeight (line 18): Invalid value: 101: SetWeight needs to be between 0 and 100\n\
         note: a.yaml[1] (line 20): not looked at: rolloutd does not know the kind StatefulSet\n"
    );
    assert_eq!(ended.stderr, "2 files, 3 objects: 2 errors\n");
    assert_eq!(ended.code, Some(1));
}

#[tokio::test]
async fn warnings_end_with_0_unless_they_are_taken_for_errors() {
    let misspelt = ROLLOUT.replace("  strategy:", "  minReadySecond: 5\n  strategy:");
    for (flag, code) in [("", 0), ("--strict", 1)] {
        let ended = lint(&[("a.yaml", &misspelt), ("b.yaml", SERVICE)], flag).await;
        assert_eq!(ended.code, Some(code), "{ended:?}");
        assert!(ended.stdout.contains("did you mean minReadySeconds?"), "{}", ended.stdout);
    }
}

#[tokio::test]
async fn findings_as_data_hold_the_same() {
    for form in ["json", "yaml"] {
        let misspelt = ROLLOUT.replace("  strategy:", "  minReadySecond: 5\n  strategy:");
        let ended = lint(&[("a.yaml", &misspelt)], &format!("--strict -o {form}")).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), ""));
        let value: serde_json::Value = serde_saphyr::from_str(&ended.stdout).unwrap();
        assert_eq!((&value["files"], &value["objects"]), (&1.into(), &1.into()));
        let misspelt = &value["findings"][0];
        assert_eq!(misspelt["severity"], "warning");
        assert_eq!(misspelt["reason"], "UNKNOWN_FIELD");
        assert_eq!(misspelt["field"], "[0].spec.minReadySecond");
        assert_eq!((&misspelt["line"], &misspelt["column"]), (&14.into(), &3.into()));
        assert!(misspelt["file"].as_str().unwrap().ends_with("a.yaml"));
    }
}

#[tokio::test]
async fn what_cannot_be_read_ends_with_8() {
    let stderr = finish(program("lint -f /nowhere.yaml")).await.failed(8);
    assert!(stderr.starts_with("error: cannot read /nowhere.yaml"), "{stderr}");
    finish(program("lint")).await.failed(2);
}

#[tokio::test]
async fn the_examples_have_no_mistakes() {
    let mut command = program("lint --strict -f deploy/examples");
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    finish(command).await.ok();
}

#[tokio::test]
async fn the_manual_shows_what_is_printed() {
    let service = SERVICE.replace("app: web", "app: api");
    let steps = "      - setWeight: 20\n      - pause: {}\n      - setWeight: 101\n";
    let rollout = ROLLOUT
        .replace("      - setWeight: 20\n", steps)
        .replace("  strategy:", "  minReadySecond: 5\n  strategy:");
    let text = format!("{service}---\n{rollout}---\napiVersion: apps/v1\nkind: StatefulSet\n");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("deploy")).unwrap();
    fs::write(folder.path().join("deploy/web.yaml"), text).unwrap();
    let mut command = program("lint -f deploy");
    command.current_dir(folder.path());
    let ended = finish(command).await;
    let printed = format!("$ rolloutctl lint -f deploy\n{}{}", ended.stdout, ended.stderr);
    assert!(include_str!("../../docs/rolloutctl.md").contains(&printed), "{printed}");
}
