//! Reads a call log row by row: a log of ten million calls is not held as text.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::hash::Hasher as _;
use std::io::{self, BufRead, BufReader, Cursor, Read as _};
use std::path::Path;
use std::rc::Rc;

use csv::ByteRecord;
use siphasher::sip::SipHasher13;

use super::columns::{Columns, NamedColumns};
use super::limited::{LONGEST_ROW, LimitedRows, table};
use super::moment;
use crate::cli::prefetch::{WORKBOOK, decoded, spreadsheet_number};
use crate::cli::{Failure, printable, say};
use crate::domain::phone::{NumberError, RemoteParty, WithheldWords, parse_remote};
use crate::domain::{Party, Region};
use crate::plan::{CallLog, LogBuilder};

/// The most lines of a row: a quote without an end must not take the rows after it.
const MOST_LINES: usize = 50;
/// The longest time from the first call to the last, in milliseconds: ten years. More is a wrong
/// time, and figures of every five minutes would fill the memory.
const LONGEST_LOG: u64 = 3653 * 86_400_000;
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
    /// Whether it says of each number whether the CRM knows it.
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
        without_region: 0,
        says_known: true,
        origin: &origin,
    };
    rows.read(input, &head).map_err(failed)?;
    rows.finish(&head).map_err(failed)
}

/// The bytes of the log, converted if it is in UTF-16. In every other encoding, ASCII characters
/// have the same bytes as in UTF-8. That is enough: a cell is either read as ASCII, or only
/// compared with others.
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

/// The rows of a log while they are read.
struct Rows<'a> {
    terms: &'a LogTerms<'a>,
    columns: &'a Columns,
    log: LogBuilder,
    left_out: u64,
    /// Numbers without a calling code and a region.
    without_region: u64,
    says_known: bool,
    origin: &'a str,
}

impl Rows<'_> {
    /// Returns the rest of a message if the reading had to end.
    fn read(&mut self, input: Box<dyn BufRead>, head: &Head) -> Result<(), String> {
        let since = Rc::new(Cell::new(0));
        let limited = LimitedRows::new(input, Rc::clone(&since));
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
            if row.as_slice().split(|byte| *byte == b'\n').count() > MOST_LINES {
                return Err(format!(
                    ":{line}: the row has more than {MOST_LINES} lines; is a closing quote missing?"
                ));
            }
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
                self.says_known &= known.is_some();
                let is_known = known.unwrap_or_else(|| self.is_known(&party));
                self.log.call(at, user, party, is_known);
            }
            other => {
                let no_region = RemoteParty::Unusable(NumberError::NoRegion);
                self.without_region += u64::from(other == no_region);
                self.log.call_without_number();
            }
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

    /// Whether the CRM knows a number: drawn by the seed, the same for each call of the number.
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
        let mut log = self.log.finish();
        log.spread_whole_minutes();
        let Some((first, last)) = log.span() else {
            let why = match (self.without_region, self.left_out, log.without_number()) {
                (1.., ..) => ": the numbers have no calling code; name their country with --region",
                (_, 1.., _) => ": no row holds a call",
                (.., 1..) => ": no call has a number",
                _ => " holds no calls",
            };
            return Err(why.to_owned());
        };
        if last - first > LONGEST_LOG {
            let [first, last] = [first, last].map(moment::day);
            return Err(format!(
                ": the calls are from {first} to {last}, and a log has at most ten years; remove the rows with a \
                 wrong time"
            ));
        }
        if self.without_region > 0 {
            say(format_args!(
                "contactd: {}: {} of the calls' numbers have no calling code and are not looked up; name their \
                 country with --region",
                self.origin, self.without_region
            ));
        }
        Ok(ReadLog {
            log,
            left_out: self.left_out,
            has_accounts: head.columns.account.is_some(),
            says_known: self.says_known,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is read of a log, or the message.
    fn read_text(text: &str) -> Result<ReadLog, String> {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("calls.csv");
        std::fs::write(&path, text).unwrap();
        let terms = LogTerms {
            columns: &NamedColumns::default(),
            day_first: false,
            region: None,
            words: &WithheldWords::default(),
            connectors: &["example".to_owned()],
            connector: 0,
            known: 0.5,
            seed: 1,
        };
        read(&path, &terms).map_err(|failure| match failure {
            Failure::Misused(words) => words,
            other @ Failure::Failed(_) => format!("another failure: {other:?}"),
        })
    }

    fn log(rows: &str) -> Result<ReadLog, String> {
        read_text(&format!("time,user,number,known,note\n{rows}"))
    }

    #[test]
    fn a_log_without_a_number_to_look_up_is_refused_with_the_reason() {
        for (rows, reason) in [
            ("1773065100,u,6502000001\n", "with --region"),
            (
                "1773065100,u,anonymous\n1773065101,u,\n",
                "no call has a number",
            ),
            ("x,u,+16502000001\n", "no row holds a call"),
            ("", "holds no calls"),
        ] {
            let fault = log(rows).unwrap_err();
            assert!(fault.contains(reason), "{fault}");
        }
        let partly = log("1773065100,u,6502000001\n1773065100,u,+16502000001\n").unwrap();
        assert_eq!((partly.log.len(), partly.log.without_number()), (1, 1));
    }

    #[test]
    fn a_quote_without_an_end_does_not_take_the_rows_after_it() {
        let call = "1773065100,u,+16502000001,,";
        let few = log(&format!("{call}\"a\nb\"\n{call}\n")).unwrap();
        assert_eq!(few.log.len(), 2);
        let rest = format!("{call}\n").repeat(200);
        let fault = log(&format!("{call}\n{call}\"call back\n{rest}")).unwrap_err();
        assert!(
            fault.contains("calls.csv:3: ") && fault.contains("quote"),
            "{fault}"
        );
    }

    #[test]
    fn a_log_of_more_than_ten_years_is_refused_with_its_days() {
        let call = |day: &str| format!("{day},u,+16502000001\n");
        assert!(log(&(call("2016-03-10") + &call("2026-03-09"))).is_ok());
        let fault = log(&(call("1970-01-01") + &call("2026-03-09"))).unwrap_err();
        for words in ["1970-01-01", "2026-03-09", "ten years"] {
            assert!(fault.contains(words), "{fault}");
        }
    }

    #[test]
    fn a_log_says_what_is_known_only_if_each_call_does() {
        let says = |known: &str| {
            let rows = format!(
                "1773065100,u,+16502000001,yes\n1,u,x\n1773065100,u,+16502000002,{known}\n"
            );
            log(&rows).unwrap().says_known
        };
        assert!(says("no") && !says(""));
    }

    #[test]
    fn calls_of_a_log_in_whole_minutes_are_spread_over_each() {
        let spread = |times: [u64; 4]| {
            let rows = times.map(|at| format!("{},u,+16502000001\n", 1_773_065_100 + at));
            let (first, last) = log(&rows.concat()).unwrap().log.span().unwrap();
            last - first
        };
        assert_eq!(spread([0, 0, 0, 0]), 45_000);
        assert_eq!(spread([0, 60, 120, 180]), 180_000);
        assert_eq!(spread([0, 0, 0, 1]), 1_000);
    }
}
