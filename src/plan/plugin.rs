//! Step plugins: what is asked of them, and what is made of their answers.

mod call;

pub use call::{Answer, Asked, Call, KnownPlugins, PluginState, Plugins, Reply};
