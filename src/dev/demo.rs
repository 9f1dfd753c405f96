//! The demonstration: a canary goes from one version to the next, driven by RPCs as any client would.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tonic::transport::Channel;

use crate::cli::live::{Medium, Screen};
use crate::cli::style::{Colours, Detail};
use crate::cli::tree;
use crate::clock::Clock;
use crate::pb::v1;
use v1::promote_rollout_request::{From as SeenFrom, Target};
use v1::rollout_service_client::RolloutServiceClient;
use v1::rollout_status::State;
use v1::set_rollout_image_request::ContainerImage;

const MANIFEST: &str = include_str!("../../deploy/examples/canary.yaml");
const NAME: &str = "namespaces/default/rollouts/web";
const CONTAINER: &str = "web";
const NEW_IMAGE: &str = "nginx:1.28";

/// How long all of it may take, in real time. At normal speed it takes less than a minute.
const PATIENCE: Duration = Duration::from_secs(600);

/// How often ages on the screen move.
const REDRAW: Duration = Duration::from_secs(1);

/// Why the demonstration failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API cannot be reached.
    #[error("the API cannot be reached: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// A call was refused.
    #[error("{}", .0.message())]
    Refused(Box<tonic::Status>),
    /// The server ended the watch.
    #[error("the watch has ended")]
    Ended,
    /// It takes too long.
    #[error("not Healthy within {patience}s: {0}", patience = PATIENCE.as_secs())]
    Late(String),
    /// The terminal is gone.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

/// Where the story has got to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chapter {
    /// The first version comes up.
    First,
    /// The second has been asked for; somebody must promote it at its pause.
    Second,
    /// It was promoted, and ends by itself.
    Promoted,
}

struct Demo<'a> {
    client: RolloutServiceClient<Channel>,
    screen: Screen<io::Stdout>,
    clock: &'a Clock,
    chapter: Chapter,
    tree: v1::RolloutTree,
}

/// Tells the story on standard output.
pub(super) async fn run(api: SocketAddr, clock: &Clock, no_color: Option<&OsStr>) -> Result<(), Error> {
    let began = Instant::now();
    let out = io::stdout();
    let (medium, colours) = (Medium::of(&out), Colours::of(&out, no_color));
    let mut demo = Demo {
        client: RolloutServiceClient::connect(format!("http://{api}")).await?,
        screen: Screen::new(out, medium, colours),
        clock,
        chapter: Chapter::First,
        tree: v1::RolloutTree::default(),
    };
    match timeout_at(began + PATIENCE, demo.tell()).await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(Error::Late(tree::summary(&demo.tree))),
    }
    let took = began.elapsed().as_secs_f64();
    demo.screen.note(&format!("web is Healthy on {NEW_IMAGE}: done in {took:.1} s"))?;
    Ok(())
}

impl Demo<'_> {
    async fn tell(&mut self) -> Result<(), Error> {
        let request = v1::ApplyManifestRequest {
            parent: "namespaces/default".to_owned(),
            manifest: MANIFEST.to_owned(),
            ..Default::default()
        };
        self.client.apply_manifest(request).await?;
        self.screen.note("applied deploy/examples/canary.yaml")?;
        let request = v1::WatchRolloutTreeRequest { name: NAME.to_owned() };
        let mut trees = self.client.watch_rollout_tree(request).await?.into_inner();
        let mut tick = interval(REDRAW);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = trees.message() => {
                    self.tree = message?.ok_or(Error::Ended)?.tree.unwrap_or_default();
                    self.draw()?;
                    if self.turn_page().await? {
                        self.screen.settle();
                        return Ok(());
                    }
                }
                _ = tick.tick() => self.draw()?,
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        if self.tree.rollout.is_none() {
            return Ok(());
        }
        let frame = tree::render(&self.tree, self.clock.now(), self.screen.style(Detail::Normal));
        self.screen.show(&frame, &tree::summary(&self.tree))
    }

    /// Does what the story does next, where it is time. Says whether the story has ended.
    async fn turn_page(&mut self) -> Result<bool, Error> {
        let status =
            self.tree.rollout.as_ref().and_then(|rollout| rollout.status.clone()).unwrap_or_default();
        match (self.chapter, status.state()) {
            (Chapter::First, State::Healthy) => {
                let image = ContainerImage { container: CONTAINER.to_owned(), image: NEW_IMAGE.to_owned() };
                let request = v1::SetRolloutImageRequest {
                    name: NAME.to_owned(),
                    images: vec![image],
                    ..Default::default()
                };
                self.client.set_rollout_image(request).await?;
                self.screen.note(&format!("set image {CONTAINER}={NEW_IMAGE}"))?;
                self.chapter = Chapter::Second;
            }
            (Chapter::Second, State::Paused) => {
                let request = v1::PromoteRolloutRequest {
                    name: NAME.to_owned(),
                    from: Some(SeenFrom {
                        pod_template_hash: status.current_pod_hash.clone(),
                        step_index: status.current_step_index,
                    }),
                    target: Some(Target::Next(())),
                    ..Default::default()
                };
                self.client.promote_rollout(request).await?;
                let step = status.current_step_index.unwrap_or_default();
                self.screen.note(&format!("promoted: step {step} was a pause without an end"))?;
                self.chapter = Chapter::Promoted;
            }
            (Chapter::Promoted, State::Healthy) => return Ok(true),
            (Chapter::First | Chapter::Second | Chapter::Promoted, _) => {}
        }
        Ok(false)
    }
}
