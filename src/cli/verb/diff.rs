//! `diff`: two revisions, or manifests and the cluster.
//!
//! Ends as diff(1) and `kubectl diff` do: with 0 when nothing differs, with 1 when something does, with more when it failed.

use serde_json::Value;

use super::answer::warn;
use super::apply::{Files, Mode, reference, word};
use super::{Session, plan};
use crate::cli::args::{Assumed, Data, DiffArgs};
use crate::cli::connect::Connection;
use crate::cli::exit::Exit;
use crate::cli::failure::{Failure, Subject};
use crate::cli::name::Name;
use crate::cli::output::Out;
use crate::cli::style::{Detail, Tone};
use crate::cli::{json, manifest, timeline, words};
use crate::pb::v1;
use v1::applied_object::Outcome;

/// `diff`.
pub(super) async fn diff(session: &Session, out: &Out, arguments: &DiffArgs) -> Result<Exit, Failure> {
    let differs = match &arguments.name {
        Some(name) => revisions(session, out, arguments, name).await?,
        None => manifests(session, out, arguments).await?,
    };
    Ok(if differs { Exit::Found } else { Exit::Done })
}

async fn revisions(session: &Session, out: &Out, arguments: &DiffArgs, name: &Name) -> Result<bool, Failure> {
    let name = session.name(name)?;
    let request = v1::DiffRevisionsRequest {
        name: name.clone(),
        // 0: the stable one, and the newest.
        from_revision: arguments.from.unwrap_or(0),
        to_revision: arguments.to.unwrap_or(0),
    };
    let connection = session.connect().await?;
    let answer =
        connection.ask(Subject::Rollout(&name), connection.rollouts().diff_revisions(request)).await?;
    match arguments.output {
        Some(form) => data(out, form, &json::value(&answer)?)?,
        None => text(out, &answer.unified_diff)?,
    }
    Ok(!answer.changes.is_empty() || !answer.unified_diff.is_empty())
}

async fn manifests(session: &Session, out: &Out, arguments: &DiffArgs) -> Result<bool, Failure> {
    let files = Files::new(session, manifest::read(&arguments.filenames)?, arguments.force);
    let connection = session.connect().await?;
    let mut differs = false;
    for manifest in files.manifests() {
        let answer = files.send(&connection, manifest, &Mode::Check).await?;
        warn(out, &answer.warnings);
        let plans = foresee(out, &connection, &files, &answer).await;
        if let Some(form) = arguments.output {
            let mut value = json::value(&answer)?;
            value["plans"] = plans.iter().map(planned).collect::<Result<_, _>>()?;
            data(out, form, &value)?;
        }
        for object in &answer.objects {
            match is_another(object) {
                true if arguments.output.is_none() => {
                    // Before the diff, where patch(1) takes no notice of it.
                    out.lines([format!("{} {}:", reference(object), word(object))])?;
                    text(out, &object.unified_diff)?;
                }
                false if object.outcome() == Outcome::Configured => {
                    out.note(&format!("{} changes in its bookkeeping only", reference(object)));
                }
                _ => {}
            }
            differs |= is_another(object);
        }
        for (name, plan) in plans.iter().filter(|_| arguments.output.is_none()) {
            let unsaid = plan.warnings.iter().filter(|warning| !answer.warnings.contains(warning));
            warn(out, &unsaid.cloned().collect::<Vec<_>>());
            out.lines([format!("{} would go so:", words::path(name))])?;
            out.lines(timeline::lines(&plan.timeline).iter().map(|line| format!("  {line}")))?;
        }
    }
    Ok(differs)
}

/// What the rollouts that would change would do. That a difference cannot be looked ahead of is no reason not to show it.
async fn foresee(
    out: &Out,
    connection: &Connection,
    files: &Files,
    answer: &v1::ApplyManifestResponse,
) -> Vec<(String, v1::PlanRolloutResponse)> {
    let changed: Vec<_> = answer.objects.iter().filter(|object| is_another(object)).cloned().collect();
    let mut plans = Vec::new();
    for request in plan::of_objects(files, &changed, &Assumed::default()) {
        let name = request.name.clone();
        match plan::ask(connection, request).await {
            Ok(plan) => plans.push((name, plan)),
            Err(failure) => out.note(&format!("{} is not looked ahead of: {failure}", words::path(&name))),
        }
    }
    plans
}

/// A plan with the name of its rollout.
fn planned((name, plan): &(String, v1::PlanRolloutResponse)) -> Result<Value, Failure> {
    let mut value = json::value(plan)?;
    value["name"] = Value::from(name.as_str());
    Ok(value)
}

/// Whether an object would change. One that is configured without a diff would change in its bookkeeping only.
fn is_another(object: &v1::AppliedObject) -> bool {
    object.outcome() == Outcome::Created || !object.unified_diff.is_empty()
}

fn data(out: &Out, form: Data, value: &Value) -> Result<(), Failure> {
    match form {
        Data::Json => out.lines([json::pretty(value)]),
        Data::Yaml => out.lines(["---".to_owned(), json::yaml(value)?]),
    }
}

/// A unified diff, line by line as it came, with colours on a terminal.
fn text(out: &Out, diff: &str) -> Result<(), Failure> {
    let style = out.style(Detail::Normal);
    out.lines(diff.lines().map(|line| tone(line).paint(line, style)))
}

fn tone(line: &str) -> Tone {
    match line.as_bytes() {
        [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => Tone::Label,
        [b'@', b'@', ..] => Tone::Moving,
        [b'+', ..] => Tone::Good,
        [b'-', ..] => Tone::Bad,
        _ => Tone::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_diff_are_told_apart() {
        for (line, expected) in [
            ("--- live", Tone::Label),
            ("+++ applied", Tone::Label),
            ("@@ -1,2 +1,2 @@", Tone::Moving),
            ("+  replicas: 3", Tone::Good),
            ("-  replicas: 2", Tone::Bad),
            ("   strategy:", Tone::Plain),
            ("", Tone::Plain),
        ] {
            assert_eq!(tone(line), expected, "{line}");
        }
    }

    #[test]
    fn a_configuration_that_changes_nothing_but_bookkeeping_is_no_difference() {
        let object = |outcome: Outcome, unified_diff: &str| v1::AppliedObject {
            outcome: outcome.into(),
            unified_diff: unified_diff.to_owned(),
            ..v1::AppliedObject::default()
        };
        assert!(!is_another(&object(Outcome::Unchanged, "")));
        assert!(!is_another(&object(Outcome::Configured, "")));
        assert!(is_another(&object(Outcome::Configured, "@@")));
        assert!(is_another(&object(Outcome::Created, "")));
    }
}
