//! Formats of names, labels and ports, with the wording of apimachinery's `util/validation`.
//!
//! Depends on nothing. Each function returns why a text is not of the format: nothing when it is.
//! [`super::metadata`] and the kinds' validation call them.

/// Longest name of a DNS label, which label values share.
const LABEL_MAX: usize = 63;
/// Longest DNS subdomain.
const SUBDOMAIN_MAX: usize = 253;
/// Longest name of a container port.
const PORT_NAME_MAX: usize = 15;

const LABEL_FORMAT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FORMAT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS_1035_FORMAT: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const KEY_FORMAT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const VALUE_FORMAT: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const CONFIG_KEY_FORMAT: &str = "[-._a-zA-Z0-9]+";

/// Why a text is refused.
pub(crate) type Reasons = Vec<String>;

/// How a kind names its objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameFormat {
    /// RFC 1123 subdomain: most kinds.
    Subdomain,
    /// RFC 1123 label: namespaces.
    Label,
    /// RFC 1035 label: Services.
    Dns1035,
    /// Anything that fits into one segment of a URL: events of old clients.
    PathSegment,
}

impl NameFormat {
    /// Why `name` may not be a name of this format; also used for `generateName`, whose suffix is missing.
    pub(crate) fn check(self, name: &str) -> Reasons {
        match self {
            Self::Subdomain => dns_subdomain(name),
            Self::Label => dns_label(name),
            Self::Dns1035 => dns_1035_label(name),
            Self::PathSegment => path_segment(name),
        }
    }

    /// As [`Self::check`], for a prefix that a random suffix follows: a trailing dash is fine then.
    pub(crate) fn check_prefix(self, prefix: &str) -> Reasons {
        if self != Self::PathSegment && prefix.len() > 1 && prefix.ends_with('-') {
            self.check(&format!("{}a", &prefix[..prefix.len() - 1]))
        } else {
            self.check(prefix)
        }
    }
}

fn is_lower_alphanumeric(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if is_lower_alphanumeric(a) && is_lower_alphanumeric(z))
        && bytes.iter().all(|&c| c == b'-' || is_lower_alphanumeric(c))
}

fn is_dns_subdomain(text: &str) -> bool {
    text.split('.').all(is_dns_label)
}

fn is_key_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(a), Some(z)) if a.is_ascii_alphanumeric() && z.is_ascii_alphanumeric())
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

fn mismatch(what: &str, examples: &[&str], format: &str) -> String {
    let examples: String = examples.iter().map(|e| format!("'{e}', ")).collect::<Vec<_>>().join(" or ");
    format!("{what} (e.g. {examples}regex used for validation is '{format}')")
}

/// RFC 1123 label, at most 63 characters.
pub(crate) fn dns_label(text: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if text.len() > LABEL_MAX {
        reasons.push(too_long(LABEL_MAX));
    }
    if !is_dns_label(text) {
        reasons.push(if is_dns_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            mismatch(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                 start and end with an alphanumeric character",
                &["my-name", "123-abc"],
                LABEL_FORMAT,
            )
        });
    }
    reasons
}

/// RFC 1123 subdomain, at most 253 characters.
pub(crate) fn dns_subdomain(text: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if text.len() > SUBDOMAIN_MAX {
        reasons.push(too_long(SUBDOMAIN_MAX));
    }
    if !is_dns_subdomain(text) {
        reasons.push(mismatch(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
             must start and end with an alphanumeric character",
            &["example.com"],
            SUBDOMAIN_FORMAT,
        ));
    }
    reasons
}

/// RFC 1035 label: as an RFC 1123 label, but starting with a letter.
pub(crate) fn dns_1035_label(text: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if text.len() > LABEL_MAX {
        reasons.push(too_long(LABEL_MAX));
    }
    if !is_dns_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        reasons.push(mismatch(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            &["my-name", "abc-123"],
            DNS_1035_FORMAT,
        ));
    }
    reasons
}

/// What may stand in one segment of a URL.
pub(crate) fn path_segment(text: &str) -> Reasons {
    match text {
        "." | ".." => vec![format!("may not be '{text}'")],
        _ => ["/", "%"]
            .into_iter()
            .filter(|part| text.contains(part))
            .map(|part| format!("may not contain '{part}'"))
            .collect(),
    }
}

/// A label or annotation key, a finalizer: a name with an optional DNS prefix.
pub(crate) fn qualified_name(text: &str) -> Reasons {
    const WHAT: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                        alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut reasons = Reasons::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                reasons.push("prefix part must be non-empty".to_owned());
            } else {
                reasons.extend(dns_subdomain(prefix).into_iter().map(|r| format!("prefix part {r}")));
            }
            name
        }
        _ => {
            let what = mismatch(WHAT, &EXAMPLES, KEY_FORMAT);
            return vec![format!(
                "a valid label key {what} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        reasons.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        reasons.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_key_name(name) {
        reasons.push(format!("name part {}", mismatch(WHAT, &EXAMPLES, KEY_FORMAT)));
    }
    reasons
}

/// The value of a label.
pub(crate) fn label_value(text: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if text.len() > LABEL_MAX {
        reasons.push(too_long(LABEL_MAX));
    }
    if !text.is_empty() && !is_key_name(text) {
        reasons.push(mismatch(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            &["MyValue", "my_value", "12345"],
            VALUE_FORMAT,
        ));
    }
    reasons
}

/// A number of percent.
pub(crate) fn percent(text: &str) -> Reasons {
    let number = text.strip_suffix('%').unwrap_or_default();
    if !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) {
        return Reasons::new();
    }
    let what = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![mismatch(what, &["1%", "93%"], "[0-9]+%")]
}

/// The reason of a `metav1.Condition`.
pub(crate) fn condition_reason(text: &str) -> Reasons {
    let bytes = text.as_bytes();
    let is_word = |c: &u8| c.is_ascii_alphanumeric() || *c == b'_';
    let fits = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(is_word)
        && bytes.iter().all(|c| is_word(c) || b",:".contains(c));
    if fits {
        return Reasons::new();
    }
    vec![mismatch(
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
         characters or '_,:', and must end with an alphanumeric character or '_'",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
    )]
}

/// A key of a ConfigMap's or Secret's data.
pub(crate) fn config_key(text: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if text.len() > SUBDOMAIN_MAX {
        reasons.push(too_long(SUBDOMAIN_MAX));
    }
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        reasons.push(mismatch(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            &["key.name", "KEY_NAME", "key-name"],
            CONFIG_KEY_FORMAT,
        ));
    }
    match text {
        "." | ".." => reasons.push(format!("must not be '{text}'")),
        _ if text.starts_with("..") => reasons.push("must not start with '..'".to_owned()),
        _ => {}
    }
    reasons
}

/// The name of an environment variable, in the relaxed form that v1.34 made the rule.
pub(crate) fn env_name(text: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if text.is_empty() {
        reasons.push("environment variable name must be non-empty".to_owned());
    }
    if text.chars().any(|c| !(' '..='~').contains(&c) || c == '=') {
        reasons.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    reasons
}

/// The name of a container's port.
pub(crate) fn port_name(text: &str) -> Reasons {
    let mut reasons = Reasons::new();
    if text.len() > PORT_NAME_MAX {
        reasons.push(too_long(PORT_NAME_MAX));
    }
    if text.is_empty() || !text.bytes().all(|c| c == b'-' || is_lower_alphanumeric(c)) {
        reasons.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        reasons.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        reasons.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        reasons.push("must not begin or end with a hyphen".to_owned());
    }
    reasons
}

/// A port number.
pub(crate) fn port_number(port: i64) -> Reasons {
    in_range(port, 1, 65535)
}

/// A number between two bounds, both included.
pub(crate) fn in_range(value: i64, least: i64, most: i64) -> Reasons {
    if (least..=most).contains(&value) {
        Reasons::new()
    } else {
        vec![format!("must be between {least} and {most}, inclusive")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_accepted_by_their_format() {
        let long = "a".repeat(64);
        let cases: [(NameFormat, &str, bool); 14] = [
            (NameFormat::Subdomain, "a.b-c.d1", true),
            (NameFormat::Subdomain, &long, true),
            (NameFormat::Subdomain, "A", false),
            (NameFormat::Subdomain, "a..b", false),
            (NameFormat::Subdomain, "-a", false),
            (NameFormat::Subdomain, "", false),
            (NameFormat::Label, "123-abc", true),
            (NameFormat::Label, "a.b", false),
            (NameFormat::Label, &long, false),
            (NameFormat::Dns1035, "abc-1", true),
            (NameFormat::Dns1035, "1abc", false),
            (NameFormat::PathSegment, "Web.17/x", false),
            (NameFormat::PathSegment, "Web_17", true),
            (NameFormat::PathSegment, "..", false),
        ];
        for (format, name, valid) in cases {
            assert_eq!(format.check(name).is_empty(), valid, "{format:?} {name:?}");
        }
    }

    #[test]
    fn a_prefix_may_end_with_a_dash() {
        assert!(NameFormat::Subdomain.check_prefix("web-").is_empty());
        assert!(!NameFormat::Subdomain.check_prefix("-").is_empty());
        assert!(!NameFormat::Subdomain.check_prefix("Web-").is_empty());
    }

    #[test]
    fn a_dotted_name_is_told_to_drop_its_dots() {
        assert_eq!(dns_label("a.b"), ["must not contain dots"]);
    }

    #[test]
    fn qualified_names_name_the_part_that_is_wrong() {
        assert!(qualified_name("rollout.argoproj.io/revision").is_empty());
        assert!(qualified_name("simple_Name.1").is_empty());
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert!(qualified_name("a/")[0].starts_with("name part must be non-empty"));
        assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist of"));
    }

    #[test]
    fn values_keys_and_ports_follow_their_formats() {
        assert!(label_value("").is_empty());
        assert!(label_value("a_B.1").is_empty());
        assert_eq!(label_value("a b").len(), 1);
        assert!(config_key("..a")[0].starts_with("must not start with"));
        assert!(env_name("my env!").is_empty());
        assert_eq!(env_name("a=b").len(), 1);
        assert!(port_name("http").is_empty());
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
    }
}
