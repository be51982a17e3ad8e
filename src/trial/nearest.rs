//! Whether a request is a recorded one, and how it differs from the nearest.

use serde_json::Value;

use super::recording::{RecordedBody, RecordedRequest, Recording};

impl RecordedRequest {
    /// Returns whether a request is this recorded one. The recorded path may lack the path of the
    /// CRM's address, and only recorded headers count.
    pub(super) fn is_met_by(&self, request: &Self, base: &str) -> bool {
        self.difference(request, base).is_empty()
    }

    /// The lines of this recorded request that the other lacks, and the other way round.
    fn difference(&self, request: &Self, base: &str) -> Vec<String> {
        let path = if self.path == request.path {
            &request.path
        } else {
            without_base(&request.path, base)
        };
        let is_recorded = |name: &str| self.headers.iter().any(|(known, _)| known == name);
        let asked = request.headers.iter();
        let asked = asked.filter(|(name, _)| is_recorded(name));
        let mut asked: Vec<String> = request
            .lines(path)
            .into_iter()
            .chain(headers(asked))
            .collect();
        let recorded = self.lines(&self.path).into_iter();
        let mut missing = Vec::new();
        for line in recorded.chain(headers(self.headers.iter())) {
            match asked.iter().position(|asked| *asked == line) {
                Some(at) => drop(asked.swap_remove(at)),
                None => missing.push(format!("- {line}")),
            }
        }
        missing.extend(asked.into_iter().map(|line| format!("+ {line}")));
        missing
    }

    /// The parts of a request, each as a line for a person. Equal requests have the same lines.
    fn lines(&self, path: &str) -> Vec<String> {
        let mut lines = vec![format!("{} {path}", self.method)];
        let query = self.query.iter();
        lines.extend(query.map(|(name, value)| format!("? {name} = {value}")));
        match &self.body {
            RecordedBody::None => {}
            RecordedBody::Form(fields) => {
                let fields = fields.iter();
                lines.extend(fields.map(|(name, value)| format!("{name} = {value}")));
            }
            RecordedBody::Json(body) => leaves("", body, &mut lines),
        }
        lines
    }

    /// The request for a person.
    pub(super) fn shown(&self) -> String {
        self.lines(&self.path).join("\n")
    }
}

fn headers<'h>(
    headers: impl Iterator<Item = &'h (String, String)>,
) -> impl Iterator<Item = String> {
    headers.map(|(name, value)| format!("{name}: {value}"))
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
    match path.strip_prefix(base) {
        Some(below) if below.starts_with('/') => below,
        _ => path,
    }
}

/// A request without a recording, beside the nearest one.
pub(super) fn unmatched(request: &RecordedRequest, base: &str, recordings: &[Recording]) -> String {
    let mut words = format!("there is no recording of\n{}", indented(&request.shown()));
    let recordings = recordings.iter();
    let differences = recordings.map(|known| (known, known.request.difference(request, base)));
    if let Some((nearest, difference)) = differences.min_by_key(|(_, lines)| distance(lines)) {
        let difference = indented(&difference.join("\n"));
        let name = &nearest.name;
        let nearest = format!("\nthe nearest is {name} (- recorded, + asked)\n{difference}");
        words += &nearest;
    }
    words
}

/// How far a request is from a recorded one. Another method or path counts most.
fn distance(difference: &[String]) -> usize {
    let is_elsewhere = difference.iter().any(|line| line.contains(" /"));
    difference.len() + if is_elsewhere { 10 } else { 0 }
}

/// The lines, each two spaces further to the right.
pub(super) fn indented(lines: &str) -> String {
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
