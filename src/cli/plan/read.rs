//! Reads a call log row by row: a log of ten million calls is not held as text.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::rc::Rc;

use csv::{ByteRecord, ReaderBuilder, Terminator, Trim};
use siphasher::sip::SipHasher13;

use super::columns::{Columns, NamedColumns};
use super::moment;
use crate::cli::prefetch::{WORKBOOK, decoded, spreadsheet_number};
use crate::cli::{Failure, printable, say};
use crate::domain::phone::{RemoteParty, WithheldWords, parse_remote};
use crate::domain::{Party, Region};
use crate::plan::{CallLog, LogBuilder};

/// The most bytes of a row: a quote without an end must not take the rest of the file.
const LONGEST_ROW: u64 = 1 << 20;
/// The most calls of a log.
const MOST_CALLS: usize = 100_000_000;
/// The most bytes of a file in UTF-16, which is read as a whole.
const MOST_UTF16: u64 = 1 << 30;
/// How many faulty rows are reported.
const REPORTED: u64 = 20;
const DELIMITERS: [u8; 4] = *b",;\t|";

/// How a log is read.
#[derive(Debug)]
pub(super) struct LogTerms<'a> {
    pub(super) columns: &'a NamedColumns,
    pub(super) day_first: bool,
    pub(super) region: Option<Region>,
    pub(super) words: &'a WithheldWords,
    /// The connectors of the settings, and the one of rows that name none.
    pub(super) connectors: &'a [String],
    pub(super) connector: u16,
    /// The part of the numbers that the CRM knows, if the log does not say.
    pub(super) known: f64,
    pub(super) seed: u64,
}

/// A log, and what was left out.
#[derive(Debug)]
pub(super) struct ReadLog {
    pub(super) log: CallLog,
    pub(super) left_out: u64,
    pub(super) has_accounts: bool,
    pub(super) says_known: bool,
}

/// Reads a log from a file, or from standard input if it is `-`.
pub(super) fn read(path: &Path, terms: &LogTerms<'_>) -> Result<ReadLog, Failure> {
    let origin = if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        path.display().to_string()
    };
    let failed = |fault: String| Failure::Misused(format!("{origin}{fault}"));
    let cannot = |error: io::Error| failed(format!(" cannot be read: {}", super::words(error)));
    let mut input: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::with_capacity(
            1 << 16,
            File::open(path).map_err(cannot)?,
        ))
    };
    input = as_bytes_of_utf8(input).map_err(cannot)?;
    if input.fill_buf().map_err(cannot)?.starts_with(WORKBOOK) {
        return Err(failed(" is an Excel workbook; save it as CSV".to_owned()));
    }
    let head = Head::read(&mut input, terms.columns).map_err(failed)?;
    let mut rows = Rows {
        terms,
        columns: &head.columns,
        log: LogBuilder::default(),
        left_out: 0,
        origin: &origin,
    };
    rows.read(input, &head).map_err(failed)?;
    rows.finish(&head).map_err(failed)
}

/// The text in UTF-8 or an encoding like it. The cells that are read are ASCII, or only compared.
fn as_bytes_of_utf8(mut input: Box<dyn BufRead>) -> io::Result<Box<dyn BufRead>> {
    let start = input.fill_buf()?;
    if start.starts_with(b"\xef\xbb\xbf") {
        input.consume(3);
        return Ok(input);
    }
    let is_utf16 = matches!(
        start,
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]
    );
    if !is_utf16 {
        return Ok(input);
    }
    let mut bytes = Vec::new();
    input.take(MOST_UTF16).read_to_end(&mut bytes)?;
    let text = decoded(&bytes);
    Ok(Box::new(Cursor::new(
        text.trim_start_matches('\u{feff}').to_owned(),
    )))
}

/// What stands before the rows.
struct Head {
    columns: Columns,
    delimiter: u8,
    /// Lines before the first row.
    lines: u64,
}

impl Head {
    /// Comments and blank lines, perhaps `sep=;`, and the header.
    fn read(input: &mut dyn BufRead, named: &NamedColumns) -> Result<Self, String> {
        let (mut lines, mut only) = (0, None);
        loop {
            let mut line = Vec::new();
            let limited = &mut input.take(LONGEST_ROW);
            let read = limited.read_until(b'\n', &mut line);
            read.map_err(|error| format!(" cannot be read: {}", super::words(error)))?;
            if line.is_empty() {
                return Err(" holds no calls".to_owned());
            }
            lines += 1;
            let text = line.trim_ascii();
            if text.is_empty() || text.starts_with(b"#") {
                continue;
            }
            if let Some([delimiter]) = text.strip_prefix(b"sep=") {
                only = Some(*delimiter);
                continue;
            }
            return Self::of(text, only, named, lines);
        }
    }

    fn of(line: &[u8], only: Option<u8>, named: &NamedColumns, lines: u64) -> Result<Self, String> {
        let mut fault = None;
        let used = DELIMITERS
            .into_iter()
            .filter(|delimiter| line.contains(delimiter));
        for delimiter in only.into_iter().chain(used) {
            let mut header = ByteRecord::new();
            let read = table(line, delimiter).read_byte_record(&mut header);
            read.map_err(|error| format!(": the header cannot be read: {error}"))?;
            match Columns::of(&header, named) {
                Ok(columns) => {
                    return Ok(Self {
                        columns,
                        delimiter,
                        lines,
                    });
                }
                Err(other) => fault = fault.or(Some(other)),
            }
        }
        Err(fault.unwrap_or_else(|| {
            ": the first line has one column only; a call log has a time, a user and a number"
                .to_owned()
        }))
    }
}

fn table<R: Read>(input: R, delimiter: u8) -> csv::Reader<R> {
    ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        // Otherwise the second half of \r\n counts for the next row. A \r is trimmed.
        .terminator(Terminator::Any(b'\n'))
        .flexible(true)
        .trim(Trim::All)
        .from_reader(input)
}

/// A reader that fails if a row does not end.
struct LimitedRows<R> {
    input: R,
    /// Bytes read since the last row ended.
    since: Rc<Cell<u64>>,
}

impl<R: Read> Read for LimitedRows<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.get() > LONGEST_ROW {
            return Err(io::Error::other(
                "it does not end within 1 MiB; does a quote lack its end?",
            ));
        }
        let read = self.input.read(buffer)?;
        self.since.set(self.since.get() + read as u64);
        Ok(read)
    }
}

/// The rows of a log while they are read.
struct Rows<'a> {
    terms: &'a LogTerms<'a>,
    columns: &'a Columns,
    log: LogBuilder,
    left_out: u64,
    origin: &'a str,
}

impl Rows<'_> {
    /// Returns the rest of a message if the reading had to end.
    fn read(&mut self, input: Box<dyn BufRead>, head: &Head) -> Result<(), String> {
        let since = Rc::new(Cell::new(0));
        let limited = LimitedRows {
            input,
            since: Rc::clone(&since),
        };
        let (mut rows, mut row) = (table(limited, head.delimiter), ByteRecord::new());
        loop {
            let line = rows.position().line() + head.lines;
            match rows.read_byte_record(&mut row) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    let why = match error.into_kind() {
                        csv::ErrorKind::Io(error) => super::words(error),
                        other => format!("{other:?}"),
                    };
                    return Err(format!(":{line}: the row cannot be read: {why}"));
                }
            }
            since.set(0);
            let line = row.position().map_or(line, |at| at.line() + head.lines);
            if let Err(fault) = self.take(&row) {
                self.report(line, &fault);
            }
            if self.log.calls() > MOST_CALLS {
                return Err(format!(" holds more than {MOST_CALLS} calls"));
            }
        }
    }

    fn report(&mut self, line: u64, fault: &str) {
        self.left_out += 1;
        if self.left_out <= REPORTED {
            say(format_args!(
                "contactd: {}:{line}: {fault}; the row is left out",
                self.origin
            ));
        }
    }

    /// Adds the call of a row. Returns the first fault of it.
    fn take(&mut self, row: &ByteRecord) -> Result<(), String> {
        if row.iter().all(<[u8]>::is_empty) {
            return Ok(());
        }
        let at = self.moment(row)?;
        let user = cell(row, Some(self.columns.user));
        if user.is_empty() {
            return Err("there is no user".to_owned());
        }
        let connector = self.connector(row)?;
        let known = self.known(row)?;
        let number = text(row, self.columns.number);
        let digits = spreadsheet_number(&number).map_err(|lost| format!("the number {lost}"))?;
        let party = parse_remote(&digits, self.terms.region, self.terms.words)
            .map_err(|error| format!("the number {} {error}", quoted(&number)))?;
        let account = cell(row, self.columns.account);
        let user = self.log.user(connector, account, user);
        match party {
            RemoteParty::Party(party) => {
                let is_known = known.unwrap_or_else(|| self.is_known(&party));
                self.log.call(at, user, party, is_known);
            }
            _ => self.log.call_without_number(),
        }
        Ok(())
    }

    fn moment(&self, row: &ByteRecord) -> Result<u64, String> {
        let date = text(row, self.columns.moment);
        let written = match self.columns.time_of_day {
            Some(time) => Cow::Owned(format!("{date} {}", text(row, time))),
            None => date,
        };
        moment::parse(&written, self.terms.day_first)
            .map_err(|error| format!("the time {} {error}", quoted(&written)))
    }

    fn connector(&self, row: &ByteRecord) -> Result<u16, String> {
        let name = cell(row, self.columns.connector);
        if name.is_empty() {
            return Ok(self.terms.connector);
        }
        let known = self.terms.connectors;
        let place = known
            .iter()
            .position(|known| known.as_bytes().eq_ignore_ascii_case(name));
        place
            .and_then(|place| u16::try_from(place).ok())
            .ok_or_else(|| {
                let name = String::from_utf8_lossy(name);
                format!(
                    "the settings have no connector {}; they have {}",
                    quoted(&name),
                    known.join(", ")
                )
            })
    }

    fn known(&self, row: &ByteRecord) -> Result<Option<bool>, String> {
        let said = cell(row, self.columns.known);
        match said.to_ascii_lowercase().as_slice() {
            b"" => Ok(None),
            b"yes" | b"true" | b"1" | b"y" => Ok(Some(true)),
            b"no" | b"false" | b"0" | b"n" => Ok(Some(false)),
            _ => {
                let said = String::from_utf8_lossy(said);
                Err(format!(
                    "the column for known numbers has {}; expected yes or no",
                    quoted(&said)
                ))
            }
        }
    }

    /// The same for each call of a number.
    fn is_known(&self, party: &Party) -> bool {
        let mut hasher = SipHasher13::new_with_keys(self.terms.seed, 0);
        hasher.write(party.to_string().as_bytes());
        #[expect(clippy::cast_precision_loss, reason = "the last bits do not matter")]
        let part = hasher.finish() as f64 / u64::MAX as f64;
        part < self.terms.known
    }

    fn finish(self, head: &Head) -> Result<ReadLog, String> {
        if self.left_out > REPORTED {
            let more = self.left_out - REPORTED;
            say(format_args!(
                "contactd: {}: {more} more rows are left out",
                self.origin
            ));
        }
        let log = self.log.finish();
        if log.span().is_none() {
            return Err(if self.left_out > 0 {
                ": no row holds a call".to_owned()
            } else {
                " holds no calls".to_owned()
            });
        }
        Ok(ReadLog {
            log,
            left_out: self.left_out,
            has_accounts: head.columns.account.is_some(),
            says_known: head.columns.known.is_some(),
        })
    }
}

fn cell(row: &ByteRecord, column: Option<usize>) -> &[u8] {
    column
        .and_then(|column| row.get(column))
        .unwrap_or_default()
}

/// A cell as text, in UTF-8 or the encoding of spreadsheets on Windows.
fn text(row: &ByteRecord, column: usize) -> Cow<'_, str> {
    let cell = cell(row, Some(column));
    std::str::from_utf8(cell).map_or_else(|_| decoded(cell).into(), Cow::Borrowed)
}

/// The beginning of a cell, for a message.
fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(40).collect();
    format!("{:?}", printable(&shown))
}
