//! What the contract has and this version does not do yet. It is refused by name, never ignored.

use super::error::Error;
use super::status::Reason;
use crate::pb::v1::SetRolloutMetadataRequest;

/// The version that says so.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Refuses a method that does nothing yet.
fn method<A>(method: &'static str) -> Result<A, Error> {
    let message = format!("{method} is not implemented in version {VERSION}; nothing was done");
    Err(Error::new(Reason::NotImplemented, message).with("method", method).with("version", VERSION))
}

/// A request whose method does nothing yet.
pub(super) trait NotYet {
    /// Its method.
    const METHOD: &'static str;

    /// The refusal.
    fn refuse<A>(&self) -> Result<A, Error> {
        method(Self::METHOD)
    }
}

impl NotYet for SetRolloutMetadataRequest {
    const METHOD: &'static str = "SetRolloutMetadata";
}
