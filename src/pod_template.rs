//! Temporary stand-in.
use serde_json::Value;
#[derive(PartialEq)]
pub enum Sameness {
    Same,
    Different,
    Undecided,
}
pub fn compare(_: &Value, _: &Value) -> Sameness {
    Sameness::Different {}
}
pub fn strip_injected(_: &mut Value, _: Option<&str>) {}
