//! What is to be done about a rollout: pure.

pub mod replicas;
