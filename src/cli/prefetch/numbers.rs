//! Reads the numbers of a batch from a file or standard input: one a line, or one column of a table
//! as spreadsheets export it.

use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};

use crate::cli::{Failure, printable, say};
use crate::pb::v1 as pb;

mod cell;
mod table;

pub(in crate::cli) use cell::number as spreadsheet_number;
pub(in crate::cli) use table::{HEADERS as NUMBER_HEADERS, plain};

/// The most numbers that the daemon accepts in one batch.
pub(super) const MOST: usize = 10_000;

/// How a workbook of Excel begins: it is a ZIP archive.
pub(in crate::cli) const WORKBOOK: &[u8] = b"PK\x03\x04";

/// The numbers of a batch.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub(super) numbers: Vec<String>,
    /// Numbers that a spreadsheet has rounded, as failed results. They are not sent to the daemon.
    pub(super) lost: Vec<pb::PrefetchResult>,
}

/// The numbers of `file`, or of standard input if there is none or it is `-`. `column` names the
/// column of a table, if contactd does not recognize its header.
pub(super) fn read(file: Option<&Path>, column: Option<&str>) -> Result<Numbers, Failure> {
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
    if bytes.starts_with(WORKBOOK) {
        let words = format!("{origin} is an Excel workbook; save it as CSV");
        return Err(Failure::Misused(words));
    }
    let extension = file.and_then(Path::extension);
    let is_csv = extension.is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let numbers = table::cells(&decoded(&bytes), is_csv, column)
        .map_err(|fault| format!(": {fault}"))
        .and_then(|cells| bounded(&cells));
    numbers.map_err(|fault| Failure::Misused(format!("{origin}{fault}")))
}

/// The numbers in cells, or the rest of an error message that begins with their origin.
fn bounded(cells: &[String]) -> Result<Numbers, String> {
    let mut read = Numbers::default();
    for cell in cells {
        match cell::number(cell) {
            Ok(number) => read.numbers.push(number),
            Err(lost) => read.lost.push(pb::PrefetchResult {
                phone_number: cell.clone(),
                outcome: pb::PrefetchOutcome::InvalidNumber.into(),
                reason: lost.to_string(),
                ..Default::default()
            }),
        }
    }
    match (read.numbers.len(), read.lost.first()) {
        (0, Some(first)) => Err(format!(
            " holds no complete number: {}, for example, {}",
            printable(&first.phone_number),
            first.reason
        )),
        (0, None) => Err(" holds no numbers".to_owned()),
        (count, _) if count > MOST => Err(format!(
            " holds {count} numbers, and a batch takes at most {MOST}; give it the most recent calls, or several \
             batches one after the other"
        )),
        _ => Ok(read),
    }
}

fn read_input() -> io::Result<Vec<u8>> {
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        say("contactd: type the numbers, one per line; ctrl-d ends the list");
    }
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text in UTF-8 or UTF-16, or else in the encoding of spreadsheets on Windows.
pub(in crate::cli) fn decoded(bytes: &[u8]) -> String {
    let marked = Encoding::for_bom(bytes).map(|(encoding, _)| encoding);
    let encoding = marked.or(match bytes {
        // The first character of a table is ASCII.
        [0, _, ..] => Some(UTF_16BE),
        [_, 0, ..] => Some(UTF_16LE),
        _ => None,
    });
    match (encoding, std::str::from_utf8(bytes)) {
        (None, Ok(text)) => text.to_owned(),
        (encoding, _) => encoding
            .unwrap_or(WINDOWS_1252)
            .decode(bytes)
            .0
            .into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(bytes: &[u8]) -> Vec<String> {
        let cells = table::cells(&decoded(bytes), true, None).unwrap();
        bounded(&cells).unwrap().numbers
    }

    #[test]
    fn every_encoding_of_spreadsheets_is_read() {
        let text = "Téléphone;Nom\r\n14155550123;\"M\u{fc}ller\"\r\n";
        let utf16 = |swap: bool| -> Vec<u8> {
            let units = text.encode_utf16();
            units
                .flat_map(|unit| {
                    if swap {
                        unit.to_be_bytes()
                    } else {
                        unit.to_le_bytes()
                    }
                })
                .collect()
        };
        let latin1: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            utf16(false),
            utf16(true),
            [&[0xff, 0xfe], &utf16(false)[..]].concat(),
            [&[0xfe, 0xff], &utf16(true)[..]].concat(),
            latin1,
        ] {
            assert_eq!(numbers(&bytes), ["14155550123"], "{bytes:?}");
        }
        assert!(decoded(b"").is_empty());
    }

    #[test]
    fn numbers_whose_digits_are_lost_are_kept_apart() {
        let cells = ["+1", "1.41556E+10"].map(str::to_owned);
        let read = bounded(&cells).unwrap();
        let lost = &read.lost[0].phone_number;
        assert_eq!((&*read.numbers[0], &**lost), ("+1", "1.41556E+10"));
        let none = bounded(&cells[1..]).unwrap_err();
        assert!(
            none.contains("1.41556E+10") && none.contains("text"),
            "{none}"
        );
        assert_eq!(bounded(&[]).unwrap_err(), " holds no numbers");
    }
}
