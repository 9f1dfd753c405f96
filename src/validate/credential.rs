//! Does a value of an environment look like a credential? What rolloutd delivers as annotations and files anybody who may read pods can
//! read; a Secret is the place for what they must not.
//!
//! By names and by forms that issuers gave their tokens so that they can be found. No answer shows a value.

use std::sync::LazyLock;

use regex::Regex;

/// What names of credentials contain, in capitals.
const IN_NAMES: [&str; 14] = [
    "PASSWORD",
    "PASSWD",
    "PASSPHRASE",
    "SECRET",
    "CREDENTIAL",
    "API_KEY",
    "APIKEY",
    "PRIVATE_KEY",
    "PRIVATEKEY",
    "ACCESS_KEY",
    "ACCESSKEY",
    "ENCRYPTION_KEY",
    "SIGNING_KEY",
    "AUTH_KEY",
];

/// What words of such names end with: MAX_TOKENS is none, ACCESS_TOKEN is one.
const WORD_ENDS: [&str; 1] = ["TOKEN"];

/// Words that make such a name beside others; PWD alone is a directory.
const BESIDE_OTHERS: [&str; 2] = ["PWD", "PASS"];

static FORMS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    [
        ("a private key", r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY"),
        ("a URL with a password", r"(?i)\b[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@"),
        ("an AWS access key", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
        ("a JSON Web Token", r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
        ("a GitHub token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
        ("a GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,}"),
        ("a Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
        ("a Google API key", r"\bAIza[A-Za-z0-9_-]{35}"),
        ("a Stripe key", r"\b[rs]k_live_[A-Za-z0-9]{16,}"),
        ("an npm token", r"\bnpm_[A-Za-z0-9]{36}"),
        ("a key of an AI service", r"\bsk-[A-Za-z0-9_-]{32,}"),
        ("an Authorization header", r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9+/=._~-]{16,}"),
        ("a connection string with a password", r"(?i)\b(?:password|passwd|pwd)\s*=\s*[^;\s]"),
    ]
    .into_iter()
    .filter_map(|(what, form)| Some((what, Regex::new(form).ok()?)))
    .collect()
});

/// What an entry looks like, where it looks like a credential.
pub(super) fn suspicion(name: &str, value: &str) -> Option<String> {
    if let Some(part) = in_name(name) {
        return Some(format!("its name holds {part}"));
    }
    let form = FORMS.iter().find(|(_, form)| form.is_match(value));
    form.map(|(what, _)| format!("its value has the form of {what}"))
}

fn in_name(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_uppercase();
    let words: Vec<&str> = name.split('_').filter(|word| !word.is_empty()).collect();
    let contained = IN_NAMES.into_iter().find(|part| name.contains(part));
    let ends = || WORD_ENDS.into_iter().find(|end| words.iter().any(|word| word.ends_with(end)));
    let beside = || {
        BESIDE_OTHERS
            .into_iter()
            .find(|part| words.len() > 1 && words.last().is_some_and(|word| word == part))
    };
    contained.or_else(ends).or_else(beside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_patterns() {
        assert_eq!(FORMS.len(), 13);
    }

    #[test]
    fn names_of_credentials_are_known() {
        for name in [
            "DB_PASSWORD",
            "password",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "ACCESSTOKEN",
            "STRIPE_API_KEY",
            "ApiKey",
            "SSH_PRIVATE_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "DB_PWD",
            "SMTP_PASS",
        ] {
            assert!(suspicion(name, "x").is_some(), "{name}");
        }
        for name in
            ["PWD", "MAX_TOKENS", "LOG_LEVEL", "PASS_THROUGH", "COMPASS", "KEY", "MONKEY_MODE", "AUTHOR"]
        {
            assert_eq!(suspicion(name, "x"), None, "{name}");
        }
    }

    #[test]
    fn values_of_credentials_are_known_by_their_form() {
        let long = "a1B2".repeat(10);
        for value in [
            "-----BEGIN RSA PRIVATE KEY-----\nMII".to_owned(),
            "-----BEGIN PRIVATE KEY-----".to_owned(),
            "postgres://shop:pa55@db:5432/shop".to_owned(),
            "redis://:pa55@cache".to_owned(),
            "AKIAIOSFODNN7EXAMPLE".to_owned(),
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2ln".to_owned(),
            format!("ghp_{long}"),
            format!("github_pat_{long}"),
            format!("glpat-{long}"),
            format!("xoxb-{long}"),
            format!("AIza{}", &long[..35]),
            format!("sk_live_{long}"),
            format!("npm_{}", &long[..36]),
            format!("sk-{long}"),
            format!("Bearer {long}"),
            "Server=db;User=shop;Password=pa55;".to_owned(),
        ] {
            let why = suspicion("VALUE", &value).unwrap_or_else(|| panic!("{value}"));
            assert!(!why.contains(&value), "no answer shows it");
        }
        for value in [
            "",
            "debug",
            "http://db:5432/shop",
            "postgres://db/shop?user=shop",
            "mailto:a@b.c",
            "10:30@noon",
            "a=b;c=d",
            "-----BEGIN CERTIFICATE-----",
            "00000000-0000-0000-0000-000000000000",
        ] {
            assert_eq!(suspicion("VALUE", value), None, "{value}");
        }
    }
}
