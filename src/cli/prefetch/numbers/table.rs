//! The cells of the numbers in a text: the lines of a list, or one column of a table.

use csv::{ReaderBuilder, StringRecord, Trim};

/// The headers of a column with numbers, in lower case and without spaces and punctuation. A table
/// with a column of an earlier group is not searched for one of a later group.
pub(in crate::cli) const HEADERS: [&[&str]; 3] = [
    &["phonenumber"],
    &[
        "phone",
        "phoneno",
        "telephone",
        "telephonenumber",
        "tel",
        "telno",
        "mobile",
        "mobilephone",
        "mobilenumber",
        "cell",
        "cellphone",
        "cellnumber",
        "callernumber",
        "callerid",
        "callingnumber",
        "remotenumber",
        "externalnumber",
        "e164",
        "msisdn",
        "ani",
        "telefon",
        "telefonnummer",
        "telefonnr",
        "rufnummer",
        "handynummer",
        "mobilnummer",
        "téléphone",
        "numérodetéléphone",
        "numerodetelephone",
        "teléfono",
        "telefono",
        "númerodeteléfono",
        "numerodetelefono",
        "numeroditelefono",
        "telefone",
        "telefoon",
        "telefoonnummer",
        "numertelefonu",
        "puhelinnumero",
    ],
    &["number", "nummer", "numéro", "número", "numero"],
];

/// What may separate the cells of a row.
const DELIMITERS: [u8; 4] = *b",;\t|";

/// How many columns an error message lists.
const NAMED_COLUMNS: usize = 20;

/// The cells with numbers. The text is a table if `is_csv`, if its first line looks like one, or if
/// a header is known or has the name `column`.
///
/// # Errors
/// If a table has no such column, or several.
pub(super) fn cells(text: &str, is_csv: bool, column: Option<&str>) -> Result<Vec<String>, String> {
    let (delimiters, body) = separators(without_preamble(text.trim_start_matches('\u{feff}')));
    for delimiter in delimiters {
        let header = header(body, *delimiter)?;
        if let Some(column) = column_in(&header, column)? {
            return column_of(body, *delimiter, column);
        }
    }
    let first = lines(body).next().unwrap_or_default().trim_end();
    // No telephone number contains or ends with one of these.
    let is_table = first.contains([',', '\t']) || first.ends_with(';');
    if !is_csv && !is_table && column.is_none() {
        let numbers = lines(body).filter(|line| !is_empty(line));
        return Ok(numbers.map(unquoted).collect());
    }
    let by_use = |delimiter: &&u8| first.as_bytes().contains(delimiter);
    let delimiter = *delimiters.iter().find(by_use).unwrap_or(&b',');
    let header = header(body, delimiter)?;
    let only = if column.is_none() {
        only_column(body, delimiter)?
    } else {
        None
    };
    only.ok_or_else(|| no_column(&header, column, delimiter))
}

/// The possible delimiters, and the rows: Excel may name the delimiter in a first line `sep=;`.
fn separators(text: &str) -> (&[u8], &str) {
    let first = lines(text).next().unwrap_or_default();
    let named = first.trim_end_matches(['\r', '\n']).strip_prefix("sep=");
    match named.map(str::as_bytes) {
        Some(delimiter @ [_]) => {
            let rest = &text[first.len()..];
            // The delimiter stands in the text itself, which outlives this call.
            (delimiter, rest.trim_start_matches('\n'))
        }
        _ => (&DELIMITERS, text),
    }
}

/// The column with numbers. A user's word is decisive.
fn column_in(header: &StringRecord, column: Option<&str>) -> Result<Option<usize>, String> {
    if let Some(wanted) = column.map(plain) {
        return Ok(header.iter().position(|name| plain(name) == wanted));
    }
    for names in HEADERS {
        let is_known = |name: &&str| names.contains(&plain(name).as_str());
        let known: Vec<&str> = header.iter().filter(is_known).collect();
        match known[..] {
            [] => {}
            [name] => return Ok(header.iter().position(|other| other == name)),
            _ => {
                return Err(format!(
                    "several columns may have the numbers: {}; name one with --column",
                    quoted(known.into_iter())
                ));
            }
        }
    }
    Ok(None)
}

/// A header in lower case, without spaces and punctuation.
pub(in crate::cli) fn plain(name: &str) -> String {
    let letters = name.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
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

fn unquoted(line: &str) -> String {
    let line = line.trim();
    let inner = line
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    inner
        .filter(|inner| !inner.contains('"'))
        .unwrap_or(line)
        .to_owned()
}

fn table(text: &str, delimiter: u8, has_header: bool) -> csv::Reader<&[u8]> {
    ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(has_header)
        .flexible(true)
        .trim(Trim::All)
        .from_reader(text.as_bytes())
}

fn header(text: &str, delimiter: u8) -> Result<StringRecord, String> {
    table(text, delimiter, true)
        .headers()
        .cloned()
        .map_err(|error| format!("the header cannot be read: {error}"))
}

/// The cells of one column. Rows without it are skipped.
fn column_of(text: &str, delimiter: u8, column: usize) -> Result<Vec<String>, String> {
    let mut numbers = Vec::new();
    for row in table(text, delimiter, true).records() {
        let row = row.map_err(|error| format!("a row cannot be read: {error}"))?;
        numbers.extend(
            row.get(column)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned),
        );
    }
    Ok(numbers)
}

/// The cells of the only column with content, if the first of them can be a number: a table without
/// a header.
fn only_column(text: &str, delimiter: u8) -> Result<Option<Vec<String>>, String> {
    let (mut column, mut cells) = (None, Vec::new());
    for row in table(text, delimiter, false).records() {
        let row = row.map_err(|error| format!("a row cannot be read: {error}"))?;
        for (n, cell) in row.iter().enumerate().filter(|(_, cell)| !cell.is_empty()) {
            if *column.get_or_insert(n) != n {
                return Ok(None);
            }
            cells.push(cell.to_owned());
        }
    }
    let has_digits = |cell: &String| cell.contains(|c: char| c.is_ascii_digit());
    let is_number = cells.first().is_none_or(has_digits);
    Ok(is_number.then_some(cells))
}

fn no_column(header: &StringRecord, column: Option<&str>, delimiter: u8) -> String {
    let more = if header.len() > NAMED_COLUMNS {
        ", ..."
    } else {
        ""
    };
    let there = quoted(header.iter().take(NAMED_COLUMNS));
    let number = header.iter().position(is_like_number);
    match (column, number) {
        (Some(column), _) => {
            format!("no column is named {column:?}; the first line has {there}{more}")
        }
        (None, Some(n)) => format!(
            "the table seems to have no header: its first line has {there}{more}; add a header and name the column \
             with --column, or give that column alone: {}",
            cut(n + 1, delimiter)
        ),
        (None, None) => format!(
            "no column is named \"phone_number\", \"Phone\" or the like; the first line has {there}{more}: name one \
             with --column"
        ),
    }
}

/// Whether a cell of a first line is a number and not the name of a column.
fn is_like_number(cell: &str) -> bool {
    cell.contains(|c: char| c.is_ascii_digit()) && !cell.contains(char::is_alphabetic)
}

/// The command that takes a column out of a table.
fn cut(column: usize, delimiter: u8) -> String {
    match delimiter {
        b'\t' => format!("`cut -f{column} FILE`"),
        other => format!("`cut -d'{}' -f{column} FILE`", char::from(other)),
    }
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("{name:?}")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Vec<String> {
        cells(text, false, None).unwrap()
    }

    #[test]
    fn a_plain_list_has_one_number_a_line_between_blanks_and_comments() {
        let text = "\u{feff}# recent calls, newest first\r\n\r\n +1 (650) 555-1234 \r\n\
                    #off\n030 123456\n\ntel:+49301;ext=5\n\"+49302\"\n";
        assert_eq!(
            numbers(text),
            [
                "+1 (650) 555-1234",
                "030 123456",
                "tel:+49301;ext=5",
                "+49302"
            ]
        );
        assert_eq!(
            numbers("anonymous\r+16505551234\r"),
            ["anonymous", "+16505551234"]
        );
        assert_eq!(numbers("tel:+49301;ext=5\n"), ["tel:+49301;ext=5"]);
        assert!(numbers("").is_empty() && numbers("\u{feff}\n# nothing\n").is_empty());
    }

    #[test]
    fn a_csv_gives_its_column_whatever_else_it_holds() {
        let expected = ["+16505551234", "+493012345"];
        for text in [
            "phone_number\n+16505551234\n+493012345\n",
            "\u{feff}name,Phone_Number,when\r\n\"Doe, Jane\",\"+16505551234\",1\r\n\r\nRoe, +493012345 ,2\r\n",
            "# exported today, by hand\n\"PHONE_NUMBER\",\"note\"\n+16505551234,\"two\nlines\"\n\
             ,\"no number\"\n+493012345\n",
            "name;phone_number\nJane;+16505551234\nshort\nRoe;+493012345\n",
            "name\tphone_number\nJane\t+16505551234\nRoe\t+493012345",
            "\"a\nb\",phone_number\n#1,+16505551234\n2,+493012345",
            // The headers that people and spreadsheets write.
            "Name,Phone Number,,\nJane,+16505551234,,\nRoe,+493012345,,\n",
            "phone\n+16505551234\n+493012345\n",
            "Number;Telefon\r\n1;+16505551234\r\n2;+493012345\r\n",
            "No.;Rufnummer;Number\n1;+16505551234;x\n2;+493012345;y\n",
            "Jane|phone-number\na|+16505551234\nb|+493012345",
            "sep=;\r\nName;Tel.\r\nJane;+16505551234\r\nRoe;+493012345\r\n",
            "number\r+16505551234\r+493012345\r",
            // No header at all.
            "+16505551234,,\n+493012345,,\n",
            "+16505551234;;\n+493012345;;\n",
            "\t+16505551234\n\t+493012345\n",
        ] {
            assert_eq!(numbers(text), expected, "{text:?}");
        }
        let named = "when,Anrufer\n1,+16505551234\n2,+493012345\n";
        assert_eq!(cells(named, true, Some("anrufer")).unwrap(), expected);
        let lines = "+16505551234\n+493012345\n";
        assert_eq!(cells(lines, true, None).unwrap(), expected);
    }

    #[test]
    fn a_csv_without_the_column_names_those_it_has() {
        for text in ["name,contact\nJane,+1\n", "+1,Jane\n+2,Roe\n"] {
            for is_csv in [false, true] {
                let fault = cells(text, is_csv, None).unwrap_err();
                let first = text.split(',').next().unwrap();
                assert!(
                    fault.contains("--column") && fault.contains(&format!("{first:?}, ")),
                    "{fault}"
                );
            }
        }
        for (text, cut) in [
            (
                "Jane,+16505551234\nRoe,+16505551235\n",
                "`cut -d',' -f2 FILE`",
            ),
            ("+16505551234\tJane\n", "`cut -f1 FILE`"),
        ] {
            let fault = cells(text, false, None).unwrap_err();
            assert!(
                fault.contains("no header") && fault.contains(cut),
                "{fault}"
            );
        }
        assert!(cells("Kontakt\n+16505551234\n", true, None).is_err());
        let fault = cells("name,phone\nJane,+1\n", false, Some("mobile")).unwrap_err();
        assert!(
            fault.contains("\"mobile\"") && fault.contains("\"name\", \"phone\""),
            "{fault}"
        );
        let fault = cells("Phone,Mobile\n1,2\n", false, None).unwrap_err();
        assert!(
            fault.contains("\"Phone\", \"Mobile\"") && fault.contains("--column"),
            "{fault}"
        );
        let wide = vec!["c"; 50].join(",");
        let fault = cells(&wide, false, None).unwrap_err();
        assert!(fault.contains("\"c\", ...:"), "{fault}");
    }
}
