use proptest::prelude::*;
use rlibphonenumber::PhoneNumberFormat;

use super::*;

fn number(text: &str) -> E164 {
    E164::parse(text, None).unwrap()
}

fn dialled(text: &str, region: &str) -> String {
    match dial(text, Region::parse(region)) {
        Ok(Dialled::Party(party)) => party.to_string(),
        Ok(Dialled::Withheld) => "withheld".to_owned(),
        Ok(Dialled::ShortCode) => "short".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn every_spelling_becomes_one_number() {
    for (spelling, region) in [
        ("+16505551234", ""),
        ("  +1 (650) 555-1234 ", ""),
        ("+1-650-555-1234", ""),
        ("+1.650.555.1234", ""),
        ("tel:+1-650-555-1234", ""),
        ("tel:+16505551234;ext=42", ""),
        ("tel:555-1234;phone-context=+1650", ""),
        ("sip:+16505551234@pbx.example.com;user=phone", ""),
        ("sips:+16505551234;ext=42@pbx.example.com", ""),
        ("+16505551234;ext=42", ""),
        ("+1 650 555 1234 x42", ""),
        ("\u{202a}+1 650 555 1234\u{202c}", ""),
        ("\u{ff0b}\u{ff11}\u{ff16}\u{ff15}\u{ff10}5551234", ""),
        ("+1 650 555 1ABC", "US"),
        ("(650) 555-1234", "US"),
        ("16505551234", "US"),
        ("011 1 650 555 1234", "US"),
        ("00 1 650 555 1234", "DE"),
        ("0011 1 650 555 1234", "AU"),
        ("(650) 555-1234", "us"),
    ] {
        let expected = if spelling.contains("ABC") { "+16505551222" } else { "+16505551234" };
        assert_eq!(dialled(spelling, region), expected, "{spelling} read in {region:?}");
    }
}

#[test]
fn national_zeros_stay_and_trunk_zeros_go() {
    assert_eq!(dialled("06 1234 5678", "IT"), "+390612345678");
    assert_eq!(number("+39 06 1234 5678").national(), "0612345678");
    assert_eq!(dialled("020 7946 0018", "GB"), "+442079460018");
    assert_eq!(dialled("+4402079460018", ""), "+442079460018");
}

#[test]
fn nobody_is_looked_up_for_withheld_and_short_numbers() {
    for text in ["anonymous", "Anonymous", "RESTRICTED", "unavailable", "sip:anonymous@anonymous.invalid", "+266696687"]
    {
        assert_eq!(dialled(text, "US"), "withheld", "{text}");
    }
    for (text, region) in
        [("911", "US"), ("112", "DE"), ("999", "GB"), ("000", "AU"), ("411", ""), ("22000", "US"), ("116117", "US")]
    {
        assert_eq!(dialled(text, region), "short", "{text} in {region}");
    }
}

#[test]
fn impossible_numbers_are_refused_with_the_reason() {
    for (text, region, reason) in [
        ("", "US", "Empty"),
        (" \t", "US", "Empty"),
        ("sip:@x", "US", "Empty"),
        ("6505551234", "", "NoRegion"),
        ("(650) 555-1234", "", "NoRegion"),
        ("hello", "US", "NotANumber"),
        ("7", "US", "NotANumber"),
        ("+1555", "", "TooShort"),
        ("5551234", "US", "TooShort"),
        ("+112", "", "TooShort"),
        ("+99912345678", "", "UnknownCallingCode"),
        ("+1650555123456", "", "TooLong"),
        ("+123456789012345678901", "", "TooLong"),
    ] {
        assert_eq!(dialled(text, region), reason, "{text:?} in {region:?}");
    }
    assert_eq!(dialled(&"1".repeat(300), "US"), "TooLong");
}

#[test]
fn regions_are_the_ones_with_a_numbering_plan() {
    assert!(Region::parse("DE").is_some());
    assert!(Region::parse("gb").is_some());
    for text in ["", "EU2", "XX", "United States", "D", "ÄÄ"] {
        assert!(Region::parse(text).is_none(), "{text}");
    }
}

#[test]
fn a_stored_spelling_is_this_number_only_if_the_digits_say_so() {
    let us = number("+16505551234");
    for stored in [
        "+16505551234",
        "(650) 555-1234",
        "650.555.1234",
        "6505551234",
        "16505551234",
        "1 (650) 555-1234",
        "011 1 650 555 1234",
        "650-555-1234 x42",
        "tel:+1-650-555-1234",
        "212-555-0000 / 650-555-1234",
        "650 555 1234, 650 555 9999",
    ] {
        assert!(us.is_spelled(stored), "{stored}");
    }
    for stored in
        ["", "5551234", "(212) 555-1234", "+44 650 555 1234", "+6505551234", "650555123", "65055512345", "a", "/"]
    {
        assert!(!us.is_spelled(stored), "{stored}");
    }
    let uk = number("+442079460018");
    for stored in ["020 7946 0018", "2079460018", "442079460018", "0044 20 7946 0018", "+44 (0)20 7946 0018"] {
        assert!(uk.is_spelled(stored), "{stored}");
    }
    assert!(!uk.is_spelled("+1 207 946 0018"), "another country's number of the same digits");
    let italy = number("+390612345678");
    assert!(italy.is_spelled("06 1234 5678"));
    assert!(!italy.is_spelled("6 1234 5678"));
    assert!(number("+80012345678").is_spelled("00800 1234 5678") || number("+80012345678").is_spelled("80012345678"));
}

#[test]
fn numbers_and_extensions_are_masked_in_debug_output() {
    let text = format!("{:?} {:?}", Party::Number(number("+16505551234")), Extension::parse("1042").unwrap());
    assert!(!text.contains("650") && !text.contains("1042"), "{text}");
}

#[test]
fn extensions_keep_their_zeros() {
    for text in ["1", "0042", "1042", "123456789012345"] {
        assert_eq!(Extension::parse(text).unwrap().to_string(), text);
    }
    for text in ["x42", "12 34", "+1", "1234567890123456", "１２"] {
        assert_eq!(Extension::parse(text), Err(NumberError::NotAnExtension), "{text}");
    }
    assert_ne!(Extension::parse("42"), Extension::parse("042"));
}

/// The engine's own example numbers of all regions: what we print is what the engine prints.
#[test]
fn example_numbers_of_all_regions_are_printed_as_the_engine_prints_them() {
    let mut seen = 0;
    for region in PHONE_NUMBER_UTIL.get_supported_regions() {
        let Ok(example) = PHONE_NUMBER_UTIL.get_example_number(region) else { continue };
        let expected = PHONE_NUMBER_UTIL.format(&example, PhoneNumberFormat::E164);
        let national = PHONE_NUMBER_UTIL.format(&example, PhoneNumberFormat::National);
        let parsed = number(&expected);
        assert_eq!(parsed.to_string(), expected);
        assert_eq!(parsed.national(), rlibphonenumber::get_national_significant_number_owned(&example));
        assert_eq!(E164::parse(&national, Some(Region(region))), Ok(parsed), "{national}");
        assert!(parsed.is_spelled(&expected) && parsed.is_spelled(&parsed.national()), "{expected}");
        seen += 1;
    }
    assert!(seen > 200, "only {seen} regions have an example number");
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}", region in prop::sample::select(vec!["", "US", "DE", "IT"])) {
        let region = Region::parse(region);
        if let Ok(Dialled::Party(Party::Number(number))) = dial(&text, region) {
            let e164 = number.to_string();
            prop_assert!(e164[1..].bytes().all(|b| b.is_ascii_digit()), "{e164}");
            // Printing and reading again changes nothing: one key per number.
            prop_assert_eq!(E164::parse(&e164, None), Ok(number));
        }
        let _ = number("+16505551234").is_spelled(&text);
    }

    #[test]
    fn separators_do_not_change_the_number(national in "[2-9][0-9]{2}[2-9][0-9]{6}", marks in "[ .()-]{0,4}") {
        let plain = dial(&format!("+1{national}"), None);
        let (area, rest) = national.split_at(3);
        let (exchange, line) = rest.split_at(3);
        prop_assert_eq!(plain, dial(&format!("+1 ({area}) {exchange}-{line}"), None));
        prop_assert_eq!(plain, dial(&format!("{area}.{exchange}.{line}{}", marks.trim_matches('(')), Region::parse("US")));
    }
}

proptest! {
    #[test]
    fn the_short_way_for_north_american_numbers_says_what_the_engine_says(text in "\\+1[0-9]{9,11}") {
        if let Some(number) = E164::north_american(&text) {
            for region in ["US", "CA", "BS", "DE", "IT"].map(Region::parse).into_iter().chain([None]) {
                prop_assert_eq!(E164::by_engine(&text, region), Ok(number));
            }
        }
    }
}
