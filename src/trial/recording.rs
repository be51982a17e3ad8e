//! One exchange with a CRM as a text file that people can write by hand:
//!
//! ```text
//! GET /contacts.json?limit=200
//! ? query = +16505550101
//! Accept-Version: 1
//!
//! HTTP 200
//! content-type: application/json
//!
//! {"data": []}
//! ```
//!
//! Lines with `?` are parameters as they are meant, not percent-encoded. A POST has its body, JSON
//! or lines `name = value`, between its headers and the status.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use url::Url;

/// A recorded exchange.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    /// The file's name.
    pub(crate) name: String,
    pub(crate) request: RecordedRequest,
    pub(crate) reply: RecordedReply,
}

/// A request as it is meant: no order of parameters and keys, no encoding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RecordedRequest {
    pub(crate) method: String,
    /// The path, percent-encoded as URLs are.
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: RecordedBody,
}

/// The body of a request.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RecordedBody {
    None,
    Json(Value),
    Form(Vec<(String, String)>),
}

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RecordedReply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

/// Why a file is no recording.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordingError {
    #[error("{0}: {1}")]
    Unreadable(String, String),
    #[error("{0}: {1}")]
    Malformed(String, &'static str),
}

/// Reads the recordings of a directory, in the order of their names.
///
/// # Errors
/// The first file that is no recording.
pub(crate) fn read_recordings(directory: &Path) -> Result<Vec<Recording>, RecordingError> {
    let files = recording_files(directory).map_err(|error| unreadable(directory, &error))?;
    files.iter().map(|path| read_recording(path)).collect()
}

fn recording_files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    let paths = entries.map(|entry| Ok(entry?.path()));
    let mut files: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    files.retain(|path| path.extension().is_some_and(|ending| ending == "http"));
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, error: &io::Error) -> RecordingError {
    RecordingError::Unreadable(path.display().to_string(), error.to_string())
}

fn read_recording(path: &Path) -> Result<Recording, RecordingError> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let malformed = |why| RecordingError::Malformed(path.display().to_string(), why);
    Recording::parse(&name, &text).map_err(malformed)
}

impl Recording {
    fn parse(name: &str, text: &str) -> Result<Self, &'static str> {
        let text = text.replace("\r\n", "\n");
        let (request, reply) = split_at_status(&text).ok_or("has no line \"HTTP status\"")?;
        Ok(Self {
            name: name.to_owned(),
            request: RecordedRequest::parse(request)?,
            reply: RecordedReply::parse(reply)?,
        })
    }
}

impl Recording {
    /// The recording as a file.
    pub(super) fn written(&self) -> String {
        let request = &self.request;
        let mut lines = vec![format!("{} {}", request.method, request.path)];
        let query = request.query.iter();
        lines.extend(query.map(|(name, value)| format!("? {name} = {value}")));
        lines.push(String::new());
        lines.extend(request.body.lines());
        lines.push(format!("HTTP {}", self.reply.status));
        let headers = self.reply.headers.iter();
        lines.extend(headers.map(|(name, value)| format!("{name}: {value}")));
        lines.extend([String::new(), self.reply.body.clone()]);
        lines.join("\n") + "\n"
    }
}

/// The request, and the reply from its status line on.
fn split_at_status(text: &str) -> Option<(&str, &str)> {
    let mut lines = text.match_indices('\n').map(|(at, _)| at + 1);
    let at = lines.find(|at| is_status(&text[*at..]))?;
    Some(text.split_at(at))
}

fn is_status(rest: &str) -> bool {
    let status = rest.strip_prefix("HTTP ").unwrap_or_default();
    status.starts_with(|c: char| c.is_ascii_digit())
}

impl RecordedRequest {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let (first, rest) = head.split_once('\n').unwrap_or((head, ""));
        let first = first.split_once(' ');
        let (method, target) = first.ok_or("does not begin with a request")?;
        let (path, mut query) = target_of(target.trim())?;
        let rest = rest.lines().filter(|line| !line.trim().is_empty());
        let (parameters, headers): (Vec<_>, Vec<_>) = rest.partition(|line| line.starts_with('?'));
        let parameters = parameters.into_iter().map(parameter);
        query.extend(parameters.collect::<Result<Vec<_>, _>>()?);
        let headers = headers.into_iter().map(header);
        Ok(Self {
            method: method.to_owned(),
            path,
            query,
            headers: headers.collect::<Result<_, _>>()?,
            body: RecordedBody::parse(body.trim())?,
        })
    }
}

/// Names and values.
type Parameters = Vec<(String, String)>;

/// Path and parameters of a target; a host in front of it does not count.
fn target_of(target: &str) -> Result<(String, Parameters), &'static str> {
    const FAULT: &str = "the target of the request is not a path";
    let base = Url::parse("http://crm").map_err(|_| FAULT)?;
    let url = base.join(target).map_err(|_| FAULT)?;
    let query = url.query_pairs().into_owned().collect();
    Ok((url.path().to_owned(), query))
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let value = value.strip_prefix(' ').unwrap_or(value);
    Some((name.trim().to_owned(), value.to_owned()))
}

const NO_PARAMETER: &str = "a parameter is not written \"? name = value\"";

fn parameter(line: &str) -> Result<(String, String), &'static str> {
    let parameter = line.strip_prefix('?').and_then(pair);
    parameter.ok_or(NO_PARAMETER)
}

fn header(line: &str) -> Result<(String, String), &'static str> {
    let (name, value) = line
        .split_once(':')
        .ok_or("a header is not written \"name: value\"")?;
    Ok((name.trim().to_ascii_lowercase(), value.trim().to_owned()))
}

fn field_line((name, value): &(String, String)) -> String {
    format!("{name} = {value}")
}

impl RecordedBody {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Ok(Self::None);
        }
        if text.starts_with(['{', '[']) {
            let body = serde_json::from_str(text).map(Self::Json);
            return body.map_err(|_| "the request's body is not JSON");
        }
        let fields: Option<Vec<_>> = text.lines().map(pair).collect();
        let fields = fields.ok_or("a field of the form is not written \"name = value\"");
        fields.map(Self::Form)
    }

    /// Its lines, and an empty one if there are any.
    fn lines(&self) -> Vec<String> {
        let mut lines = match self {
            Self::None => return Vec::new(),
            Self::Json(body) => vec![format!("{body:#}")],
            Self::Form(fields) => fields.iter().map(field_line).collect(),
        };
        lines.push(String::new());
        lines
    }

    /// The body of a request on the wire.
    pub(super) fn of_bytes(bytes: &[u8], media_type: &str) -> Self {
        if bytes.is_empty() {
            Self::None
        } else if media_type.starts_with("application/x-www-form-urlencoded") {
            Self::Form(url::form_urlencoded::parse(bytes).into_owned().collect())
        } else {
            Self::Json(serde_json::from_slice(bytes).unwrap_or_default())
        }
    }
}

impl RecordedReply {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let status = lines.next().unwrap_or_default();
        let mut status = status.trim_start_matches("HTTP ").split_whitespace();
        let status = status.next().unwrap_or_default().parse();
        let headers = lines.filter(|line| !line.trim().is_empty()).map(header);
        Ok(Self {
            status: status.map_err(|_| "the status is not a number")?,
            headers: headers.collect::<Result<_, _>>()?,
            body: body.trim_end_matches('\n').to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_recording_is_read_as_it_is_meant() {
        let text = "GET /v2/people?limit=2&q=a%20b\n? term = +1 650=x\nAccept-Version: 1\n\n\
            HTTP 429 Too Many\nRetry-After: 30\n\nnot json\n";
        let recording = Recording::parse("01.http", text).unwrap();
        let request = &recording.request;
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("GET", "/v2/people")
        );
        let pairs = [("limit", "2"), ("q", "a b"), ("term", "+1 650=x")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(request.query, pairs);
        assert_eq!(
            request.headers,
            [("accept-version".to_owned(), "1".to_owned())]
        );
        assert_eq!(recording.reply.status, 429);
        assert_eq!(
            recording.reply.headers,
            [("retry-after".to_owned(), "30".to_owned())]
        );
        assert_eq!(recording.reply.body, "not json");
    }

    #[test]
    fn a_post_has_json_or_a_form() {
        for (body, read) in [
            ("{\"a\": [1]}", RecordedBody::Json(json!({"a": [1]}))),
            (
                "a = 1\nb = x=y",
                RecordedBody::Form(vec![
                    ("a".to_owned(), "1".to_owned()),
                    ("b".to_owned(), "x=y".to_owned()),
                ]),
            ),
            ("", RecordedBody::None),
        ] {
            let text = format!("POST /search\n\n{body}\n\nHTTP 204\n");
            assert_eq!(
                Recording::parse("x", &text).unwrap().request.body,
                read,
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_no_recording_is_refused_with_a_reason() {
        for (text, reason) in [
            ("GET /a\n", "has no line \"HTTP status\""),
            ("GET /a\n? x\n\nHTTP 200\n", NO_PARAMETER),
            (
                "POST /a\n\n{\n\nHTTP 200\n",
                "the request's body is not JSON",
            ),
            (
                "GET /a\nx\n\nHTTP 200\n",
                "a header is not written \"name: value\"",
            ),
        ] {
            assert_eq!(Recording::parse("x", text).unwrap_err(), reason);
        }
    }
}
