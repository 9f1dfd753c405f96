//! Programs: what a rollout is like, what is done to it when, and what goes wrong meanwhile; all from one seed.

use std::time::Duration;

use rolloutd::simcluster::{Behaviour, ImageMatch, Outcome, Rule};
use serde_json::{Value, json};

use crate::features::Features;
use crate::labels::Labels;
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
    pub labels: Labels,
    pub features: Features,
}

#[derive(Clone, Debug)]
pub enum Strategy {
    Canary { limits: Limits, steps: Vec<Value> },
    BlueGreen { more: Value },
}

/// maxSurge and maxUnavailable, numbers or percentages, or null; never both literally 0.
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
    Call(Call),
    Abort,
    Retry,
    Promote,
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
    /// Metadata of the leading version's pods, and of those of one that is on its way.
    ChangeMetadata([Option<Value>; 2]),
    /// Whether pods carry the status label.
    StatusLabels(bool),
    /// Environments of the leading version, and of one that is on its way.
    ChangeEnvironment([Option<Value>; 2]),
    /// A label that ReplicaSets inherit.
    ChangeCrew(Option<u32>),
    LabelSet(usize),
    TakeHashFromPod(usize),
    TakeHashFromSet(usize),
    ResizeSet(usize, i32),
    /// With its pods, at once or before it, or without them.
    DeleteSet(usize, Deletion),
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

/// What becomes of the pods of a ReplicaSet that somebody deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    Background,
    Foreground,
    Orphan,
}

/// A call of the API.
#[derive(Clone, Debug)]
pub enum Call {
    SetImage(Fortune),
    Undo,
    Promote,
    PromoteFull,
    PromoteTo(i32),
    Abort,
    Retry,
    Pause,
    Resume,
    Scale(i32),
    Restart,
}

impl Act {
    /// Whether pods may fail by it.
    pub fn disturbs_pods(&self) -> bool {
        matches!(self, Self::DeletePod(_) | Self::CrashPod(_) | Self::UnreadyPod(_) | Self::LoseNode(_))
            || self.disturbs_sizes(true)
    }

    /// Whether others change by it what sizes are decided on. A canary here has no Services.
    pub fn disturbs_sizes(&self, is_blue_green: bool) -> bool {
        match self {
            Self::TakeHashFromPod(_)
            | Self::TakeHashFromSet(_)
            | Self::ResizeSet(..)
            | Self::DeleteSet(..) => true,
            Self::RedirectService | Self::DeleteService => is_blue_green,
            _ => false,
        }
    }

    /// Whether another version may begin by it.
    pub fn revises(&self) -> bool {
        matches!(
            self,
            Self::Revise(_)
                | Self::Undo(_)
                | Self::ChangeSteps(_)
                | Self::Call(Call::SetImage(_) | Call::Undo)
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
        let mut manifest = json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout", "metadata": { "name": "web" }, "spec": spec,
        });
        self.labels.put_into(&mut manifest);
        self.features.put_into(&mut manifest);
        manifest
    }
}

impl Strategy {
    fn value(&self) -> Value {
        match self {
            Self::Canary { limits, steps } => {
                let mut canary = limits.patch();
                canary["steps"] = json!(steps);
                if let Some(fields) = canary.as_object_mut() {
                    fields.retain(|_, value| !value.is_null());
                }
                json!({ "canary": canary })
            }
            Self::BlueGreen { more } => json!({ "blueGreen": more }),
        }
    }
}

impl Limits {
    /// As a merge patch of the canary: null where there is none.
    pub fn patch(&self) -> Value {
        json!({ "maxSurge": self.surge, "maxUnavailable": self.unavailable })
    }
}

/// Draws programs.
struct Draw(fastrand::Rng);

impl Program {
    /// The program of a seed.
    pub fn of(seed: u64) -> Self {
        let mut draw = Draw(fastrand::Rng::with_seed(seed));
        let shape = draw.shape();
        // In every second program nobody fails or meddles so that sizes could not be judged.
        let is_orderly = draw.one_in(2);
        let mut acts = Vec::new();
        // In every second one the first version is up before anything is done.
        let mut pause = if draw.one_in(2) { Duration::from_secs(90) } else { draw.gap() };
        for _ in 0..draw.0.usize(2..=12) {
            let act = draw.act(&shape);
            if !is_orderly || !act.disturbs_pods() {
                acts.push((pause, act));
                pause = draw.gap();
            }
        }
        let (labels, changes) = Labels::draw(seed);
        for (index, change) in changes.into_iter().enumerate() {
            // Beside what is done by then.
            acts.insert((3 * index + 1).min(acts.len()), (Duration::from_millis(700), change));
        }
        let (features, changes) = Features::draw(seed);
        for (index, change) in changes.into_iter().enumerate() {
            acts.insert((2 * index + 2).min(acts.len()), (Duration::from_millis(900), change));
        }
        let shape = Shape { labels, features, ..shape };
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
            labels: Labels::default(),
            features: Features::default(),
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
        match self.0.u32(0..9) {
            0 => Value::Null,
            // Also more than there are.
            1 => json!(self.0.i32(0..=replicas + 3)),
            2..5 => json!(self.0.i32(0..=replicas.max(1))),
            _ => json!(format!("{}%", self.0.i32(0..=100))),
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
        match self.0.u32(0..21) {
            0 | 1 => Act::Abort,
            2 => Act::Retry,
            3 => Act::Undo(self.0.usize(0..4)),
            4 | 5 => Act::Promote,
            6 => Act::PromoteFull,
            7 => Act::PromoteTo(self.0.i32(0..=6)),
            8 => Act::Pause,
            9 => Act::Resume,
            10 => Act::Invalidate,
            11 if matches!(shape.strategy, Strategy::Canary { .. }) => Act::ChangeSteps(self.steps()),
            12..20 => Act::Call(self.call()),
            _ => Act::Annotate,
        }
    }

    fn call(&mut self) -> Call {
        match self.0.u32(0..12) {
            0 => Call::SetImage(self.fortune()),
            1 => Call::Undo,
            2 | 3 => Call::Promote,
            4 => Call::PromoteFull,
            5 => Call::PromoteTo(self.0.i32(0..=6)),
            6 => Call::Abort,
            7 => Call::Retry,
            8 => Call::Pause,
            9 => Call::Resume,
            10 => Call::Scale(self.0.i32(0..=12)),
            _ => Call::Restart,
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
        match self.0.u32(0..13) {
            0 => Act::LabelSet(which),
            1 => Act::TakeHashFromPod(which),
            2 => Act::ResizeSet(which, self.0.i32(0..=12)),
            3 => Act::DeleteSet(which, self.deletion()),
            12 => Act::TakeHashFromSet(which),
            4 | 5 => Act::DeletePod(which),
            6 => Act::CrashPod(which),
            7 => Act::UnreadyPod(which),
            8 => Act::RedirectService,
            9 => Act::DeleteService,
            10 => Act::CreateServices,
            _ => Act::Annotate,
        }
    }

    fn deletion(&mut self) -> Deletion {
        match self.0.u32(0..4) {
            0 => Deletion::Foreground,
            1 => Deletion::Orphan,
            _ => Deletion::Background,
        }
    }

    fn fault(&mut self) -> Act {
        match self.0.u32(0..9) {
            0 => Act::LoseNode(self.0.usize(0..3)),
            1 => Act::RestoreNodes,
            2 => Act::Quota(self.millis(1000..=90_000)),
            3 => {
                let webhook = match self.0.u32(0..4) {
                    0 => Webhook::Services,
                    1 => Webhook::Rollouts,
                    2 => Webhook::Pods,
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
