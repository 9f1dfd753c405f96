//! Programs: what a rollout is like, what is done to it when, and what goes wrong meanwhile; all from one seed.

use std::time::Duration;

use rolloutd::simcluster::{Behaviour, ImageMatch, Outcome, Rule};
use serde_json::{Value, json};

use crate::weather::{Storm, Webhook};

/// A program.
#[derive(Clone, Debug)]
pub struct Program {
    pub seed: u64,
    pub shape: Shape,
    /// How many control planes run; one of them leads.
    pub members: usize,
    pub pods: Pods,
    pub storm: Storm,
    /// What is done, each after a pause.
    pub acts: Vec<(Duration, Act)>,
}

/// What the rollout is like.
#[derive(Clone, Debug)]
pub struct Shape {
    pub replicas: i32,
    pub strategy: Strategy,
    pub min_ready_seconds: i32,
    pub progress_deadline_seconds: i32,
    pub revision_history_limit: Option<i32>,
}

#[derive(Clone, Debug)]
pub enum Strategy {
    Canary { limits: Limits, steps: Vec<Value> },
    BlueGreen { more: Value },
}

/// maxSurge and maxUnavailable, numbers or percentages; never both literally 0.
#[derive(Clone, Debug)]
pub struct Limits {
    pub surge: Value,
    pub unavailable: Value,
}

/// How pods behave.
#[derive(Clone, Debug)]
pub struct Pods {
    pub start_up: Duration,
    pub termination: Duration,
}

/// What becomes of the pods of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fortune {
    Good,
    NeverReady,
    CrashLoop,
    NoPull,
}

impl Fortune {
    /// The image of the `n`th version with this fortune.
    pub fn image(self, n: usize) -> String {
        let name = match self {
            Self::Good => "good",
            Self::NeverReady => "never",
            Self::CrashLoop => "crash",
            Self::NoPull => "nopull",
        };
        format!("registry.test/web:{name}-{n}")
    }
}

/// What is done, or happens, to a rollout. Numbers choose among what there is then.
#[derive(Clone, Debug)]
pub enum Act {
    Revise(Fortune),
    /// Sets the image of an earlier version.
    Undo(usize),
    UndoByRpc,
    Abort,
    Retry,
    Promote,
    PromoteByRpc,
    PromoteFull,
    PromoteTo(i32),
    Pause,
    Resume,
    Scale(i32),
    /// As an HPA does, through the scale subresource.
    Autoscale(i32),
    Restart,
    ChangeLimits(Limits),
    ChangeSteps(Vec<Value>),
    /// A minReadySeconds beyond the progress deadline: invalid.
    Invalidate,
    Annotate,
    LabelSet(usize),
    TakeHashFromPod(usize),
    ResizeSet(usize, i32),
    DeleteSet(usize),
    DeletePod(usize),
    CrashPod(usize),
    UnreadyPod(usize),
    RedirectService,
    DeleteService,
    CreateServices,
    LoseNode(usize),
    RestoreNodes,
    Quota(Duration),
    Webhook(Webhook, Duration),
    Away(Duration),
    /// The leader cannot reach the API server.
    Part(Duration),
    /// The leader stops, and hands over.
    StopLeader,
    /// The leader dies right after so many more of its writes.
    Kill(usize),
}

impl Act {
    /// Whether pods may fail by it, or others change what sizes are decided on.
    pub fn disturbs(&self) -> bool {
        matches!(
            self,
            Self::TakeHashFromPod(_)
                | Self::ResizeSet(..)
                | Self::DeleteSet(_)
                | Self::DeletePod(_)
                | Self::CrashPod(_)
                | Self::UnreadyPod(_)
                | Self::RedirectService
                | Self::DeleteService
                | Self::LoseNode(_)
        )
    }
}

impl Pods {
    pub fn behaviour(&self) -> Behaviour {
        let rule = |part: &str, outcome| Rule {
            image: ImageMatch::Contains(format!(":{part}-")),
            start_up: None,
            outcome,
        };
        Behaviour {
            start_up: self.start_up,
            termination: self.termination,
            eviction: Duration::from_secs(40),
            rules: vec![
                rule("never", Outcome::NeverReady),
                rule("crash", Outcome::CrashLoop),
                rule("nopull", Outcome::ImagePullFailure),
            ],
            ..Behaviour::default()
        }
    }
}

impl Shape {
    /// The manifest, at the first version.
    pub fn manifest(&self) -> Value {
        let mut spec = json!({
            "replicas": self.replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "minReadySeconds": self.min_ready_seconds,
            "progressDeadlineSeconds": self.progress_deadline_seconds,
            "strategy": self.strategy.value(),
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": Fortune::Good.image(1) }] },
            },
        });
        if let Some(limit) = self.revision_history_limit {
            spec["revisionHistoryLimit"] = json!(limit);
        }
        json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": { "name": "web" }, "spec": spec,
        })
    }
}

impl Strategy {
    fn value(&self) -> Value {
        match self {
            Self::Canary { limits, steps } => json!({ "canary": {
                "maxSurge": limits.surge, "maxUnavailable": limits.unavailable, "steps": steps,
            } }),
            Self::BlueGreen { more } => json!({ "blueGreen": more }),
        }
    }
}

/// Draws programs.
struct Draw(fastrand::Rng);

impl Program {
    /// The program of a seed.
    pub fn of(seed: u64) -> Self {
        let mut draw = Draw(fastrand::Rng::with_seed(seed));
        let shape = draw.shape();
        let acts = (0..draw.0.usize(2..=12)).map(|_| (draw.gap(), draw.act(&shape))).collect();
        Self {
            seed,
            members: if draw.one_in(3) { 2 } else { 1 },
            pods: Pods { start_up: draw.millis(50..=4000), termination: draw.millis(20..=3000) },
            storm: draw.storm(),
            shape,
            acts,
        }
    }
}

impl Draw {
    fn one_in(&mut self, n: u32) -> bool {
        self.0.u32(0..n) == 0
    }

    fn millis(&mut self, range: std::ops::RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.0.u64(range))
    }

    fn shape(&mut self) -> Shape {
        let replicas = self.0.i32(0..=12);
        let strategy = match self.0.u32(0..5) {
            0..3 => Strategy::Canary { limits: self.limits(replicas), steps: self.steps() },
            _ => Strategy::BlueGreen { more: self.blue_green(replicas) },
        };
        Shape {
            replicas,
            strategy,
            min_ready_seconds: if self.one_in(4) { self.0.i32(1..=4) } else { 0 },
            progress_deadline_seconds: self.0.i32(10..=60),
            // Not below scaleDownDelayRevisionLimit, which would be invalid.
            revision_history_limit: self.one_in(2).then(|| self.0.i32(2..=3)),
        }
    }

    fn limits(&mut self, replicas: i32) -> Limits {
        loop {
            let limits = Limits { surge: self.limit(replicas), unavailable: self.limit(replicas) };
            let is_none = |limit: &Value| *limit == json!(0) || *limit == json!("0%");
            if !is_none(&limits.surge) || !is_none(&limits.unavailable) {
                return limits;
            }
        }
    }

    fn limit(&mut self, replicas: i32) -> Value {
        match self.0.bool() {
            true => json!(self.0.i32(0..=replicas.max(1))),
            false => json!(format!("{}%", self.0.i32(0..=100))),
        }
    }

    fn steps(&mut self) -> Vec<Value> {
        (0..self.0.usize(0..=6))
            .map(|_| match self.0.u32(0..6) {
                0 => json!({ "pause": {} }),
                1 | 2 => json!({ "pause": { "duration": format!("{}s", self.0.i32(1..=15)) } }),
                _ => json!({ "setWeight": self.0.i32(0..=100) }),
            })
            .collect()
    }

    fn blue_green(&mut self, replicas: i32) -> Value {
        let mut more = json!({ "activeService": "active", "scaleDownDelaySeconds": self.0.i32(0..=20) });
        if !self.one_in(4) {
            more["previewService"] = json!("preview");
        }
        if self.one_in(3) {
            more["previewReplicaCount"] = json!(self.0.i32(1..=replicas.max(1)));
        }
        match self.0.u32(0..3) {
            0 => more["autoPromotionEnabled"] = json!(false),
            1 => more["autoPromotionSeconds"] = json!(self.0.i32(1..=15)),
            _ => {}
        }
        if self.one_in(4) {
            more["scaleDownDelayRevisionLimit"] = json!(self.0.i32(0..=2));
        }
        if self.one_in(4) {
            more["maxUnavailable"] = self.limit(replicas);
        }
        more
    }

    fn storm(&mut self) -> Storm {
        match self.0.u32(0..3) {
            0 => Storm::default(),
            1 => Storm {
                delay: Duration::from_millis(40),
                refused: 30,
                late: 300,
                latest: Duration::from_millis(500),
                ..Storm::default()
            },
            _ => Storm {
                refused: self.0.u32(0..=150),
                lost: self.0.u32(0..=60),
                delay: self.millis(0..=300),
                dropped: self.0.u32(0..=60),
                expired: self.0.u32(0..=200),
                late: self.0.u32(0..=500),
                latest: self.millis(0..=3000),
            },
        }
    }

    fn gap(&mut self) -> Duration {
        match self.0.u32(0..4) {
            0 => Duration::ZERO,
            1 => self.millis(0..=500),
            2 => self.millis(0..=5000),
            _ => self.millis(0..=40_000),
        }
    }

    fn act(&mut self, shape: &Shape) -> Act {
        match self.0.u32(0..100) {
            0..22 => Act::Revise(self.fortune()),
            22..45 => self.verb(shape),
            45..57 => self.size(shape),
            57..62 => Act::Restart,
            62..80 => self.meddling(),
            _ => self.fault(),
        }
    }

    fn fortune(&mut self) -> Fortune {
        match self.0.u32(0..8) {
            0 => Fortune::NeverReady,
            1 => Fortune::CrashLoop,
            2 => Fortune::NoPull,
            _ => Fortune::Good,
        }
    }

    fn verb(&mut self, shape: &Shape) -> Act {
        match self.0.u32(0..15) {
            0 | 1 => Act::Abort,
            2 => Act::Retry,
            3 => Act::Undo(self.0.usize(0..4)),
            4 => Act::UndoByRpc,
            5 | 6 => Act::Promote,
            7 => Act::PromoteByRpc,
            8 => Act::PromoteFull,
            9 => Act::PromoteTo(self.0.i32(0..=6)),
            10 => Act::Pause,
            11 => Act::Resume,
            12 => Act::Invalidate,
            13 if matches!(shape.strategy, Strategy::Canary { .. }) => Act::ChangeSteps(self.steps()),
            _ => Act::Annotate,
        }
    }

    fn size(&mut self, shape: &Shape) -> Act {
        match self.0.u32(0..5) {
            0 | 1 => Act::Scale(self.0.i32(0..=12)),
            2 | 3 => Act::Autoscale(self.0.i32(0..=12)),
            _ if matches!(shape.strategy, Strategy::Canary { .. }) => {
                Act::ChangeLimits(self.limits(shape.replicas))
            }
            _ => Act::Scale(self.0.i32(0..=12)),
        }
    }

    fn meddling(&mut self) -> Act {
        let which = self.0.usize(0..20);
        match self.0.u32(0..12) {
            0 => Act::LabelSet(which),
            1 => Act::TakeHashFromPod(which),
            2 => Act::ResizeSet(which, self.0.i32(0..=12)),
            3 => Act::DeleteSet(which),
            4 | 5 => Act::DeletePod(which),
            6 => Act::CrashPod(which),
            7 => Act::UnreadyPod(which),
            8 => Act::RedirectService,
            9 => Act::DeleteService,
            10 => Act::CreateServices,
            _ => Act::Annotate,
        }
    }

    fn fault(&mut self) -> Act {
        match self.0.u32(0..9) {
            0 => Act::LoseNode(self.0.usize(0..3)),
            1 => Act::RestoreNodes,
            2 => Act::Quota(self.millis(1000..=90_000)),
            3 => {
                let webhook = match self.0.u32(0..3) {
                    0 => Webhook::Services,
                    1 => Webhook::Rollouts,
                    _ => Webhook::ReplicaSets,
                };
                Act::Webhook(webhook, self.millis(1000..=90_000))
            }
            4 => Act::Away(self.millis(500..=240_000)),
            5 => Act::Part(self.millis(1000..=60_000)),
            6 => Act::StopLeader,
            _ => Act::Kill(self.0.usize(0..6)),
        }
    }
}
