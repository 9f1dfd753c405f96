//! What is wrong with a set of manifests, as far as it can be told without a cluster.
//!
//! Pure: the files' texts make a report. [`crate::manifest`] knows what is wrong; here it is gathered over all files and given lines.
//! ApplyManifest looks at the same things, one file at a time.

use std::cell::OnceCell;

use super::manifest::Manifest;
use crate::manifest::document::{self, Document, MOST_OBJECTS};
use crate::manifest::form::Findings;
use crate::manifest::position::Positions;
use crate::manifest::{Fault, Item, Location, form, item, reference, rule};
use crate::pb::v1;

/// What was found in all files.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// How many files were looked at.
    pub(super) files: usize,
    /// How many objects in them.
    pub(super) objects: usize,
    /// In the order of files and lines.
    pub(super) findings: Vec<Finding>,
}

/// Something that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) severity: Severity,
    /// The file, as it was given.
    pub(super) file: String,
    /// The field within it, such as `[1].spec.replicas`; empty when it is about the whole file.
    pub(super) field: String,
    pub(super) location: Option<Location>,
    /// The reason of a warning, as the API has them; empty otherwise.
    pub(super) reason: String,
    pub(super) description: String,
}

/// How bad it is, the worst last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    /// Something that was not looked at.
    #[default]
    Note,
    /// It is accepted, and most likely not what is meant.
    Warning,
    /// It is refused.
    Error,
}

/// Looks at all files. Objects that name no namespace are taken to be in `namespace`.
pub(super) fn look(manifests: &[Manifest], namespace: &str) -> Report {
    let mut lint =
        Lint { manifests, positions: vec![OnceCell::new(); manifests.len()], report: Report::default() };
    let mut items = Vec::new();
    for manifest in manifests {
        items.extend(lint.read(manifest, namespace));
    }
    for fault in reference::duplicates(&items) {
        lint.fault(fault);
    }
    for item in &items {
        lint.item(item);
    }
    lint.findings(reference::check(&items));
    lint.finish()
}

struct Lint<'a> {
    manifests: &'a [Manifest],
    /// By file; where nothing is found nobody has to know them.
    positions: Vec<OnceCell<Positions>>,
    report: Report,
}

impl Lint<'_> {
    /// The objects of a file.
    fn read(&mut self, manifest: &Manifest, namespace: &str) -> Vec<Item> {
        self.report.files += 1;
        let file = manifest.place.as_str();
        let documents = match document::read(&manifest.text) {
            Ok(documents) => documents.of_file(file),
            Err(malformed) => {
                self.report.findings.push(Finding {
                    severity: Severity::Error,
                    file: file.to_owned(),
                    field: malformed.place(),
                    location: malformed.location,
                    description: malformed.to_string(),
                    ..Finding::default()
                });
                return Vec::new();
            }
        };
        let count = documents.objects.len();
        self.report.objects += count;
        if count == 0 && documents.faults.is_empty() {
            self.add(Severity::Warning, file, "", "holds no object".to_owned());
        }
        if count > MOST_OBJECTS {
            let description = format!("holds {count} objects; `apply` takes at most {MOST_OBJECTS} at once");
            self.add(Severity::Warning, file, "", description);
        }
        let (foreign, known) = documents.objects.into_iter().partition::<Vec<_>, _>(item::is_foreign);
        for document in &foreign {
            self.skip(document);
        }
        let found = item::find(known, namespace);
        for fault in documents.faults.into_iter().chain(found.faults) {
            self.fault(fault);
        }
        found.items
    }

    fn skip(&mut self, document: &Document) {
        let kind = document.object.get("kind").and_then(serde_json::Value::as_str).unwrap_or_default();
        let description = format!("not looked at: rolloutd does not know the kind {kind}");
        self.add(Severity::Note, &document.place, "", description);
    }

    /// As ApplyManifest does: an object whose form is wrong is not held against the rules.
    fn item(&mut self, item: &Item) {
        let found = form::check(item);
        let is_well_formed = found.faults.is_empty();
        self.findings(found);
        if is_well_formed {
            for fault in rule::check(item, None, &item::without_nulls(&item.manifest)) {
                self.fault(fault);
            }
        }
    }

    fn findings(&mut self, findings: Findings) {
        for fault in findings.faults {
            self.fault(fault);
        }
        for v1::Warning { reason, field, description } in findings.warnings {
            self.add(Severity::Warning, &field, &reason, description);
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.add(Severity::Error, &fault.field, "", fault.description);
    }

    /// Adds a finding at a place that begins with the file's name.
    fn add(&mut self, severity: Severity, place: &str, reason: &str, description: String) {
        let index = self.file(place);
        let file = index.map_or("", |index| self.manifests[index].place.as_str());
        let field = place[file.len()..].to_owned();
        let location = index.and_then(|index| {
            let text = &self.manifests[index].text;
            self.positions[index].get_or_init(|| Positions::read(text)).of(&field)
        });
        let finding = Finding {
            severity,
            file: file.to_owned(),
            field,
            location,
            reason: reason.to_owned(),
            description,
        };
        self.report.findings.push(finding);
    }

    fn file(&self, place: &str) -> Option<usize> {
        let begins = |manifest: &Manifest| {
            let rest = place.strip_prefix(manifest.place.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
        };
        let files = self.manifests.iter().enumerate().filter(|(_, manifest)| begins(manifest));
        // Nothing keeps a file's name from ending like an index.
        files.max_by_key(|(_, manifest)| manifest.place.len()).map(|(index, _)| index)
    }

    /// The report, in the order of the files and of their lines.
    fn finish(mut self) -> Report {
        let mut findings = std::mem::take(&mut self.report.findings);
        let line = |finding: &Finding| finding.location.map_or(0, |location| location.line);
        findings.sort_by_key(|finding| (self.file(&finding.file), line(finding)));
        Report { findings, ..self.report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(place: &str, text: &str) -> Manifest {
        Manifest { place: place.to_owned(), text: text.to_owned() }
    }

    /// `error web.yaml[0].spec:3`
    fn found(files: &[Manifest]) -> Vec<String> {
        let findings = look(files, "shop").findings;
        let told = findings.iter().map(|finding| {
            let line = finding.location.map_or_else(String::new, |at| format!(":{}", at.line));
            format!("{:?} {}{}{line}", finding.severity, finding.file, finding.field)
        });
        told.collect()
    }

    const ROLLOUT: &str = "\
apiVersion: argoproj.io/v1alpha1
kind: Rollout
metadata:
  name: web
spec:
  replicas: 2
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
      stableService: stable
      steps:
      - setWeight: 20
";

    #[test]
    fn a_rollout_without_mistakes_gets_no_more_than_a_word_about_its_missing_service() {
        let field = "[0].spec.strategy.canary.stableService";
        assert_eq!(found(&[file("web.yaml", ROLLOUT)]), [format!("Warning web.yaml{field}:17")]);
    }

    #[test]
    fn what_apply_would_refuse_or_warn_about_is_found_with_its_line() {
        for (from, to, expected) in [
            ("setWeight: 20", "setWeight: 101", "Error w.yaml[0].spec.strategy.canary.steps[0].setWeight:19"),
            ("setWeight", "setWieght", "Warning w.yaml[0].spec.strategy.canary.steps[0].setWieght:19"),
            ("replicas: 2", "replicas: two", "Error w.yaml[0].spec.replicas:6"),
            ("name: web\n", "name: Web\n", "Error w.yaml[0].metadata.name:4"),
            ("v1alpha1", "v1", "Error w.yaml[0].apiVersion:1"),
            ("  selector:\n    matchLabels: {app: web}\n", "", "Error w.yaml[0].spec.selector:5"),
            ("kind: Rollout", "kind: [", "Error w.yaml[0]:4"),
            ("kind: Rollout", "kind: StatefulSet", "Note w.yaml[0]:1"),
        ] {
            let all = found(&[file("w.yaml", &ROLLOUT.replacen(from, to, 1))]);
            assert!(all.iter().any(|one| one == expected), "{to}: {all:?}");
        }
    }

    #[test]
    fn objects_are_looked_for_in_all_files_and_told_of_in_order() {
        let service = |name: &str| format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}}}\n");
        let both = format!("{}---\n{}", service("stable"), service("stable"));
        assert_eq!(
            found(&[file("a.yaml", ROLLOUT), file("b.yaml", &service("stable"))]),
            Vec::<String>::new()
        );
        assert_eq!(
            found(&[file("a.yaml", ROLLOUT), file("b.yaml", &both), file("c.yaml", "# nothing")]),
            ["Error b.yaml[1].metadata.name:3", "Warning c.yaml"]
        );
        assert_eq!(
            found(&[file("a.yaml", ROLLOUT), file("b.yaml", &service("other"))]),
            ["Error a.yaml[0].spec.strategy.canary.stableService:17"]
        );
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_file_holds_is_looked_at(cut in 0..ROLLOUT.len(), end in 0..ROLLOUT.len(), between in "[-\\[\\]{}:,&*~#'\" \n0-9a-z]{0,12}") {
            let text = format!("{}{between}{}", &ROLLOUT[..cut], &ROLLOUT[end..]);
            let report = look(&[file("a.yaml", &text)], "shop");
            for finding in report.findings {
                proptest::prop_assert_eq!(finding.file, "a.yaml");
                proptest::prop_assert!(finding.location.is_none_or(|at| at.line >= 1 && at.column >= 1));
            }
        }
    }

    #[test]
    fn files_whose_names_begin_alike_are_told_apart() {
        let bad = "{apiVersion: v1, kind: Service, metadata: {}}";
        let files = [file("a", "# nothing"), file("a[0]", bad)];
        assert_eq!(found(&files), ["Warning a", "Error a[0][0].metadata.name:1"]);
    }
}
