//! A rollout with everything below it, drawn for people.
//!
//! Pure: a tree, a moment and a style make lines. [`super::live`] puts them on a screen; the header and the rows of
//! the tree are made in files of their own.

mod header;
mod rows;
#[cfg(test)]
pub(super) mod samples;
mod summary;

use jiff::Timestamp;

use crate::cli::style::{Line, Style};
use crate::pb::v1;

pub(super) use header::step;
pub use summary::summary;

/// The tree as lines: what the rollout is and waits for, then its revisions with their ReplicaSets and pods. Ages are
/// those at `now`. Lines are cut at `style.width` columns, and hold escape codes only where `style` has colours.
#[must_use]
pub fn render(tree: &v1::RolloutTree, now: Timestamp, style: Style) -> Vec<String> {
    let mut lines = header::lines(tree, now, style.detail);
    lines.push(Line::default());
    lines.extend(rows::lines(tree, now, style.detail));
    lines.iter().map(|line| line.paint(style)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::style::{Colours, Detail};

    fn now() -> Timestamp {
        Timestamp::from_second(samples::NOW).unwrap()
    }

    fn drawn(tree: &v1::RolloutTree, style: Style) -> String {
        render(tree, now(), style).join("\n")
    }

    #[test]
    fn a_paused_canary_shows_its_step_and_what_it_waits_for() {
        insta::assert_snapshot!(drawn(&samples::paused(), Style::PLAIN), @r#"
        Name:       web
        Namespace:  shop
        State:      Paused  CanaryPauseStep
        Strategy:   canary
        Step:       1/4 (pause: 10m)
        Weight:     20%
        Images:     shop/web:v2 (canary)
                    shop/web:v1 (stable)
        Pods:       5 desired, 5 current, 1 updated, 5 ready, 5 available
        Waiting:    step 1 is a pause of 600s (for 60s); next, in 9m: the next step runs

        NAME                STATE     READY   RESTARTS   AGE    INFO
        web                 Paused    5/5                2d7h
        ├─ revision 2                                           canary
        │  └─ web-v2        Healthy   1/1                80s
        │     └─ web-v2-a   Running   1/1     0          75s
        └─ revision 1                                           stable
           └─ web-v1        Healthy   4/4                2d7h
              ├─ web-v1-a   Running   1/1     0          2d7h
              ├─ web-v1-b   Running   1/1     0          2d7h
              ├─ web-v1-c   Running   1/1     0          2d7h
              └─ web-v1-d   Running   1/1     0          2d7h
        "#);
    }

    #[test]
    fn an_aborted_canary_shows_the_crashing_pod_the_run_and_the_old_version() {
        insta::assert_snapshot!(drawn(&samples::aborted(), Style::PLAIN), @r#"
        Name:       web
        Namespace:  shop
        State:      Degraded  RolloutAborted: Rollout aborted update to revision 2
        Strategy:   canary
        Step:       0/4 (setWeight: 20)
        Weight:     20%, going to 0%
        Images:     shop/web:v2 (canary)
                    shop/web:v1 (stable)
        Pods:       5 desired, 5 current, 1 updated, 5 ready, 5 available
        Waiting:    Rollout aborted update to revision 2; next: retry it, roll it back, or change the spec
                    ReplicaSet web-v2: 1 pods of an older version are still there

        NAME                STATE              READY   RESTARTS   AGE     INFO
        web                 Degraded           5/5                2d7h
        ├─ revision 2                                                     canary
        │  ├─ web-v2        Progressing        0/1                80s     scales down in 30s
        │  │  └─ web-v2-a   CrashLoopBackOff   0/1     3          75s     back-off 40s restarting failed container
        │  └─ web-v2-2      Failed                                70s     AnalysisRun: metric "errors" failed
        ├─ revision 1                                                     stable
        │  └─ web-v1        Healthy            4/4                2d7h
        │     ├─ web-v1-a   Running            1/1     0          2d7h
        │     ├─ web-v1-b   Running            1/1     0          2d7h
        │     ├─ web-v1-c   Running            1/1     0          2d7h
        │     └─ web-v1-d   Running            1/1     0          2d7h
        └─ revision ?                                                     old
           └─ web-v0        ScaledDown         0/0                4d15h
        "#);
    }

    #[test]
    fn the_wide_form_shows_hashes_steps_conditions_images_and_nodes() {
        let wide = Style { detail: Detail::Wide, ..Style::PLAIN };
        insta::assert_snapshot!(drawn(&samples::paused(), wide), @r#"
        Name:       web
        Namespace:  shop
        State:      Paused  CanaryPauseStep
        Strategy:   canary
        Step:       1/4 (pause: 10m)
        Weight:     20%
        Images:     shop/web:v2 (canary)
                    shop/web:v1 (stable)
        Pods:       5 desired, 5 current, 1 updated, 5 ready, 5 available
        Hashes:     v2 (new), v1 (stable)
        Generation: 4, the controller saw 4
        Etag:       e7a1
        Steps:      0 setWeight: 20 (done)
                    1 pause: 10m (now)
                    2 setWeight: 60
                    3 pause
        Conditions: Paused=True for 60s, RolloutPaused: Rollout is paused
        Waiting:    step 1 is a pause of 600s (for 60s); next, in 9m: the next step runs

        NAME                STATE     READY   RESTARTS   AGE    INFO
        web                 Paused    5/5                2d7h
        ├─ revision 2                                           canary
        │  └─ web-v2        Healthy   1/1                80s    shop/web:v2
        │     └─ web-v2-a   Running   1/1     0          75s    on node-1
        └─ revision 1                                           stable
           └─ web-v1        Healthy   4/4                2d7h   shop/web:v1
              ├─ web-v1-a   Running   1/1     0          2d7h   on node-1
              ├─ web-v1-b   Running   1/1     0          2d7h   on node-1
              ├─ web-v1-c   Running   1/1     0          2d7h   on node-1
              └─ web-v1-d   Running   1/1     0          2d7h   on node-1
        "#);
    }

    #[test]
    fn colours_add_escape_codes_and_change_no_word() {
        let coloured = drawn(&samples::aborted(), Style { colours: Colours::On, ..Style::PLAIN });
        let parts = coloured.split("\u{1b}[").enumerate();
        let words: String = parts
            .map(|(index, part)| if index == 0 { part } else { part.split_once('m').unwrap().1 })
            .collect();
        assert!(coloured.contains("\u{1b}[31mCrashLoopBackOff\u{1b}[0m"));
        assert_eq!(words, drawn(&samples::aborted(), Style::PLAIN));
    }

    #[test]
    fn lines_are_cut_at_the_width_of_the_terminal() {
        let narrow = Style { width: Some(20), ..Style::PLAIN };
        let lines = render(&samples::aborted(), now(), narrow);
        assert!(lines.iter().all(|line| crate::cli::words::width(line) <= 20), "{lines:#?}");
    }

    #[test]
    fn a_template_that_is_elsewhere_is_named() {
        let mut tree = samples::paused();
        for (kind, exists, expected) in [
            ("Deployment", true, "Template:   Deployment legacy, of which 2 pods are wanted"),
            ("PodTemplate", true, "Template:   PodTemplate legacy"),
            ("Deployment", false, "Template:   Deployment legacy, which does not exist"),
        ] {
            let (kind, name) = (kind.to_owned(), "legacy".to_owned());
            tree.workload =
                Some(v1::WorkloadSummary { kind, name, exists, replicas: 2, ..Default::default() });
            let drawn = drawn(&tree, Style::PLAIN);
            assert!(drawn.lines().any(|line| line == expected), "{expected}: {drawn}");
        }
    }

    #[test]
    fn an_empty_tree_is_drawn_without_a_panic() {
        insta::assert_snapshot!(drawn(&v1::RolloutTree::default(), Style::PLAIN), @r#"
        State:      Unknown
        Pods:       1 desired, 0 current, 0 updated, 0 ready, 0 available

        NAME   STATE     READY   RESTARTS   AGE   INFO
               Unknown   0/1                -
        "#);
    }

    #[test]
    fn the_summary_is_one_line_without_ages() {
        insta::assert_snapshot!(summary(&samples::paused()), @"web Paused (CanaryPauseStep) | step 1/4 (pause: 10m) | weight 20% | pods revision 2 canary 1/1, revision 1 stable 4/4 | waiting: step 1 is a pause of 600s");
        insta::assert_snapshot!(summary(&samples::aborted()), @"web Degraded (RolloutAborted: Rollout aborted update to revision 2) | step 0/4 (setWeight: 20) | weight 20%, going to 0% | pods revision 2 canary 0/1, revision 1 stable 4/4 | waiting: Rollout aborted update to revision 2 (and 1 more)");
        insta::assert_snapshot!(summary(&v1::RolloutTree::default()), @"Unknown | no pods");
    }
}
