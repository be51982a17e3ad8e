//! Which columns of a call log are what, by their headers.

use csv::ByteRecord;

use super::moment::{self, MomentError};
use crate::cli::prefetch::{NUMBER_HEADERS, plain};

/// Headers in lower case, without spaces and punctuation. Telephone systems write the time in one
/// column, or the date and the time of day in two.
const MOMENT: &[&str] = &[
    "timestamp",
    "datetime",
    "calltime",
    "callstart",
    "callstarttime",
    "starttime",
    "start",
    "startedat",
    "startdate",
    "when",
    "at",
    "calldate",
    "zeitpunkt",
    "zeitstempel",
    "beginn",
];
const DATE: &[&str] = &["date", "datum", "fecha"];
const TIME: &[&str] = &["time", "zeit", "uhrzeit", "hora", "heure"];
const USER: &[&str] = &[
    "userid",
    "user",
    "username",
    "useremail",
    "agent",
    "agentid",
    "extension",
    "extensionid",
    "ext",
    "employee",
    "owner",
    "benutzer",
    "nebenstelle",
    "usuario",
    "utilisateur",
];
const ACCOUNT: &[&str] = &[
    "accountid",
    "account",
    "tenant",
    "tenantid",
    "konto",
    "mandant",
];
const CONNECTOR: &[&str] = &["connector", "platform", "crm"];
const KNOWN: &[&str] = &["known", "found"];

/// How many columns an error message lists.
const LISTED: usize = 20;

/// The columns that somebody has named.
#[derive(Debug, Clone, Default, clap::Args)]
#[expect(
    clippy::struct_field_names,
    reason = "they are the names of the options"
)]
pub(super) struct NamedColumns {
    /// The column with the time of a call, if contactd does not recognize its header.
    #[arg(long, value_name = "NAME")]
    time_column: Option<String>,
    /// The column with the user whose phone rings.
    #[arg(long, value_name = "NAME")]
    user_column: Option<String>,
    /// The column with the number of the other party.
    #[arg(long, value_name = "NAME")]
    number_column: Option<String>,
}

/// The places of the columns in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) moment: usize,
    /// The time of day, if it has a column of its own.
    pub(super) time_of_day: Option<usize>,
    pub(super) user: usize,
    pub(super) number: usize,
    pub(super) account: Option<usize>,
    pub(super) connector: Option<usize>,
    pub(super) known: Option<usize>,
}

impl Columns {
    /// The columns of a header.
    ///
    /// # Errors
    /// The rest of a message that begins with the file: which column is missing.
    pub(super) fn of(header: &ByteRecord, named: &NamedColumns) -> Result<Self, String> {
        if let Some(fault) = no_header(header) {
            return Err(fault.to_owned());
        }
        let names: Vec<String> = header
            .iter()
            .map(String::from_utf8_lossy)
            .map(|n| plain(&n))
            .collect();
        let find = |known: &[&str]| {
            let mut known = known.iter();
            known.find_map(|known| names.iter().position(|name| name == known))
        };
        let required = |named: &Option<String>, found: Option<usize>, what: &str, option: &str| {
            let wanted = named.as_deref().map(plain);
            let place = match &wanted {
                Some(wanted) => names.iter().position(|name| name == wanted),
                None => found,
            };
            place.ok_or_else(|| missing(header, named.as_deref(), (what, option)))
        };
        let day = find(MOMENT).or(find(DATE)).or(find(TIME));
        let moment = required(
            &named.time_column,
            day,
            "the time of a call",
            "--time-column",
        )?;
        let is_date_only = named.time_column.is_none() && find(MOMENT).is_none();
        let time_of_day = find(TIME).filter(|time| is_date_only && *time != moment);
        let number = NUMBER_HEADERS.iter().find_map(|known| find(known));
        let user = required(&named.user_column, find(USER), "the user", "--user-column")?;
        Ok(Self {
            moment,
            time_of_day,
            user,
            number: required(
                &named.number_column,
                number,
                "the number",
                "--number-column",
            )?,
            account: find(ACCOUNT),
            connector: find(CONNECTOR),
            known: find(KNOWN),
        })
    }
}

/// Why a first line is not the header of a log. Its cells are not shown, because they may be those
/// of a call.
fn no_header(header: &ByteRecord) -> Option<&'static str> {
    let mut cells = header.iter().map(String::from_utf8_lossy);
    if header.as_slice().contains(&b'\r') {
        return Some(": its lines end with carriage returns alone; save it with line feeds");
    }
    let is_time = |cell: &str| moment::parse(cell, false) != Err(MomentError::Form);
    cells
        .any(|cell| is_time(&cell))
        .then_some(": the first line is a call; put a line with the names of the columns before it")
}

fn missing(header: &ByteRecord, named: Option<&str>, (what, option): (&str, &str)) -> String {
    let shown = header.iter().take(LISTED).map(|name| {
        let name: String = String::from_utf8_lossy(name).chars().take(40).collect();
        format!("{name:?}")
    });
    let more = if header.len() > LISTED { ", ..." } else { "" };
    let there = format!("{}{more}", shown.collect::<Vec<_>>().join(", "));
    match named {
        Some(named) => format!(": no column is named {named:?}; the first line has {there}"),
        None => format!(
            ": no column seems to have {what}; the first line has {there}; name the column with {option}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(header: &[&str]) -> Result<Columns, String> {
        Columns::of(&ByteRecord::from(header.to_vec()), &NamedColumns::default())
    }

    #[test]
    fn the_headers_of_telephone_systems_are_known() {
        let found = columns(&["time", "user", "phone_number", "known"]).unwrap();
        assert_eq!((found.moment, found.time_of_day), (0, None));
        assert_eq!((found.user, found.number, found.known), (1, 2, Some(3)));
        let found = columns(&["Type", "Phone Number", "Extension", "Date", "Time"]).unwrap();
        assert_eq!((found.moment, found.time_of_day), (3, Some(4)));
        let found = columns(&["calldate", "Account", "User ID", "CRM", "caller id"]).unwrap();
        assert_eq!(
            (found.moment, found.account, found.connector),
            (0, Some(1), Some(3))
        );
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_are_there() {
        let fault = columns(&["time", "who", "phone"]).unwrap_err();
        for words in ["the user", "\"who\"", "--user-column"] {
            assert!(fault.contains(words), "{fault}");
        }
        let named = NamedColumns {
            user_column: Some("Whom".to_owned()),
            ..NamedColumns::default()
        };
        let header = ByteRecord::from(vec!["time", "who", "phone"]);
        let fault = Columns::of(&header, &named).unwrap_err();
        assert!(
            fault.contains("\"Whom\"") && fault.contains("\"who\""),
            "{fault}"
        );
    }

    #[test]
    fn a_first_line_that_is_no_header_is_refused_without_its_cells() {
        for (header, words) in [
            (["2026-03-09T14:05:00Z", "ada", "+16502000001"], "is a call"),
            (["Date", "User", "Number\r3/9/2026"], "carriage returns"),
        ] {
            let fault = columns(&header).unwrap_err();
            assert!(fault.contains(words), "{fault}");
            assert!(!fault.contains("ada") && !fault.contains("2026"), "{fault}");
        }
    }
}
