//! How results are printed.

use clap::{Args, ValueEnum};

/// Of what has a name.
#[derive(Clone, Copy, Debug, Args)]
pub(in crate::cli) struct Print {
    /// How to print it [default: for people]
    #[arg(short, long, value_enum, value_name = "FORM")]
    pub(in crate::cli) output: Option<Format>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Format {
    /// For people, with more columns
    Wide,
    /// JSON, in protobuf's mapping
    Json,
    /// The same in YAML
    Yaml,
    /// Names alone
    Name,
}

/// Of rows without names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Rows {
    /// For people, with more columns
    Wide,
    /// JSON, in protobuf's mapping
    Json,
    /// The same in YAML
    Yaml,
}

/// Of what is either for people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Data {
    /// JSON
    Json,
    /// YAML
    Yaml,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum NameOnly {
    /// Names alone
    Name,
}
