//! Reads the numbers of a batch from a file or standard input: one a line, or one column of a CSV.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};

use crate::cli::{Failure, say};

/// The most numbers that the daemon accepts in one batch.
pub(super) const MOST: usize = 10_000;

/// The column of a CSV that contains the numbers.
const COLUMN: &str = "phone_number";

/// How many columns an error message lists.
const NAMED_COLUMNS: usize = 20;

/// The numbers of `file`, or of standard input if there is none or it is `-`.
pub(super) fn read(file: Option<&Path>) -> Result<Vec<String>, Failure> {
    let file = file.filter(|path| *path != Path::new("-"));
    let origin = file.map_or_else(
        || "standard input".to_owned(),
        |path| path.display().to_string(),
    );
    let bytes = match file {
        Some(path) => fs::read(path),
        None => read_input(),
    };
    let bytes =
        bytes.map_err(|error| Failure::Misused(format!("cannot read {origin}: {error}")))?;
    let extension = file.and_then(Path::extension);
    let is_csv = extension.is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let numbers = parse(&bytes, is_csv)
        .map_err(|fault| format!(": {fault}"))
        .and_then(bounded);
    numbers.map_err(|fault| Failure::Misused(format!("{origin}{fault}")))
}

/// The numbers, or the rest of an error message that begins with their origin.
fn bounded(numbers: Vec<String>) -> Result<Vec<String>, String> {
    match numbers.len() {
        0 => Err(" holds no numbers".to_owned()),
        count if count > MOST => Err(format!(
            " holds {count} numbers, and a batch takes at most {MOST}; give it the most recent calls, or several \
             batches one after the other"
        )),
        _ => Ok(numbers),
    }
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        say("contactd: reads numbers from here, one a line; ctrl-d ends the list");
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The numbers in a text. It is parsed as a CSV if `is_csv`, or if its first line looks like one.
fn parse(bytes: &[u8], is_csv: bool) -> Result<Vec<String>, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("the text is UTF-16; save it as UTF-8".to_owned());
    }
    // Names in another encoding do no harm: numbers are ASCII.
    let text = String::from_utf8_lossy(bytes);
    let body = without_preamble(text.trim_start_matches('\u{feff}'));
    for delimiter in [b',', b';', b'\t'] {
        let header = header(body, delimiter)?;
        let column = header
            .iter()
            .position(|name| name.eq_ignore_ascii_case(COLUMN));
        if let Some(column) = column {
            return column_of(body, delimiter, column);
        }
    }
    // No telephone number contains one of these, so this is another table.
    let first = lines(body).next().unwrap_or_default();
    if is_csv || first.contains([',', '\t']) {
        return Err(no_column(&header(body, b',')?));
    }
    let numbers = lines(body).filter(|line| !is_empty(line));
    Ok(numbers.map(|line| line.trim().to_owned()).collect())
}

/// The text after the blank lines and comments at its beginning.
fn without_preamble(text: &str) -> &str {
    let preamble = lines(text).take_while(|line| is_empty(line));
    &text[preamble.map(str::len).sum()..]
}

/// Lines with their ends: `\n`, `\r\n` or `\r`.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive(['\n', '\r'])
}

/// Blank, or a comment.
fn is_empty(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

fn table(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(text.as_bytes())
}

fn header(text: &str, delimiter: u8) -> Result<StringRecord, String> {
    table(text, delimiter)
        .headers()
        .cloned()
        .map_err(|error| format!("the header cannot be read: {error}"))
}

/// The cells of one column. Rows without it are skipped.
fn column_of(text: &str, delimiter: u8, column: usize) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for row in table(text, delimiter).records() {
        let row = row.map_err(|error| format!("a row cannot be read: {error}"))?;
        numbers.extend(
            row.get(column)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned),
        );
    }
    Ok(numbers)
}

fn no_column(header: &StringRecord) -> String {
    let names: Vec<String> = header
        .iter()
        .take(NAMED_COLUMNS)
        .map(|name| format!("{name:?}"))
        .collect();
    let more = if header.len() > NAMED_COLUMNS {
        ", ..."
    } else {
        ""
    };
    format!(
        "no column is named \"{COLUMN}\"; the first line has {}{more}",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Vec<String> {
        parse(text.as_bytes(), false).unwrap()
    }

    #[test]
    fn a_plain_list_has_one_number_a_line_between_blanks_and_comments() {
        let text = "\u{feff}# recent calls, newest first\r\n\r\n +1 (650) 555-1234 \r\n\
                    #off\n030 123456\n\ntel:+49301;ext=5";
        assert_eq!(
            numbers(text),
            ["+1 (650) 555-1234", "030 123456", "tel:+49301;ext=5"]
        );
        assert_eq!(
            numbers("anonymous\r+16505551234\r"),
            ["anonymous", "+16505551234"]
        );
        assert!(numbers("").is_empty() && numbers("\u{feff}\n# nothing\n").is_empty());
    }

    #[test]
    fn a_csv_gives_its_column_whatever_else_it_holds() {
        let expected = ["+16505551234", "+493012345"];
        for text in [
            "phone_number\n+16505551234\n+493012345\n",
            "\u{feff}name,Phone_Number,when\r\n\"Doe, Jane\",\"+16505551234\",1\r\n\r\nRoe, +493012345 ,2\r\n",
            "# exported today, by hand\n\"PHONE_NUMBER\",\"note\"\n+16505551234,\"two\nlines\"\n,\"no number\"\n+493012345\n",
            "name;phone_number\nJane;+16505551234\nshort\nRoe;+493012345\n",
            "name\tphone_number\nJane\t+16505551234\nRoe\t+493012345",
            "\"a\nb\",phone_number\n#1,+16505551234\n2,+493012345",
        ] {
            assert_eq!(numbers(text), expected, "{text:?}");
        }
        let latin1 = b"name,phone_number\nM\xfcller,+16505551234\n,+493012345\n";
        assert_eq!(parse(latin1, true).unwrap(), expected);
    }

    #[test]
    fn a_csv_without_the_column_names_those_it_has() {
        for (text, is_csv) in [
            ("name,phone\nJane,+1\n", false),
            ("name,phone\nJane,+1\n", true),
        ] {
            let fault = parse(text.as_bytes(), is_csv).unwrap_err();
            assert!(
                fault.contains("\"phone_number\"") && fault.contains("\"name\", \"phone\""),
                "{fault}"
            );
        }
        assert!(parse(b"phone\n+16505551234\n", true).is_err());
        let wide = vec!["c"; 50].join(",");
        assert!(
            parse(wide.as_bytes(), false)
                .unwrap_err()
                .ends_with("\"c\", ...")
        );
        assert!(
            parse(&[0xff, 0xfe, b'+', 0], false)
                .unwrap_err()
                .contains("UTF-8")
        );
    }
}
