use proptest::prelude::*;
use rlibphonenumber::PhoneNumberFormat;

use super::*;

fn read(text: &str, region: &str) -> String {
    E164::parse(text, Region::parse(region))
        .unwrap()
        .to_string()
}

fn number(text: &str) -> E164 {
    E164::parse(text, None).unwrap()
}

#[test]
fn national_zeros_stay_and_trunk_zeros_go() {
    assert_eq!(read("06 1234 5678", "IT"), "+390612345678");
    assert_eq!(number("+39 06 1234 5678").national(), "0612345678");
    assert_eq!(read("020 7946 0018", "GB"), "+442079460018");
    assert_eq!(read("+4402079460018", ""), "+442079460018");
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
fn numbers_and_extensions_are_masked_in_debug_output() {
    let text = format!(
        "{:?} {:?}",
        Party::Number(number("+16505551234")),
        Extension::parse("1042").unwrap()
    );
    assert!(!text.contains("650") && !text.contains("1042"), "{text}");
}

#[test]
fn extensions_keep_their_zeros() {
    for text in ["1", "0042", "1042", "123456789012345"] {
        assert_eq!(Extension::parse(text).unwrap().to_string(), text);
    }
    for text in ["x42", "12 34", "+1", "1234567890123456", "１２"] {
        assert_eq!(
            Extension::parse(text),
            Err(NumberError::NotAnExtension),
            "{text}"
        );
    }
    assert_ne!(Extension::parse("42"), Extension::parse("042"));
}

/// The engine's own example numbers of all regions: what we print is what the engine prints.
#[test]
fn example_numbers_of_all_regions_are_printed_as_the_engine_prints_them() {
    let mut seen = 0;
    for region in PHONE_NUMBER_UTIL.get_supported_regions() {
        let Ok(example) = PHONE_NUMBER_UTIL.get_example_number(region) else {
            continue;
        };
        let expected = PHONE_NUMBER_UTIL.format(&example, PhoneNumberFormat::E164);
        let national = PHONE_NUMBER_UTIL.format(&example, PhoneNumberFormat::National);
        let parsed = number(&expected);
        assert_eq!(parsed.to_string(), expected);
        assert_eq!(
            parsed.national(),
            rlibphonenumber::get_national_significant_number_owned(&example)
        );
        assert_eq!(
            E164::parse(&national, Region::parse(&region.to_string())),
            Ok(parsed),
            "{national}"
        );
        seen += 1;
    }
    assert!(seen > 200, "only {seen} regions have an example number");
}

#[test]
fn a_second_trunk_prefix_is_stripped_as_the_first_one() {
    for (text, expected) in [
        ("+46 0 0142079460018", "+46142079460018"),
        ("+46 0 0 0 8 123 456", "+468123456"),
        ("+44 (0)0 20 7946 0018", "+442079460018"),
        ("+39 06 1234 5678", "+390612345678"),
        ("++11121112055515", "+121112055515"),
        ("+7 8 8 800 555 35 35", "+7888005553535"),
    ] {
        let read = number(text);
        assert_eq!(read.to_string(), expected, "{text}");
        assert_eq!(number(expected), read, "{text}");
    }
}

proptest! {
    #[test]
    fn separators_do_not_change_the_number(national in "[2-9][0-9]{2}[2-9][0-9]{6}", marks in "[ .()-]{0,4}") {
        let plain = E164::parse(&format!("+1{national}"), None);
        let (area, rest) = national.split_at(3);
        let (exchange, line) = rest.split_at(3);
        prop_assert_eq!(plain, E164::parse(&format!("+1 ({area}) {exchange}-{line}"), None));
        let marked = format!("{area}.{exchange}.{line}{}", marks.trim_matches('('));
        prop_assert_eq!(plain, E164::parse(&marked, Region::parse("US")));
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
