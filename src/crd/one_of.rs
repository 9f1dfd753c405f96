//! `NotOne`: what was found where exactly one of several optional fields belongs.
//!
//! Depends on nothing. The wire has such choices as optional fields side by side (strategies, steps);
//! having none or several of them is data for a field violation and never a decoding error.

/// Not exactly one field of a choice was given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NotOne {
    /// The known fields that were given: none, or more than one.
    pub given: Vec<&'static str>,
    /// Fields beside them that this version does not know: perhaps one of those was meant.
    pub unknown: Vec<String>,
}

impl std::error::Error for NotOne {}

impl std::fmt::Display for NotOne {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.given.as_slice() {
            [] if self.unknown.is_empty() => f.write_str("exactly one is required, none was given"),
            [] => write!(
                f,
                "exactly one is required, only unknown fields were given: {}",
                self.unknown.join(", ")
            ),
            given => write!(f, "exactly one is required, {} were given: {}", given.len(), given.join(", ")),
        }
    }
}
