//! Whether a request is a recorded one, and how it differs from the nearest.

use std::fmt::Write as _;

use serde_json::Value;

use super::recording::{RecordedBody, RecordedRequest, Recording};

/// The parts of a request, each as a line for a person. Equal requests have the same lines.
struct Lines(Vec<String>);

impl RecordedRequest {
    /// Returns whether a request is this recorded one. The recorded path may lack the path of the
    /// CRM's address, and only recorded headers count.
    pub(super) fn is_met_by(&self, request: &Self, base: &str) -> bool {
        self.difference(request, base).is_empty()
    }

    /// The lines of this recorded request that the other lacks, and the other way round.
    fn difference(&self, request: &Self, base: &str) -> Vec<String> {
        let path = without_base(&request.path, base);
        let (own, mut other) = (self.lines(&self.path), request.lines(path));
        if self.path == request.path {
            other = request.lines(&request.path);
        }
        let is_recorded = |name: &str| self.headers.iter().any(|(known, _)| known == name);
        let headers = request.headers.iter().filter(|(name, _)| is_recorded(name));
        other
            .0
            .extend(headers.map(|(name, value)| format!("{name}: {value}")));
        let mut own = own.0;
        own.extend(
            self.headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}")),
        );
        let mut missing = Vec::new();
        for line in own {
            match other.0.iter().position(|other| *other == line) {
                Some(at) => drop(other.0.swap_remove(at)),
                None => missing.push(format!("- {line}")),
            }
        }
        missing.extend(other.0.into_iter().map(|line| format!("+ {line}")));
        missing
    }

    fn lines(&self, path: &str) -> Lines {
        let mut lines = vec![format!("{} {path}", self.method)];
        lines.extend(
            self.query
                .iter()
                .map(|(name, value)| format!("? {name} = {value}")),
        );
        match &self.body {
            RecordedBody::None => {}
            RecordedBody::Form(fields) => {
                lines.extend(
                    fields
                        .iter()
                        .map(|(name, value)| format!("{name} = {value}")),
                );
            }
            RecordedBody::Json(body) => leaves("", body, &mut lines),
        }
        Lines(lines)
    }

    /// The request for a person.
    pub(super) fn shown(&self) -> String {
        self.lines(&self.path).0.join("\n")
    }
}

/// Each scalar of a JSON body with its place. Empty lists and objects count as scalars.
fn leaves(place: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, value) in members {
                leaves(&format!("{place}.{key}"), value, lines);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (n, item) in items.iter().enumerate() {
                leaves(&format!("{place}[{n}]"), item, lines);
            }
        }
        value => lines.push(format!("{} = {value}", place.trim_start_matches('.'))),
    }
}

/// The path below the path of the CRM's address.
fn without_base<'p>(path: &'p str, base: &str) -> &'p str {
    let base = base.trim_end_matches('/');
    let below = path
        .strip_prefix(base)
        .filter(|below| below.starts_with('/'));
    below.unwrap_or(path)
}

/// A request without a recording, beside the nearest one.
pub(super) fn unmatched(request: &RecordedRequest, base: &str, recordings: &[Recording]) -> String {
    let mut words = format!("there is no recording of\n{}", indented(&request.shown()));
    let differences = recordings
        .iter()
        .map(|recording| (recording, recording.request.difference(request, base)));
    let far = |difference: &Vec<String>| {
        let first = usize::from(difference.iter().any(|line| line.contains(" /")));
        difference.len() + 10 * first
    };
    if let Some((nearest, difference)) = differences.min_by_key(|(_, lines)| far(lines)) {
        let _ = write!(
            words,
            "\nthe nearest is {} (- recorded, + asked)\n{}",
            nearest.name,
            indented(&difference.join("\n"))
        );
    }
    words
}

fn indented(lines: &str) -> String {
    let lines = lines.lines().map(|line| format!("  {line}"));
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(path: &str, query: &[(&str, &str)], body: Value) -> RecordedRequest {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        RecordedRequest {
            method: "POST".to_owned(),
            path: path.to_owned(),
            query: query.iter().map(owned).collect(),
            headers: Vec::new(),
            body: RecordedBody::Json(body),
        }
    }

    #[test]
    fn requests_are_matched_by_their_meaning() {
        let recorded = request(
            "/find",
            &[("a", "1"), ("b", "2")],
            json!({"x": [1, 2], "y": {}}),
        );
        let same = json!({"y": {}, "x": [1, 2]});
        for (path, query, body, is_met) in [
            ("/find", [("b", "2"), ("a", "1")], same.clone(), true),
            ("/v1/find", [("b", "2"), ("a", "1")], same.clone(), true),
            ("/v2/find", [("b", "2"), ("a", "1")], same.clone(), false),
            ("/find", [("b", "1"), ("a", "2")], same.clone(), false),
            (
                "/find",
                [("b", "2"), ("a", "1")],
                json!({"x": [2, 1], "y": {}}),
                false,
            ),
            (
                "/find",
                [("b", "2"), ("a", "1")],
                json!({"x": [1, 2]}),
                false,
            ),
            (
                "/find",
                [("b", "2"), ("a", "1")],
                json!({"x": ["1", 2], "y": {}}),
                false,
            ),
        ] {
            let asked = request(path, &query, body);
            assert_eq!(
                recorded.is_met_by(&asked, "/v1"),
                is_met,
                "{}",
                asked.shown()
            );
        }
    }

    #[test]
    fn a_request_without_a_recording_is_shown_beside_the_nearest() {
        let recording = |name: &str, path: &str| Recording {
            name: name.to_owned(),
            request: request(path, &[("limit", "2")], json!({"x": 1})),
            reply: super::super::recording::RecordedReply {
                status: 200,
                headers: Vec::new(),
                body: String::new(),
            },
        };
        let recordings = [
            recording("01.http", "/other"),
            recording("02.http", "/find"),
        ];
        let asked = request("/find", &[("limit", "3")], json!({"x": 1}));
        let words = unmatched(&asked, "", &recordings);
        assert!(words.contains("the nearest is 02.http"), "{words}");
        assert!(words.contains("- ? limit = 2\n  + ? limit = 3"), "{words}");
    }
}
