//! The protos are what other people's programs build on: the standard compiler must read them as
//! the build does, they keep the STANDARD rules of buf's linter, and no field or value ever gets
//! another number.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{collections::BTreeSet, fs};

use contactd::pb;
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FileDescriptor, Kind, MessageDescriptor,
};
use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");

/// Every message and enum with its fields and numbers. A line may be added; a line that stands here
/// is a promise.
const NUMBERS: &str = "
WatchContactResponse: 1 Asking asking, 2 FindContactResponse answer
Asking: 
PrefetchContactsRequest: 1 User user, 2 string auth_header, 3 repeated string phone_numbers, 4 repeated string overriding_formats
PrefetchContactsResponse: 1 PrefetchStarted started, 2 PrefetchResult result, 3 PrefetchFinished finished
PrefetchStarted: 1 uint32 requested, 2 uint32 distinct, 3 uint32 already_cached
PrefetchResult: 1 string phone_number, 2 PrefetchOutcome outcome, 3 uint32 match_count, 4 string reason, 5 uint32 done, 6 uint32 total
PrefetchOutcome: 0 PREFETCH_OUTCOME_UNSPECIFIED, 1 PREFETCH_OUTCOME_FOUND, 2 PREFETCH_OUTCOME_NOT_FOUND, 3 PREFETCH_OUTCOME_ALREADY_CACHED, 4 PREFETCH_OUTCOME_INVALID_NUMBER, 5 PREFETCH_OUTCOME_FAILED
PrefetchFinished: 1 uint32 found, 2 uint32 not_found, 3 uint32 already_cached, 4 uint32 invalid, 5 uint32 failed, 6 uint32 crm_requests, 7 Duration elapsed
InvalidateContactsRequest: 1 User user, 2 PhoneNumbers numbers, 3 bool everything
PhoneNumbers: 1 repeated string phone_numbers
InvalidateContactsResponse: 
ExplainContactRequest: 1 FindContactRequest question, 2 bool live
ExplainContactResponse: 1 string reading, 2 string phone_number, 3 repeated string spellings, \
    4 repeated StoredAnswer stored, 5 CredentialState credential, 6 QuotaState quota, 7 string decision, \
    8 string because, 9 repeated CrmExchange exchanges, 10 repeated RecordVerdict records, \
    11 FindContactResponse answer, 12 uint32 exchanges_left_out, 13 uint32 records_left_out
StoredAnswer: 1 Source tier, 2 uint32 match_count, 3 bool complete, 4 Freshness freshness, 5 Duration age, \
    6 Duration fresh_for, 7 Duration served_for
CredentialState: 1 string standing, 2 bool identity_known
QuotaState: 1 uint32 limit, 2 Duration per, 3 uint32 used, 4 Duration paused_for, 5 uint32 waiting_call_pops, \
    6 uint32 waiting_background
CrmExchange: 1 string method, 2 string path, 3 uint32 status, 4 Duration took, 5 uint64 bytes
RecordVerdict: 1 string id, 2 string verdict, 3 string because
Entry: 1 bytes encoded, 2 uint32 count, 3 bool complete, 4 uint64 asked_at_ms, 5 uint32 jitter, 6 uint32 absences, \
    7 repeated string extensions, 8 uint32 quality
User: 1 string id, 2 string platform, 3 string account_id, 4 string hostname, 5 string region, 6 Struct settings, \
    7 Struct platform_additional_info
Trigger: 0 TRIGGER_UNSPECIFIED, 1 TRIGGER_INCOMING_CALL, 2 TRIGGER_MANUAL_REFRESH, 3 TRIGGER_INITIAL_MATCH
FindContactRequest: 1 User user, 2 string auth_header, 3 string phone_number, 4 repeated string overriding_formats, \
    5 bool is_extension, 6 Trigger trigger, 7 bool only_if_cached, 8 bool create_option
FindContactResponse: 1 repeated ContactInfo matched_contact_info, 2 ReturnMessage return_message, 3 Lookup lookup
ContactInfo: 1 string id, 2 string name, 3 Struct additional_info, 4 bool is_new_contact, 5 string phone, \
    6 string type, 7 string title, 8 string company, 9 string email, 10 string created_date, \
    11 string most_recent_activity_date, 12 MatchQuality match_quality
MatchQuality: 0 MATCH_QUALITY_UNSPECIFIED, 1 MATCH_QUALITY_EXACT, 2 MATCH_QUALITY_UNVERIFIED, \
    3 MATCH_QUALITY_LIKELY
ReturnMessage: 1 string message, 2 string message_type, 3 uint32 ttl, 4 repeated Detail details
Detail: 1 string title, 2 repeated DetailItem items
DetailItem: 1 string id, 2 string type, 3 string text
Lookup: 1 string phone_number, 2 Source source, 3 Freshness freshness, 4 Duration age, 5 bool complete, \
    6 bool shared, 7 uint32 crm_requests
Source: 0 SOURCE_UNSPECIFIED, 1 SOURCE_MEMORY, 2 SOURCE_REDIS, 3 SOURCE_CRM
Freshness: 0 FRESHNESS_UNSPECIFIED, 1 FRESHNESS_FRESH, 2 FRESHNESS_STALE
";

#[test]
fn the_standard_compiler_reads_the_protos_as_the_build_did() {
    let folder = tempfile::tempdir().unwrap();
    let set = folder.path().join("set.bin");
    let protos = protos();
    let run = Command::new(protoc_bin_vendored::protoc_bin_path().unwrap())
        .arg(format!("--proto_path={FOLDER}"))
        .arg(format!(
            "--proto_path={}",
            protoc_bin_vendored::include_path().unwrap().display()
        ))
        .arg(format!("--descriptor_set_out={}", set.display()))
        .args(&protos)
        .output()
        .unwrap();
    assert!(
        run.status.success(),
        "{}",
        String::from_utf8_lossy(&run.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&run.stderr), "", "protoc warns");

    let built = files(pb::DESCRIPTORS);
    for standard in files(&fs::read(set).unwrap()) {
        let name = standard["name"].clone();
        let built = built
            .iter()
            .find(|file| file["name"] == name)
            .unwrap_or_else(|| panic!("{name} is not built"));
        let [standard, built] =
            [standard, built.clone()].map(|file| serde_json::to_string_pretty(&file).unwrap());
        let at = standard
            .lines()
            .zip(built.lines())
            .position(|(one, other)| one != other)
            .unwrap_or(0);
        let around = |text: &str| {
            text.lines()
                .skip(at.saturating_sub(8))
                .take(12)
                .collect::<Vec<_>>()
                .join("\n")
        };
        assert!(
            standard == built,
            "{name}: protoc has\n{}\nthe build has\n{}",
            around(&standard),
            around(&built)
        );
    }
}

#[test]
fn every_field_and_enum_value_keeps_its_number_name_and_type() {
    let mut found = BTreeSet::new();
    for file in ours() {
        for message in messages(&file) {
            let mut fields: Vec<_> = message.fields().collect();
            fields.sort_by_key(prost_reflect::FieldDescriptor::number);
            let fields = fields.iter().map(|field| {
                let repeated = if field.is_list() { "repeated " } else { "" };
                let kind = format!("{:?}", field.kind());
                let kind = kind.rsplit('.').next().unwrap_or(&kind).to_owned();
                format!("{} {repeated}{kind} {}", field.number(), field.name())
            });
            found.insert(format!(
                "{}: {}",
                message.name(),
                fields.collect::<Vec<_>>().join(", ")
            ));
        }
        for list in enums(&file) {
            let values = list
                .values()
                .map(|value| format!("{} {}", value.number(), value.name()));
            found.insert(format!(
                "{}: {}",
                list.name(),
                values.collect::<Vec<_>>().join(", ")
            ));
        }
    }
    let promised: BTreeSet<_> = NUMBERS
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let broken: Vec<_> = promised.difference(&found).collect();
    let unknown: Vec<_> = found.difference(&promised).collect();
    assert!(
        broken.is_empty() && unknown.is_empty(),
        "promised: {broken:#?}\nin the protos: {unknown:#?}"
    );
}

fn protos() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "proto")
            {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(FOLDER), &mut found);
    found
}

/// The files of a descriptor set as proto3 JSON, all options kept, without comments.
fn files(set: &[u8]) -> Vec<Value> {
    let kind = DescriptorPool::global()
        .get_message_by_name("google.protobuf.FileDescriptorSet")
        .unwrap();
    let set = DynamicMessage::decode(kind, set).unwrap();
    let mut set = serde_json::to_value(set).unwrap();
    let files = set["file"].as_array_mut().unwrap();
    for file in files.iter_mut() {
        file.as_object_mut().unwrap().remove("sourceCodeInfo");
    }
    files.clone()
}

fn ours() -> Vec<FileDescriptor> {
    let pool = DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
    pool.files()
        .filter(|file| !file.name().starts_with("google/"))
        .collect()
}

fn messages(file: &FileDescriptor) -> Vec<MessageDescriptor> {
    file.parent_pool()
        .all_messages()
        .filter(|message| message.parent_file() == *file)
        .collect()
}

fn enums(file: &FileDescriptor) -> Vec<EnumDescriptor> {
    file.parent_pool()
        .all_enums()
        .filter(|list| list.parent_file() == *file)
        .collect()
}

/// The rules of buf's category STANDARD that descriptors can show; buf 1.75 itself finds nothing
/// either, but that `WatchContact` has the request of `FindContact`.
#[test]
fn the_protos_keep_the_standard_rules_of_bufs_linter() {
    let mut faults = Vec::new();
    let mut rule = |kept: bool, element: &str, rule: &str| {
        if !kept {
            faults.push(format!("{element}: {rule}"));
        }
    };
    let mut io = Vec::new();
    for file in ours() {
        let (name, package) = (file.name(), file.package_name());
        let (folder, stem) = name.rsplit_once('/').unwrap();
        rule(
            folder == package.replace('.', "/"),
            name,
            "lies in the folder of its package",
        );
        rule(
            is_lower_snake(stem.trim_end_matches(".proto")),
            name,
            "file name is lower_snake_case",
        );
        rule(
            package.split('.').all(is_lower_snake),
            package,
            "package is lower_snake.case",
        );
        rule(
            is_version(package.rsplit('.').next().unwrap()),
            package,
            "package ends in a version",
        );
        let raw = file.file_descriptor_proto();
        rule(raw.syntax() == "proto3", name, "syntax is given");
        rule(
            raw.public_dependency.is_empty() && raw.weak_dependency.is_empty(),
            name,
            "no public or weak import",
        );
        for import in file.dependencies() {
            rule(uses(&file, &import), import.name(), "import is used");
        }
        for message in messages(&file) {
            rule(
                is_pascal(message.name()),
                message.full_name(),
                "message is PascalCase",
            );
            for field in message.fields() {
                rule(
                    is_lower_snake(field.name()),
                    field.full_name(),
                    "field is lower_snake_case",
                );
            }
            // The compiler makes a oneof of each optional field, whose name begins with `_`.
            for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
                rule(
                    is_lower_snake(oneof.name()),
                    oneof.full_name(),
                    "oneof is lower_snake_case",
                );
            }
        }
        for list in enums(&file) {
            let prefix = upper_snake(list.name());
            rule(
                is_pascal(list.name()),
                list.full_name(),
                "enum is PascalCase",
            );
            let numbers: BTreeSet<_> = list.values().map(|value| value.number()).collect();
            rule(
                numbers.len() == list.values().len(),
                list.full_name(),
                "enum has no aliases",
            );
            let first = list.values().next().unwrap();
            rule(
                first.number() == 0,
                first.full_name(),
                "first value is zero",
            );
            rule(
                first.name() == format!("{prefix}_UNSPECIFIED"),
                first.full_name(),
                "zero value is _UNSPECIFIED",
            );
            for value in list.values() {
                let word = value.name().strip_prefix(&format!("{prefix}_"));
                rule(
                    word.is_some(),
                    value.full_name(),
                    "value has its enum's name as a prefix",
                );
                rule(
                    value.name() == value.name().to_uppercase(),
                    value.full_name(),
                    "value is UPPER_SNAKE_CASE",
                );
            }
        }
        for service in file.services() {
            rule(
                is_pascal(service.name()),
                service.full_name(),
                "service is PascalCase",
            );
            rule(
                service.name().ends_with("Service"),
                service.full_name(),
                "service name ends in Service",
            );
            for method in service.methods() {
                let (input, output) = (method.input(), method.output());
                rule(
                    is_pascal(method.name()),
                    method.full_name(),
                    "RPC is PascalCase",
                );
                // A watch is asked with the request of a find, so that clients make one request.
                let is_watch = method.name() == "WatchContact";
                rule(
                    is_watch || input.name() == format!("{}Request", method.name()),
                    method.full_name(),
                    "request name",
                );
                rule(
                    output.name() == format!("{}Response", method.name()),
                    method.full_name(),
                    "response name",
                );
                for message in [input, output] {
                    rule(
                        is_watch || !io.contains(&message),
                        message.full_name(),
                        "belongs to one RPC only",
                    );
                    io.push(message);
                }
            }
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Whether a message or RPC of `file` names a type of `import`.
fn uses(file: &FileDescriptor, import: &FileDescriptor) -> bool {
    let messages = messages(file);
    let types = messages
        .iter()
        .flat_map(MessageDescriptor::fields)
        .map(|field| match field.kind() {
            Kind::Message(message) => Some(message.parent_file()),
            Kind::Enum(list) => Some(list.parent_file()),
            _ => None,
        });
    types.flatten().any(|home| home == *import)
}

fn is_lower_snake(name: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.split('_')
        .all(|word| !word.is_empty() && word.chars().all(letters))
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase())
        && name.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_version(word: &str) -> bool {
    word.strip_prefix('v')
        .is_some_and(|number| number.parse::<u16>().is_ok_and(|number| number > 0))
}

fn upper_snake(pascal: &str) -> String {
    let words = pascal.char_indices().map(|(at, c)| {
        if at > 0 && c.is_ascii_uppercase() {
            format!("_{c}")
        } else {
            c.to_string()
        }
    });
    words.collect::<String>().to_uppercase()
}
