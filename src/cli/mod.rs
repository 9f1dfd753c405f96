//! `rolloutctl`: the client.
//!
//! Talks gRPC to a server and nothing else. What it shows is rendered by pure functions ([`tree`]), which `rolloutd dev`
//! uses as well.

pub mod exit;
pub mod live;
pub mod style;
pub mod tree;
mod words;
