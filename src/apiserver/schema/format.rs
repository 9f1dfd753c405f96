//! String formats that custom resource schemas may ask for.
//!
//! The list is that of apiextensions-apiserver's `supportedVersionedFormats`; formats that are not in it,
//! `int32` and `int64` among them, are not checked, there as here. Of the rarer ones (ISBN, credit cards,
//! colours) none is checked here.

use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use jiff::civil::Date;
use k8s_openapi::ByteString;
use serde_json::Value;

use crate::apiserver::names;

/// A format that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    DateTime,
    Date,
    Duration,
    Byte,
    Ipv4,
    Ipv6,
    Uuid,
    Uri,
    Hostname,
    ShortName,
    LongName,
}

impl Format {
    /// The format of this name, if it is one that is checked; dashes do not matter.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.replace('-', "").as_str() {
            "datetime" => Self::DateTime,
            "date" => Self::Date,
            "duration" => Self::Duration,
            "byte" => Self::Byte,
            "ipv4" => Self::Ipv4,
            "ipv6" => Self::Ipv6,
            "uuid" => Self::Uuid,
            "uri" => Self::Uri,
            "hostname" => Self::Hostname,
            "k8sshortname" => Self::ShortName,
            "k8slongname" => Self::LongName,
            _ => return None,
        })
    }

    /// The name that messages show.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::DateTime => "date-time",
            Self::Date => "date",
            Self::Duration => "duration",
            Self::Byte => "byte",
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
            Self::Uuid => "uuid",
            Self::Uri => "uri",
            Self::Hostname => "hostname",
            Self::ShortName => "k8s-short-name",
            Self::LongName => "k8s-long-name",
        }
    }

    pub(super) fn accepts(self, text: &str) -> bool {
        match self {
            Self::DateTime => text.parse::<Timestamp>().is_ok(),
            Self::Date => text.len() == 10 && text.parse::<Date>().is_ok(),
            Self::Duration => is_duration(text),
            Self::Byte => serde_json::from_value::<ByteString>(Value::from(text)).is_ok(),
            Self::Ipv4 => text.parse::<Ipv4Addr>().is_ok(),
            Self::Ipv6 => text.parse::<Ipv6Addr>().is_ok(),
            Self::Uuid => uuid::Uuid::parse_str(text).is_ok() && !text.starts_with(['{', 'u']),
            Self::Uri => {
                text.starts_with('/') || text.parse::<http::Uri>().is_ok_and(|u| u.scheme().is_some())
            }
            Self::Hostname => names::dns_subdomain(&text.to_ascii_lowercase()).is_empty(),
            Self::ShortName => names::dns_label(text).is_empty(),
            Self::LongName => names::dns_subdomain(text).is_empty(),
        }
    }
}

/// Go's time.ParseDuration, or one number with a unit spelled out (`3 minutes`, `2d`).
fn is_duration(text: &str) -> bool {
    is_go_duration(text) || is_spelled_duration(text)
}

fn is_go_duration(text: &str) -> bool {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let has_digit = number.bytes().any(|c| c.is_ascii_digit());
        if !has_digit || number.matches('.').count() > 1 || !UNITS.contains(&unit) {
            return false;
        }
        rest = next;
    }
    true
}

fn is_spelled_duration(text: &str) -> bool {
    const UNITS: [&str; 8] = ["nano", "micro", "milli", "second", "minute", "hour", "day", "week"];
    const SHORT: [&str; 7] = ["ns", "us", "ms", "s", "m", "h", "d"];
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_ascii_lowercase();
    !number.is_empty()
        && (SHORT.contains(&unit.as_str())
            || UNITS.iter().any(|u| unit == *u || unit == format!("{u}s") || unit == format!("{u}seconds")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_and_refuse() {
        let cases = [
            (Format::DateTime, "2024-01-02T03:04:05Z", true),
            (Format::DateTime, "2024-01-02T03:04:05.123+02:00", true),
            (Format::DateTime, "x", false),
            (Format::Date, "2020-12-01", true),
            (Format::Date, "2020-13-01", false),
            (Format::Duration, "1h2m", true),
            (Format::Duration, "-1.5s", true),
            (Format::Duration, "3 minutes", true),
            (Format::Duration, "1x", false),
            (Format::Duration, "", false),
            (Format::Byte, "Yg==", true),
            (Format::Byte, "!", false),
            (Format::Ipv4, "10.0.0.1", true),
            (Format::Ipv4, "10.0.0", false),
            (Format::Uuid, "cb522073-d3d0-4a6a-b141-817ab2e884d3", true),
            (Format::Uuid, "cb52", false),
            (Format::Uri, "https://a.b/c", true),
            (Format::Uri, "a b", false),
            (Format::ShortName, "a.b", false),
            (Format::LongName, "a.b", true),
        ];
        for (format, text, accepted) in cases {
            assert_eq!(format.accepts(text), accepted, "{format:?} {text:?}");
        }
    }

    #[test]
    fn number_formats_are_not_checked() {
        assert_eq!(Format::named("int32"), None);
        assert_eq!(Format::named("date-time"), Some(Format::DateTime));
    }
}
