//! What is wrong with the fields of a request, gathered while it is read.

pub(in crate::api) use crate::manifest::Fault;
use crate::validate::Path;

/// The faults of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::api) struct Faults(Vec<Fault>);

impl Faults {
    /// Notes a fault.
    pub(in crate::api) fn note(&mut self, at: &Path, description: impl Into<String>) {
        self.0.push(Fault::new(at.to_string(), description));
    }

    /// The faults that are not those of what is stored already: a client that sends back what it read is not blamed for it.
    pub(in crate::api) fn beyond(self, stored: &Self) -> Vec<Fault> {
        self.0.into_iter().filter(|fault| !stored.0.contains(fault)).collect()
    }
}
