//! argoproj.io/v1alpha1 as Rust types.
