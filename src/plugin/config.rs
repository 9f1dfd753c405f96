//! The configuration of plugins: the key `stepPlugins` of the ConfigMap argo-rollouts-config (contract A13).
//!
//! Pure. An entry that cannot be used takes nothing but itself away, and says why.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::cut;
use crate::plan::{KnownPlugins, PluginState};

/// How an entry says where its executable lies.
const FILE: &str = "file://";

/// What an entry may have. `headersFrom` is for downloads: there are none, so that it says nothing.
const FIELDS: [&str; 6] = ["name", "location", "sha256", "args", "headersFrom", "disabled"];

/// How much of a value a message quotes.
const QUOTED: usize = 200;

/// The plugins that are configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    by_name: BTreeMap<String, Configured>,
    fault: Option<String>,
}

/// What is configured under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Configured {
    /// A program.
    Program(Program),
    /// Nothing: it is disabled.
    Disabled,
    /// Nothing that can be used, for this reason.
    Unusable(String),
}

/// A program to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The executable; absolute.
    pub path: PathBuf,
    /// The digest that its content must have: 64 hexadecimal digits in lower case.
    pub sha256: Option<String>,
    /// Its arguments.
    pub args: Vec<String>,
}

impl Configuration {
    /// Reads the text of the key `stepPlugins`; `None` where there is no such key or no ConfigMap.
    #[must_use]
    pub fn read(text: Option<&str>) -> Self {
        let entries = match text.map(entries) {
            None => return Self::default(),
            Some(Ok(entries)) => entries,
            Some(Err(fault)) => return Self { fault: Some(fault), ..Self::default() },
        };
        let mut configuration = Self::default();
        let mut faults = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let place = format!("stepPlugins[{index}]");
            match name(entry) {
                Ok(name) => configuration.add(&name, &place, entry),
                Err(fault) => faults.push(format!("{place}{fault}")),
            }
        }
        configuration.fault = (!faults.is_empty()).then(|| faults.join("; "));
        configuration
    }

    fn add(&mut self, name: &str, place: &str, entry: &Value) {
        let configured = if self.by_name.contains_key(name) {
            let remedy = "is there more than once, and none of them counts: keep one of them";
            Configured::Unusable(format!("{place}.name: {name:?} {remedy}"))
        } else {
            configured(entry).unwrap_or_else(|fault| Configured::Unusable(format!("{place} ({name}){fault}")))
        };
        self.by_name.insert(name.to_owned(), configured);
    }

    /// What a plan is to know of it.
    #[must_use]
    pub(super) fn known(&self) -> KnownPlugins {
        let by_name = self.by_name.iter().map(|(name, configured)| {
            let state = match configured {
                Configured::Program(_) => PluginState::Ready,
                Configured::Disabled => PluginState::Disabled,
                Configured::Unusable(reason) => PluginState::Unusable(reason.clone()),
            };
            (name.clone(), state)
        });
        KnownPlugins { by_name: by_name.collect(), fault: self.fault.clone() }
    }

    /// The programs by their plugins' names.
    pub(super) fn programs(self) -> impl Iterator<Item = (String, Program)> {
        self.by_name.into_iter().filter_map(|(name, configured)| match configured {
            Configured::Program(program) => Some((name, program)),
            Configured::Disabled | Configured::Unusable(_) => None,
        })
    }
}

fn entries(text: &str) -> Result<Vec<Value>, String> {
    match serde_saphyr::from_str::<Value>(text) {
        Ok(Value::Array(entries)) => Ok(entries),
        Ok(Value::Null) => Ok(Vec::new()),
        Ok(other) => Err(format!("stepPlugins is {}; it must be a list of plugins", quoted(&other))),
        Err(error) => Err(format!("stepPlugins is not YAML: {}", error.without_snippet())),
    }
}

/// The name of an entry. Faults begin with the field, as those below do.
fn name(entry: &Value) -> Result<String, String> {
    let Some(fields) = entry.as_object() else {
        return Err(format!(" is {}; it must have the fields {}", quoted(entry), FIELDS.join(", ")));
    };
    let name = text(fields, "name")?.unwrap_or_default();
    let is_word = |word: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !word.is_empty() && word.chars().all(is_allowed)
    };
    match name.split_once('/') {
        Some((namespace, short)) if is_word(namespace) && is_word(short) => Ok(name.to_owned()),
        _ => {
            let remedy = "must be two words with a slash between, such as acme/smoke-test";
            Err(format!(".name is {}; it {remedy}", cut(&format!("{name:?}"), QUOTED)))
        }
    }
}

fn configured(entry: &Value) -> Result<Configured, String> {
    let none = Map::new();
    let fields = entry.as_object().unwrap_or(&none);
    if let Some(unknown) = fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
        let unknown = cut(unknown, QUOTED);
        return Err(format!(": there is no field {unknown:?}; a plugin has {}", FIELDS.join(", ")));
    }
    match fields.get("disabled") {
        None | Some(Value::Null | Value::Bool(false)) => {}
        Some(Value::Bool(true)) => return Ok(Configured::Disabled),
        Some(other) => return Err(format!(".disabled is {}; it must be true or false", quoted(other))),
    }
    Ok(Configured::Program(Program {
        path: location(text(fields, "location")?.unwrap_or_default())?,
        sha256: sha256(text(fields, "sha256")?.unwrap_or_default())?,
        args: args(fields.get("args"))?,
    }))
}

fn location(location: &str) -> Result<PathBuf, String> {
    let quoted = cut(&format!("{location:?}"), QUOTED);
    if location.starts_with("http://") || location.starts_with("https://") {
        let remedy =
            "put the executable into the image or mount it into the pod, and give its path as file:///path";
        return Err(format!(".location is {quoted}; plugins are not downloaded: {remedy}"));
    }
    let path = location.strip_prefix(FILE).map(|path| percent_decode_str(path).decode_utf8());
    match path {
        Some(Ok(path)) if Path::new(&*path).is_absolute() && !path.contains('\0') => {
            Ok(PathBuf::from(path.into_owned()))
        }
        _ => Err(format!(".location is {quoted}; it must be file:// and an absolute path: file:///path")),
    }
}

fn sha256(digits: &str) -> Result<Option<String>, String> {
    match digits.len() {
        0 => Ok(None),
        64 if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => Ok(Some(digits.to_ascii_lowercase())),
        _ => {
            let remedy = "it must be 64 hexadecimal digits, as sha256sum prints them";
            Err(format!(".sha256 is {}; {remedy}", cut(&format!("{digits:?}"), QUOTED)))
        }
    }
}

fn args(args: Option<&Value>) -> Result<Vec<String>, String> {
    let items = match args {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(format!(".args is {}; it must be a list of strings", quoted(other))),
    };
    let argument = |(index, item): (usize, &Value)| match item {
        Value::String(argument) if !argument.contains('\0') => Ok(argument.clone()),
        other => {
            Err(format!(".args[{index}] is {}; it must be a string: put it between quotes", quoted(other)))
        }
    };
    items.iter().enumerate().map(argument).collect()
}

/// The text of a field; `None` where it is not given.
fn text<'a>(fields: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>, String> {
    match fields.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => {
            Err(format!(".{field} is {}; it must be a string: put it between quotes", quoted(other)))
        }
    }
}

fn quoted(value: &Value) -> String {
    cut(&value.to_string(), QUOTED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(text: &str) -> KnownPlugins {
        Configuration::read(Some(text)).known()
    }

    fn reason(entry: &str) -> String {
        match known(entry).by_name.into_values().next() {
            Some(PluginState::Unusable(reason)) => reason,
            other => panic!("{entry}: {other:?}"),
        }
    }

    #[test]
    fn an_entry_says_which_program_is_started_and_how() {
        let digest = "0123456789ABCDEF".repeat(4);
        let text = format!(
            "- name: acme/smoke\n  location: file:///opt/my%20plugins/smoke\n  sha256: {digest}\n  \
             args: [--loud, '3']\n  headersFrom: [{{secretRef: {{name: x}}}}]\n- name: acme/plain\n  location: file:///p\n  disabled: false\n"
        );
        let programs: BTreeMap<_, _> = Configuration::read(Some(&text)).programs().collect();
        let smoke = Program {
            path: PathBuf::from("/opt/my plugins/smoke"),
            sha256: Some(digest.to_lowercase()),
            args: vec!["--loud".to_owned(), "3".to_owned()],
        };
        let plain = Program { path: PathBuf::from("/p"), sha256: None, args: Vec::new() };
        let expected = [("acme/smoke".to_owned(), smoke), ("acme/plain".to_owned(), plain)];
        assert_eq!(programs, BTreeMap::from(expected));
    }

    #[test]
    fn without_entries_there_are_no_plugins_and_no_fault() {
        for text in [None, Some(""), Some("# none yet\n"), Some("[]")] {
            assert_eq!(Configuration::read(text).known(), KnownPlugins::default(), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_a_list_in_yaml_is_a_fault_of_the_whole() {
        let fault = known("- name: [").fault.expect("a fault");
        assert!(fault.starts_with("stepPlugins is not YAML: "), "{fault}");
        let fault = known("name: acme/smoke").fault.expect("a fault");
        assert_eq!(fault, r#"stepPlugins is {"name":"acme/smoke"}; it must be a list of plugins"#);
    }

    #[test]
    fn an_entry_without_a_usable_name_is_a_fault_and_leaves_the_others_alone() {
        let known = known(
            "- name: smoke\n  location: file:///a\n- acme/x\n- location: file:///a\n- name: a/b/c\n- name: 7\n\
             - name: acme/good\n  location: file:///a\n",
        );
        assert_eq!(known.by_name, BTreeMap::from([("acme/good".to_owned(), PluginState::Ready)]));
        let fault = known.fault.expect("a fault");
        for part in [
            "stepPlugins[0].name is \"smoke\"; it must be two words",
            "stepPlugins[1] is \"acme/x\"; it must have the fields name, ",
            "stepPlugins[2].name is \"\"; it must",
            "stepPlugins[3].name is \"a/b/c\"; it must",
            "stepPlugins[4].name is 7; it must be a string",
        ] {
            assert!(fault.contains(part), "{part}: {fault}");
        }
    }

    #[test]
    fn a_plugin_that_would_be_downloaded_is_refused_with_the_remedy() {
        for location in ["http://example.com/p", "https://example.com/p"] {
            let reason = reason(&format!("- name: acme/smoke\n  location: {location}\n"));
            let said =
                format!("stepPlugins[0] (acme/smoke).location is {location:?}; plugins are not downloaded");
            assert!(reason.starts_with(&said), "{reason}");
            assert!(reason.ends_with("give its path as file:///path"), "{reason}");
        }
    }

    #[test]
    fn a_fault_names_entry_field_value_and_remedy() {
        for (fields, said) in [
            ("", ".location is \"\"; it must be file:// and an absolute path"),
            ("location: file://./p", ".location is \"file://./p\"; it must be file:// and"),
            ("location: /p", ".location is \"/p\"; it must be file:// and"),
            ("location: 7", ".location is 7; it must be a string"),
            ("location: file:///p%00", ".location is \"file:///p%00\"; it must be file:// and"),
            ("location: file:///p, sha256: abc", ".sha256 is \"abc\"; it must be 64 hexadecimal digits"),
            ("location: file:///p, sha256: 12", ".sha256 is 12; it must be a string: put it between quotes"),
            ("location: file:///p, args: -v", ".args is \"-v\"; it must be a list of strings"),
            ("location: file:///p, args: [-v, 3]", ".args[1] is 3; it must be a string: put it between"),
            ("location: file:///p, disabled: maybe", ".disabled is \"maybe\"; it must be true or false"),
            ("location: file:///p, sha265: x", ": there is no field \"sha265\"; a plugin has name, location"),
        ] {
            let reason = reason(&format!("- {{name: acme/smoke, {fields}}}\n"));
            let said = format!("stepPlugins[0] (acme/smoke){said}");
            assert!(reason.starts_with(&said), "{fields}: {reason}");
        }
    }

    #[test]
    fn a_name_that_is_there_twice_is_unusable() {
        let known = known("- {name: a/b, location: file:///p}\n- {name: a/b, location: file:///q}\n");
        let Some(PluginState::Unusable(reason)) = known.by_name.get("a/b") else { panic!("{known:?}") };
        assert!(reason.starts_with("stepPlugins[1].name: \"a/b\" is there more than once"), "{reason}");
        assert_eq!(known.fault, None);
    }

    #[test]
    fn what_a_disabled_plugin_would_be_started_as_does_not_matter() {
        let known = known("- {name: a/b, location: https://example.com, disabled: true}\n");
        assert_eq!(known.by_name, BTreeMap::from([("a/b".to_owned(), PluginState::Disabled)]));
    }

    #[test]
    fn a_long_value_is_quoted_in_part() {
        let reason = reason(&format!("- {{name: a/b, location: 'x{}'}}\n", "ü".repeat(1000)));
        assert!(reason.chars().count() < 400, "{reason}");
    }
}
