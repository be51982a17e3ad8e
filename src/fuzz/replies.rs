//! Replies of CRMs.

use encoding_rs::{BIG5, Encoding, ISO_2022_JP, UTF_16LE, WINDOWS_1252};
use serde_json::Value;

use crate::connector::{read_by_embedded_file, read_reply};
use crate::domain::json::{from_value, to_struct};

/// How many bytes the repair of a reply may take.
const LIMIT: usize = 1 << 20;

const DECLARED: [Option<&Encoding>; 5] = [
    None,
    Some(WINDOWS_1252),
    Some(UTF_16LE),
    Some(ISO_2022_JP),
    Some(BIG5),
];

/// The number of a connector, that of a declared encoding, and the body of a reply.
pub fn json_reply(data: &[u8]) {
    let [connector, declared, body @ ..] = data else {
        return;
    };
    let declared = DECLARED[usize::from(*declared) % DECLARED.len()];
    let Ok(value) = read_reply(body.to_vec(), declared, LIMIT) else {
        return;
    };
    let written = value.to_string();
    let again = read_reply(written.into_bytes(), None, LIMIT * 8);
    assert_eq!(again.as_ref(), Ok(&value));
    if let Value::Object(members) = &value {
        for member in to_struct(members).fields.values() {
            let _ = from_value(member);
        }
    }
    read_by_embedded_file(usize::from(*connector), &value);
}
