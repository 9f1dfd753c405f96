//! `lint`: what is wrong with manifests, without a server.

use serde_json::json;

use super::Session;
use crate::cli::args::{Data, LintArgs};
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::lint::{Finding, Report, Severity, look};
use crate::cli::output::Out;
use crate::cli::style::{Detail, Line, Tone};
use crate::cli::{json, manifest};

/// `lint`.
pub(super) fn lint(session: &Session, out: &Out, arguments: &LintArgs) -> Result<Exit, Failure> {
    let manifests = manifest::read(&arguments.files.filenames)?;
    let report = look(&manifests, &session.namespace);
    match arguments.output {
        None => {
            let style = out.style(Detail::Normal);
            out.lines(report.findings.iter().map(|finding| line(finding).paint(style)))?;
            out.note(&summary(&report));
        }
        Some(Data::Json) => out.lines([json::pretty(&data(&report))])?,
        Some(Data::Yaml) => out.lines([json::yaml(&data(&report))?])?,
    }
    let worst = if arguments.strict { Severity::Warning } else { Severity::Error };
    let is_found = report.findings.iter().any(|finding| finding.severity >= worst);
    Ok(if is_found { Exit::Found } else { Exit::Done })
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    }
}

/// `error: web.yaml[1].spec.replicas (line 12): must be …`
fn line(finding: &Finding) -> Line {
    let tone = match finding.severity {
        Severity::Note => Tone::Faint,
        Severity::Warning => Tone::Held,
        Severity::Error => Tone::Bad,
    };
    let place = finding.location.map(|at| format!(" (line {})", at.line)).unwrap_or_default();
    let Finding { file, field, description, .. } = finding;
    Line::default()
        .with(tone, word(finding.severity))
        .with(Tone::Plain, format!(": {file}{field}{place}: {description}"))
}

/// `2 files, 3 objects: 1 error, 2 warnings`
fn summary(report: &Report) -> String {
    let counted = |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    let of =
        |severity: Severity| report.findings.iter().filter(|finding| finding.severity == severity).count();
    let found: Vec<String> = [(of(Severity::Error), "error"), (of(Severity::Warning), "warning")]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| counted(count, word))
        .collect();
    let found = if found.is_empty() { "nothing wrong".to_owned() } else { found.join(", ") };
    format!("{}, {}: {found}", counted(report.files, "file"), counted(report.objects, "object"))
}

fn data(report: &Report) -> serde_json::Value {
    let finding = |finding: &Finding| {
        let mut value = json!({
            "severity": word(finding.severity),
            "file": finding.file,
            "field": finding.field,
            "description": finding.description,
        });
        if !finding.reason.is_empty() {
            value["reason"] = json!(finding.reason);
        }
        if let Some(location) = finding.location {
            value["line"] = json!(location.line);
            value["column"] = json!(location.column);
        }
        value
    };
    let findings: Vec<_> = report.findings.iter().map(finding).collect();
    json!({ "findings": findings, "files": report.files, "objects": report.objects })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_summed_up_in_a_line() {
        let finding = |severity: Severity| Finding { severity, ..Finding::default() };
        for (objects, severities, expected) in [
            (0, vec![], "1 file, 0 objects: nothing wrong"),
            (1, vec![Severity::Note], "1 file, 1 object: nothing wrong"),
            (
                3,
                vec![Severity::Error, Severity::Warning, Severity::Error],
                "1 file, 3 objects: 2 errors, 1 warning",
            ),
        ] {
            let findings = severities.into_iter().map(finding).collect();
            assert_eq!(summary(&Report { files: 1, objects, findings }), expected);
        }
    }
}
