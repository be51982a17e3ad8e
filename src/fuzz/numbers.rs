//! Numbers from switches, phone fields of records, and formats of users.

use super::choice_and_text;
use crate::domain::phone::{
    Certainty, NumberError, RemoteParty, Sought, WithheldWords, extension_asked, parse_remote,
};
use crate::domain::{E164, Extension, NumberFormat, Party, Region, Spelling, Variants};

/// Plans with and without trunk prefix, with leading zeros, and with very short numbers.
const REGIONS: [&str; 8] = ["", "US", "DE", "IT", "GB", "AR", "FO", "AU"];

/// Numbers with one form and with two.
const NUMBERS: [&str; 6] = [
    "+16505551234",
    "+4930123456",
    "+390612345678",
    "+5491123456789",
    "+298123456",
    "+525512345678",
];

const SPELLINGS: [Spelling; 7] = [
    Spelling::E164,
    Spelling::Digits,
    Spelling::National,
    Spelling::Local,
    Spelling::LocalDigits,
    Spelling::International,
    Spelling::Formats,
];

fn region(choice: usize) -> Option<Region> {
    Region::parse(REGIONS[choice % REGIONS.len()])
}

fn known_number(choice: usize) -> Option<E164> {
    E164::parse(NUMBERS[choice % NUMBERS.len()], None).ok()
}

/// A region, and what a switch sent.
pub fn number(data: &[u8]) {
    let Some((choice, text)) = choice_and_text(data) else {
        return;
    };
    if let Some(extension) = extension_asked(text) {
        assert_eq!(Extension::parse(&extension.to_string()), Ok(extension));
    }
    let region = region(choice);
    match parse_remote(text, region, &WithheldWords::default()) {
        Ok(RemoteParty::Party(Party::Number(number))) => number_is_sound(number, region),
        Ok(RemoteParty::Party(Party::Extension(_))) => unreachable!("a switch sends numbers"),
        Ok(RemoteParty::Withheld | RemoteParty::ShortCode | RemoteParty::Unusable(_)) => {}
        Err(error) => assert_eq!(
            error == NumberError::TooManyBytes,
            text.len() > 256,
            "{error}"
        ),
    }
}

/// One key per number: however it is printed, it is the same number.
fn number_is_sound(number: E164, region: Option<Region>) {
    let e164 = number.to_string();
    let digits = e164.strip_prefix('+').unwrap_or_default();
    assert!(
        (1..=20).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()),
        "{e164}"
    );
    assert_eq!(E164::parse(&e164, region), Ok(number), "{e164}");
    let sought = Sought::new(number, region.as_slice());
    let itself = sought.find_in(&e164).map(|found| found.certainty);
    assert_eq!(itself, Some(Certainty::Certain), "{e164}");
    variants_are_sound(
        &Variants::new(&number, &SPELLINGS, &[]),
        SPELLINGS.len() + 1,
    );
}

fn variants_are_sound(variants: &Variants, most: usize) {
    let texts: Vec<&str> = variants.iter().collect();
    assert!((1..=most).contains(&texts.len()), "{texts:?}");
    for (n, text) in texts.iter().enumerate() {
        assert!(
            !text.trim().is_empty() && !text.contains(char::is_control),
            "{texts:?}"
        );
        assert!(!texts[..n].contains(text), "{texts:?}");
    }
}

/// A number and a region, and a phone field in which it may be.
pub fn phone_field(data: &[u8]) {
    let Some((choice, field)) = choice_and_text(data) else {
        return;
    };
    let (Some(number), region) = (known_number(choice / REGIONS.len()), region(choice)) else {
        return;
    };
    let sought = Sought::new(number, region.as_slice());
    let found = sought.find_in(field);
    if let Some(found) = &found {
        assert!(found.extensions.len() <= 4, "{field:?}");
        if found.certainty == Certainty::Certain {
            has_last_digits(field, number);
        }
    }
    // What comes after the first 256 bytes does not count, and costs nothing.
    if field.len() >= 256 && field.is_char_boundary(256) {
        assert_eq!(sought.find_in(&field[..256]), found);
    }
    let alone = format!("{number}; {field}");
    if field.len() < 200 && !alone.contains(['x', 'X', '#', '&']) {
        let _ = sought.find_in(&alone);
    }
}

/// A field that certainly matches the number contains its last digits in order.
fn has_last_digits(field: &str, number: E164) {
    let is_plain = |c: char| c.is_ascii() && !c.is_ascii_alphabetic() && c != '&';
    if field.chars().all(is_plain) {
        let digits: String = field.chars().filter(char::is_ascii_digit).collect();
        let number = number.to_string();
        let tail = &number[number.len() - 4..];
        assert!(digits.contains(tail), "{field:?} is not {number}");
    }
}

/// A number, and the formats of a user, one a line.
pub fn formats(data: &[u8]) {
    let Some((choice, text)) = choice_and_text(data) else {
        return;
    };
    let Some(number) = known_number(choice) else {
        return;
    };
    let lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let Ok(formats) = crate::api::formats(&lines) else {
        assert!(lines.len() > 16);
        return;
    };
    assert!(formats.len() <= lines.len());
    for format in &formats {
        assert_eq!(NumberFormat::parse(format.pattern()).as_ref(), Some(format));
        if let Some(spelled) = format.spell(&number) {
            is_spelled(&spelled, format, &number.national());
        }
    }
    for line in &lines {
        if let Some(spelling) = Spelling::parse(line) {
            let written = spelling.to_string();
            let quoted = written
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            let again = Spelling::parse(quoted.unwrap_or(&written));
            assert_eq!(again, Some(spelling));
        }
    }
    let most = SPELLINGS.len() + formats.len() + 1;
    variants_are_sound(&Variants::new(&number, &SPELLINGS, &formats), most);
}

/// Only the placeholders of the pattern change. They become the digits in order.
fn is_spelled(spelled: &str, format: &NumberFormat, national: &str) {
    let mut digits = national.chars();
    let expected = format.pattern().chars().map(|c| match c {
        '#' | '*' => digits.next().unwrap_or(c),
        c => c,
    });
    assert_eq!(spelled, expected.collect::<String>());
    assert_eq!(digits.next(), None);
}
