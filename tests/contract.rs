//! The contract keeps its own rules: comments everywhere, names as the AIPs have them, guards on every mutation.
//!
//! Looks at the descriptor set that the build makes of proto/ and that reflection serves. Whether it keeps its promise to those who
//! use it already is for buf to say (`make buf`); here it is tried that buf would.

#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that cannot go on fails; one that is skipped says so"
)]

#[path = "contract/compatibility.rs"]
mod compatibility;
#[path = "support/tools.rs"]
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use prost::Message as _;
use prost_types::field_descriptor_proto::Type;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, ServiceDescriptorProto,
};

/// Numbers of fields in descriptors, of which the paths of comments are made (descriptor.proto).
mod part {
    pub(crate) const MESSAGE: i32 = 4;
    pub(crate) const ENUM: i32 = 5;
    pub(crate) const SERVICE: i32 = 6;
    pub(crate) const FIELD: i32 = 2;
    pub(crate) const NESTED: i32 = 3;
    pub(crate) const NESTED_ENUM: i32 = 4;
    pub(crate) const ONEOF: i32 = 8;
    pub(crate) const VALUE: i32 = 2;
    pub(crate) const METHOD: i32 = 2;
}

/// The files of the API.
fn files() -> Vec<FileDescriptorProto> {
    of_this_project(rolloutd::pb::DESCRIPTORS)
}

/// The files of the API, and of what plugins serve.
fn all_files() -> Vec<FileDescriptorProto> {
    [files(), of_this_project(rolloutd::pb::plugin::DESCRIPTORS)].concat()
}

fn of_this_project(descriptors: &[u8]) -> Vec<FileDescriptorProto> {
    let set = FileDescriptorSet::decode(descriptors).expect("the build wrote it");
    set.file.into_iter().filter(|file| file.package().starts_with("rolloutd.")).collect()
}

/// The comments of a file by path.
fn comments(file: &FileDescriptorProto) -> BTreeMap<Vec<i32>, String> {
    let locations = file.source_code_info.iter().flat_map(|info| &info.location);
    locations
        .filter_map(|location| {
            Some((location.path.clone(), location.leading_comments.clone()?.trim().to_owned()))
        })
        .collect()
}

fn extended(path: &[i32], more: &[i32]) -> Vec<i32> {
    [path, more].concat()
}

fn index(position: usize) -> i32 {
    i32::try_from(position).expect("few enough")
}

/// Everything in a file that a caller reads, by name, with its path.
fn named(file: &FileDescriptorProto) -> Vec<(String, Vec<i32>)> {
    let mut all = Vec::new();
    for (position, message) in file.message_type.iter().enumerate() {
        in_message(message, message.name(), &[part::MESSAGE, index(position)], &mut all);
    }
    for (position, enumeration) in file.enum_type.iter().enumerate() {
        in_enum(enumeration, enumeration.name(), &[part::ENUM, index(position)], &mut all);
    }
    for (position, service) in file.service.iter().enumerate() {
        let path = [part::SERVICE, index(position)];
        all.push((service.name().to_owned(), path.to_vec()));
        for (position, method) in service.method.iter().enumerate() {
            let name = format!("{}.{}", service.name(), method.name());
            all.push((name, extended(&path, &[part::METHOD, index(position)])));
        }
    }
    all
}

fn in_message(message: &DescriptorProto, name: &str, path: &[i32], all: &mut Vec<(String, Vec<i32>)>) {
    all.push((name.to_owned(), path.to_vec()));
    for (position, field) in message.field.iter().enumerate() {
        all.push((format!("{name}.{}", field.name()), extended(path, &[part::FIELD, index(position)])));
    }
    for (position, oneof) in message.oneof_decl.iter().enumerate() {
        // One that the compiler made for `optional` begins with an underscore.
        if !oneof.name().starts_with('_') {
            all.push((format!("{name}.{}", oneof.name()), extended(path, &[part::ONEOF, index(position)])));
        }
    }
    for (position, nested) in message.nested_type.iter().enumerate() {
        let is_map = nested.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry);
        if !is_map {
            let name = format!("{name}.{}", nested.name());
            in_message(nested, &name, &extended(path, &[part::NESTED, index(position)]), all);
        }
    }
    for (position, nested) in message.enum_type.iter().enumerate() {
        let name = format!("{name}.{}", nested.name());
        in_enum(nested, &name, &extended(path, &[part::NESTED_ENUM, index(position)]), all);
    }
}

fn in_enum(enumeration: &EnumDescriptorProto, name: &str, path: &[i32], all: &mut Vec<(String, Vec<i32>)>) {
    all.push((name.to_owned(), path.to_vec()));
    for (position, value) in enumeration.value.iter().enumerate() {
        all.push((format!("{name}.{}", value.name()), extended(path, &[part::VALUE, index(position)])));
    }
}

#[test]
fn everything_has_a_comment_that_is_a_sentence() {
    let mut missing = Vec::new();
    for file in all_files() {
        let comments = comments(&file);
        for (name, path) in named(&file) {
            let comment = comments.get(&path).map(String::as_str).unwrap_or_default();
            if !comment.ends_with(['.', ')', '`']) {
                missing.push(format!("{}: {name}: {comment:?}", file.name()));
            }
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

/// All enums with their names.
fn enums() -> Vec<EnumDescriptorProto> {
    fn of(message: &DescriptorProto, found: &mut Vec<EnumDescriptorProto>) {
        found.extend(message.enum_type.iter().cloned());
        message.nested_type.iter().for_each(|nested| of(nested, found));
    }
    let mut found = Vec::new();
    for file in all_files() {
        found.extend(file.enum_type.iter().cloned());
        file.message_type.iter().for_each(|message| of(message, &mut found));
    }
    found
}

fn upper_snake_case(camel: &str) -> String {
    let mut snake = String::new();
    for (position, character) in camel.chars().enumerate() {
        if character.is_uppercase() && position > 0 {
            snake.push('_');
        }
        snake.push(character.to_ascii_uppercase());
    }
    snake
}

#[test]
fn enum_values_bear_their_enums_name_and_zero_is_unspecified() {
    let enums = enums();
    assert!(enums.len() > 8, "{}", enums.len());
    for enumeration in enums {
        let prefix = upper_snake_case(enumeration.name());
        let zero = enumeration.value.iter().find(|value| value.number() == 0).expect("proto3 has a zero");
        assert_eq!(zero.name(), format!("{prefix}_UNSPECIFIED"));
        for value in &enumeration.value {
            assert!(value.name().starts_with(&format!("{prefix}_")), "{} in {prefix}", value.name());
        }
    }
}

fn services() -> Vec<(FileDescriptorProto, ServiceDescriptorProto)> {
    files()
        .into_iter()
        .flat_map(|file| file.service.clone().into_iter().map(move |service| (file.clone(), service)))
        .collect()
}

/// All methods with their comments.
fn methods() -> Vec<(MethodDescriptorProto, String)> {
    let mut methods = Vec::new();
    for (file, service) in services() {
        let comments = comments(&file);
        let position = file.service.iter().position(|other| other.name() == service.name());
        let path = [part::SERVICE, index(position.expect("it is one of them"))];
        for (position, method) in service.method.iter().enumerate() {
            let comment = comments.get(&extended(&path, &[part::METHOD, index(position)]));
            methods.push((method.clone(), comment.cloned().unwrap_or_default()));
        }
    }
    methods
}

#[test]
fn every_method_names_its_codes_and_its_effect() {
    const CODES: [&str; 9] = [
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "ABORTED",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNAVAILABLE",
        "RESOURCE_EXHAUSTED",
        "UNIMPLEMENTED",
    ];
    for (method, comment) in methods() {
        let name = method.name();
        // What takes nothing can refuse nothing.
        if name != "GetServerInfo" {
            let (_, codes) = comment.split_once("Codes: ").unwrap_or_else(|| panic!("{name} names no codes"));
            assert!(
                codes.starts_with(|_| CODES.iter().any(|code| codes.starts_with(code))),
                "{name}: {codes}"
            );
        }
        let reads = ["Get", "List", "Diff", "Explain"].iter().any(|verb| name.starts_with(verb));
        if reads {
            assert!(comment.contains("Reads only."), "{name} says that it reads only");
        } else if !name.starts_with("Watch") && name != "PlanRollout" {
            assert!(comment.contains("dempotent"), "{name} says what a repetition does");
        }
    }
}

#[test]
fn methods_and_their_messages_are_named_as_the_aips_have_it() {
    const VERBS: [&str; 19] = [
        "Abort", "Apply", "Create", "Delete", "Diff", "Explain", "Get", "List", "Pause", "Plan", "Promote",
        "Restart", "Resume", "Retry", "Rollback", "Scale", "Set", "Update", "Watch",
    ];
    for (method, _) in methods() {
        let name = method.name();
        assert!(VERBS.iter().any(|verb| name.starts_with(verb)), "{name} begins with a verb");
        assert_eq!(method.input_type(), format!(".rolloutd.v1.{name}Request"));
        assert_eq!(method.output_type(), format!(".rolloutd.v1.{name}Response"));
        assert_eq!(method.server_streaming(), name.starts_with("Watch"), "{name}");
        assert!(!method.client_streaming(), "{name}");
    }
}

/// The fields of each top-level message.
fn messages() -> BTreeMap<String, Vec<FieldDescriptorProto>> {
    let messages = files().into_iter().flat_map(|file| file.message_type);
    messages.map(|message| (message.name().to_owned(), message.field)).collect()
}

#[test]
fn what_plugins_serve_is_no_part_of_the_api() {
    let packages = |files: Vec<FileDescriptorProto>| -> BTreeSet<String> {
        files.iter().map(|file| file.package().to_owned()).collect()
    };
    assert_eq!(packages(files()), BTreeSet::from(["rolloutd.v1".to_owned()]));
    let plugins = of_this_project(rolloutd::pb::plugin::DESCRIPTORS);
    let methods = plugins.iter().flat_map(|file| &file.service).flat_map(|service| &service.method);
    let names: Vec<&str> = methods.map(MethodDescriptorProto::name).collect();
    assert_eq!(names, ["Run", "Terminate", "Abort"]);
    assert_eq!(packages(plugins), BTreeSet::from(["rolloutd.plugin.v1".to_owned()]));
}

#[test]
fn mutations_have_their_guards() {
    let messages = messages();
    let fields = |name: &str| -> BTreeSet<String> {
        messages[name].iter().map(|field| field.name().to_owned()).collect()
    };
    let reads = ["Get", "List", "Watch", "Diff", "Explain", "Plan"];
    let mut count = 0;
    for (method, _) in methods() {
        let name = method.name();
        if reads.iter().any(|verb| name.starts_with(verb)) {
            continue;
        }
        count += 1;
        let request = fields(&format!("{name}Request"));
        let mut guards = vec!["request_id", "validate_only"];
        // What is created has no etag yet; an update carries it in the resource, a manifest as metadata.resourceVersion.
        if !["CreateRollout", "UpdateRollout", "ApplyManifest"].contains(&name) {
            guards.push("etag");
        }
        // There is nothing left whose settling one could wait for.
        if name != "DeleteRollout" {
            guards.push("wait");
        }
        for guard in guards {
            assert!(request.contains(guard), "{name}Request has {guard}");
        }
        if name != "DeleteRollout" {
            let answer = fields(&format!("{name}Response"));
            for field in ["warnings", "consistency_token"] {
                assert!(answer.contains(field), "{name}Response has {field}");
            }
        }
    }
    assert_eq!(count, 14, "every mutation was looked at");
    assert!(fields("Rollout").contains("etag"));
}

#[test]
fn lists_have_pages() {
    let messages = messages();
    for (method, _) in methods().into_iter().filter(|(method, _)| method.name().starts_with("List")) {
        let has = |message: &str, field: &str, kind: Type| {
            let found = messages[message].iter().find(|candidate| candidate.name() == field);
            let found = found.unwrap_or_else(|| panic!("{message} has {field}"));
            assert_eq!(found.r#type(), kind, "{message}.{field}");
        };
        let name = method.name();
        has(&format!("{name}Request"), "page_size", Type::Int32);
        has(&format!("{name}Request"), "page_token", Type::String);
        has(&format!("{name}Response"), "next_page_token", Type::String);
    }
}

#[test]
fn the_same_field_has_the_same_type_wherever_it_stands() {
    let shared = [
        ("etag", Type::String),
        ("request_id", Type::String),
        ("validate_only", Type::Bool),
        ("wait", Type::Message),
        ("at_least", Type::String),
        ("consistency_token", Type::String),
        ("label_selector", Type::String),
        ("filter", Type::String),
        ("parent", Type::String),
        ("update_mask", Type::Message),
    ];
    for (message, fields) in messages() {
        for field in fields {
            if let Some((name, kind)) = shared.iter().find(|(name, _)| *name == field.name()) {
                assert_eq!(field.r#type(), *kind, "{message}.{name}");
            }
            let name = field.name();
            let is_time = field.type_name() == ".google.protobuf.Timestamp";
            assert!(!is_time || name == "time" || name.ends_with("_time"), "{message}.{name} (AIP-142)");
            assert!(!name.ends_with("_timestamp") && !name.ends_with("_at"), "{message}.{name} (AIP-142)");
        }
    }
}

/// A copy of the contract, with what buf needs to judge it.
struct Draft(tempfile::TempDir);

impl Draft {
    fn new() -> Self {
        fn copy(from: &Path, to: &Path) -> io::Result<()> {
            fs::create_dir_all(to)?;
            for entry in fs::read_dir(from)? {
                let entry = entry?;
                let target = to.join(entry.file_name());
                if entry.file_type()?.is_dir() {
                    copy(&entry.path(), &target)?;
                } else {
                    fs::copy(entry.path(), target)?;
                }
            }
            Ok(())
        }
        let draft = Self(tempfile::tempdir().expect("a folder"));
        copy(Path::new("proto"), &draft.path("proto")).expect("a copy of the contract");
        fs::copy("buf.yaml", draft.path("buf.yaml")).expect("a copy of buf's settings");
        draft
    }

    fn path(&self, within: &str) -> PathBuf {
        self.0.path().join(within)
    }

    /// Writes something else where `from` stands, which is in one place.
    fn change(self, file: &str, from: &str, to: &str) -> Self {
        let path = self.path("proto/rolloutd/v1").join(file);
        let text = fs::read_to_string(&path).expect("the contract has the file");
        assert_eq!(text.matches(from).count(), 1, "{file}: {from}");
        fs::write(path, text.replace(from, to)).expect("a copy can be written");
        self
    }

    /// What buf says; nothing when all is well.
    fn judged(&self, arguments: &[&str]) -> String {
        let mut buf = Command::new("buf");
        // Its cache lies in the home; there is nothing to fetch.
        let output = buf.args(arguments).current_dir(self.0.path()).env("HOME", self.0.path()).output();
        let output = output.expect("it was found before");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (said, complaint) = (text(&output.stdout), text(&output.stderr));
        // 100: it found something; anything else is its own trouble.
        assert!(matches!(output.status.code(), Some(0 | 100)), "{said}{complaint}");
        assert_eq!(output.status.success(), said.is_empty(), "{said}{complaint}");
        said
    }

    fn broken(&self) -> String {
        self.judged(&["breaking", "--against", "proto/released.binpb"])
    }
}

#[test]
fn the_contract_has_bufs_standard_form_and_breaks_nothing_that_was_released() {
    if !tools::has_buf() {
        return;
    }
    let draft = Draft::new();
    assert_eq!(draft.judged(&["lint"]), "");
    assert_eq!(draft.broken(), "");
    let draft = draft.change("history.proto", "string actor = 2;", "string theActor = 2;");
    assert!(draft.judged(&["lint"]).contains("lower_snake_case"));
}

#[test]
fn a_contract_that_breaks_a_promise_is_refused() {
    if !tools::has_buf() {
        return;
    }
    let actor = "string actor = 2;";
    for (file, from, to, complaint) in [
        ("history.proto", actor, "", "Previously present field \"2\" with name \"actor\""),
        (
            "history.proto",
            actor,
            "int64 actor = 2;",
            "Field \"2\" with name \"actor\" on message \"Activity\" changed type",
        ),
        ("history.proto", actor, "repeated string actor = 2;", "changed cardinality"),
        ("history.proto", actor, "string who = 2;", "changed name"),
        ("history.proto", actor, "string actor = 2 [json_name = \"who\"];", "changed option \"json_name\""),
        ("types.proto", "    OPERATOR_EXISTS = 3;\n", "", "enum value \"3\""),
        (
            "rollout_service.proto",
            "  rpc AbortRollout(AbortRolloutRequest) returns (AbortRolloutResponse);\n",
            "",
            "RPC \"AbortRollout\"",
        ),
        (
            "rollout_service.proto",
            "returns (stream WatchRolloutsResponse)",
            "returns (WatchRolloutsResponse)",
            "server streaming",
        ),
    ] {
        let said = Draft::new().change(file, from, to).broken();
        assert!(said.contains(complaint), "{to}: {said}");
    }
}

#[test]
fn a_contract_that_grows_is_not_refused() {
    if !tools::has_buf() {
        return;
    }
    let actor = "string actor = 2;";
    let grown = Draft::new()
        .change("history.proto", actor, "string actor = 2;\n  // Where they work.\n  string team = 8;")
        .change(
            "types.proto",
            "    OPERATOR_EXISTS = 3;\n",
            "    OPERATOR_EXISTS = 3;\n    OPERATOR_LIKE = 5;\n",
        );
    assert_eq!(grown.broken(), "");
}
