use super::*;
use crate::clock::Stopwatch;
use crate::domain::phone::WithheldWord;

fn with_words(text: &str, region: &str, words: &[&str]) -> String {
    let words: Vec<WithheldWord> = words.iter().map(|word| word.parse().unwrap()).collect();
    match parse_remote(text, Region::parse(region), &words.into()) {
        Ok(RemoteParty::Party(party)) => party.to_string(),
        Ok(RemoteParty::Withheld) => "withheld".to_owned(),
        Ok(RemoteParty::ShortCode) => "short".to_owned(),
        Ok(RemoteParty::Unusable(why)) => format!("unusable {why:?}"),
        Err(error) => format!("{error:?}"),
    }
}

fn dialled(text: &str, region: &str) -> String {
    with_words(text, region, &[])
}

#[test]
fn every_spelling_becomes_one_number() {
    for (spelling, region) in [
        ("+16505551234", ""),
        ("  +1 (650) 555-1234 ", ""),
        ("+1-650-555-1234", ""),
        ("+1.650.555.1234", ""),
        ("tel:+1-650-555-1234", ""),
        ("TEL:+16505551234", ""),
        ("tel:+16505551234;ext=42", ""),
        ("tel:555-1234;phone-context=+1650", ""),
        ("sip:+16505551234@pbx.example.com;user=phone", ""),
        ("sips:+16505551234;ext=42@pbx.example.com", ""),
        ("sip:%2B16505551234@pbx.example", ""),
        ("SIP:%2b16505551234@pbx.example:5060;transport=tls", ""),
        ("<sip:+16505551234@10.0.0.5;user=phone>", ""),
        ("\"Room 12\" <sip:+16505551234@pbx.example>;tag=1c2", ""),
        ("Anonymous <sip:+16505551234@pbx.example>", ""),
        ("\"Room 12\" sip:+16505551234@pbx.example", ""),
        ("<tel:+1-650-555-1234>", ""),
        ("+16505551234@10.0.0.5", ""),
        ("sip:+16505551234", ""),
        ("sip:+16505551234;npdi;rn=+14155550000@pbx.example", ""),
        ("sip:+16505551234:secret@pbx.example", ""),
        ("sip:6505551234@pbx.example", "US"),
        ("\"+16505551234\"", ""),
        ("+16505551234;ext=42", ""),
        ("+1 650 555 1234 x42", ""),
        ("\u{202a}+1 650 555 1234\u{202c}", ""),
        ("+1\u{202f}650\u{2009}555\u{200e}1234", ""),
        ("+1_650_555_1234", ""),
        ("\u{ff0b}\u{ff11}\u{ff16}\u{ff15}\u{ff10}5551234", ""),
        ("+\u{661}\u{666}\u{665}\u{660}5551234", ""),
        ("(650) 555-1234", "US"),
        ("16505551234", "US"),
        ("011 1 650 555 1234", "US"),
        ("00 1 650 555 1234", "DE"),
        ("0011 1 650 555 1234", "AU"),
        ("(650) 555-1234", "us"),
    ] {
        assert_eq!(
            dialled(spelling, region),
            "+16505551234",
            "{spelling} read in {region:?}"
        );
    }
    assert_eq!(dialled("+1 650 555 1ABC", "US"), "+16505551222");
}

/// Some regions choose a carrier by digits after `00`, but no switch sends those of a caller.
#[test]
fn double_zero_from_a_switch_precedes_a_calling_code_in_every_region() {
    for (sent, region, right) in [
        ("0081 90 1234 5678", "KR", "+819012345678"),
        ("0055 51 98765-4321", "BR", "+5551987654321"),
        ("00573011234567", "CO", "+573011234567"),
        ("006591234567", "SG", "+6591234567"),
        ("sip:006591234567@10.0.0.5", "SG", "+6591234567"),
        ("0081 90 1234 5678 x42", "KR", "+819012345678"),
        ("0014155550123", "BO", "+14155550123"),
        ("0014155550123", "US", "+14155550123"),
        ("00442079460018", "JP", "+442079460018"),
        ("00390612345678", "DE", "+390612345678"),
        ("001 1 415 555 0123", "KR", "+14155550123"),
        ("0021 44 20 7946 0018", "BR", "+442079460018"),
        ("0034 912 345 678", "BR", "+34912345678"),
        ("0 02 9876 5432", "AU", "+61298765432"),
        ("0 029 8205756", "BY", "+375298205756"),
        ("0045 (0)22 12 34 56", "DE", "+4522123456"),
        ("0048 (0)22 123 45 67", "DE", "+48221234567"),
        ("01145022123456", "US", "+4522123456"),
        ("0011 65 9876 5432", "AU", "+6598765432"),
        ("001 65 9876 5432", "HK", "+6598765432"),
        ("009 1 212 555 0123", "NG", "+12125550123"),
    ] {
        assert_eq!(dialled(sent, region), right, "{sent} read in {region}");
    }
}

#[test]
fn an_optional_zero_goes_in_plans_that_have_none() {
    for (sent, region, right) in [
        ("+45 (0)22 12 34 56", "US", "+4522123456"),
        ("+45022123456", "", "+4522123456"),
        ("022 123 45 67", "PL", "+48221234567"),
        ("+390612345678", "US", "+390612345678"),
        ("020 7946 0018", "US", "unusable TooLong"),
        ("0203 765 4321", "US", "unusable TooLong"),
        ("090-1237-2042", "AG", "unusable TooLong"),
    ] {
        assert_eq!(dialled(sent, region), right, "{sent} read in {region}");
    }
}

const NO_NUMBER: &[&str] = &[
    "",
    " \t",
    "anonymous",
    "Anonymous",
    "ANONYMOUS",
    "anonymous@anonymous.invalid",
    "sip:anonymous@anonymous.invalid",
    "\"Anonymous\" <sip:anonymous@anonymous.invalid>",
    "\"Anonymous\" <sip:c8oqz84zk7z@privacy.example>",
    "<sip:anonymous@10.0.0.5:5060>;tag=42",
    "\"12\" <sip:anonymous@pbx.example>",
    "tel:anonymous",
    "TEL:Anonymous",
    "Private Caller",
    "private number",
    "PRIVATE",
    "Unknown Caller",
    "unknown",
    "INTERNATIONAL",
    "Out of Area",
    "OUT-OF-AREA",
    "out_of_area",
    "Not available",
    "no number",
    "No Number Provided",
    "No Caller ID",
    "Caller ID blocked",
    "number withheld",
    "Withheld Number",
    "restricted",
    "Restricted Number",
    "unavailable",
    "N/A",
    "null",
    "Unbekannt",
    "numéro masqué",
    "Número Oculto",
    "sip:@x",
    "sip:10.0.0.5",
    "sip:pbx.example.com:5060",
    "sip:unknown@10.0.0.5",
    "O",
    "P",
    "0",
    "00000000",
    "+0",
    "0000000000",
    "+10000000000",
    "sip:0@pbx.example",
    "000-000-0000",
    "+266696687",
    "266696687",
    "+7378742833",
    "+2562533",
    "+8656696",
    "+86282452253",
    "86282452253",
    "sip:+266696687@10.0.0.5",
    "<>",
    "unknown\u{200e}",
];

#[test]
fn a_text_in_place_of_a_number_is_no_number_and_no_error() {
    for text in NO_NUMBER {
        assert_eq!(dialled(text, "US"), "withheld", "{text:?}");
        let without_region = dialled(text, "");
        assert!(
            ["withheld", "unusable NoRegion"].contains(&without_region.as_str()),
            "{text:?}: {without_region}"
        );
    }
    assert_eq!(
        dialled("7378742833", "US"),
        "+17378742833",
        "a word on a keypad, but also a number of Austin"
    );
}

#[test]
fn an_installation_has_words_of_its_own() {
    let words = ["Kein Anschluss", "+1 999-999-9999", "n.n."];
    for text in [
        "kein anschluss",
        "KEIN  ANSCHLUSS",
        "\"Kein Anschluss\" <sip:pbx@pbx.example>",
        "+19999999999",
        "N. N.",
    ] {
        assert_eq!(with_words(text, "US", &words), "withheld", "{text}");
    }
    assert_eq!(with_words("+16505551234", "US", &words), "+16505551234");
    assert_eq!(dialled("kein anschluss", "US"), "NotANumber");
    for nothing in ["", " - "] {
        assert!(nothing.parse::<WithheldWord>().is_err());
    }
}

#[test]
fn up_to_six_digits_are_a_service_number() {
    for (text, region) in [
        ("911", "US"),
        ("112", "DE"),
        ("999", "GB"),
        ("000", "AU"),
        ("411", ""),
        ("22000", "US"),
        ("116117", "US"),
        ("116117", "DE"),
        ("7", "US"),
        ("42", ""),
        ("sip:112@pbx.example", "DE"),
        ("11-22", "US"),
    ] {
        assert_eq!(dialled(text, region), "short", "{text} in {region}");
    }
    assert_eq!(
        dialled("201234", "FO"),
        "+298201234",
        "a plan of six digits"
    );
}

#[test]
fn a_plus_and_a_known_calling_code_are_looked_up_whatever_the_length() {
    for text in [
        "+22504123456",
        "+5215512345678",
        "+112345",
        "+1650555123456",
        "+496912",
        "+123456789012345",
    ] {
        assert_eq!(dialled(text, ""), text);
    }
}

#[test]
fn what_is_no_whole_number_says_what_is_missing() {
    for (text, region, reason) in [
        ("6505551234", "", "NoRegion"),
        ("(650) 555-1234", "", "NoRegion"),
        ("+1555", "", "TooShort"),
        ("5551234", "US", "TooShort"),
        ("+112", "", "TooShort"),
        ("+99912345678", "", "UnknownCallingCode"),
        ("+1234567890123456", "", "TooLong"),
        ("+123456789012345678901", "", "TooLong"),
        ("+1650555\r\n1234567", "", "NotANumber"),
    ] {
        assert_eq!(
            dialled(text, region),
            format!("unusable {reason}"),
            "{text:?} in {region:?}"
        );
    }
}

#[test]
fn a_text_without_any_digit_or_known_word_is_an_error() {
    for text in [
        "hello",
        "sip:alice@pbx.example",
        "+",
        "Private Eye Ltd",
        "\"Mallory\" <>",
        "\"Ada\" <sip:ada@pbx.example>",
        "?",
    ] {
        assert_eq!(dialled(text, "US"), "NotANumber", "{text}");
    }
    assert_eq!(dialled(&"1".repeat(257), "US"), "TooManyBytes");
    assert_eq!(dialled(&"x".repeat(257), "US"), "TooManyBytes");
}

#[test]
fn the_extension_asked_for_is_read_beside_the_number() {
    for text in [
        "+15035550100;ext=2",
        "tel:+1-503-555-0100;ext=2",
        "sip:+15035550100;ext=2@pbx.example",
        "+1 503 555 0100 x2",
        "(503) 555-0100 ext. 2",
        "\"Room 12\" <sip:+15035550100;ext=2@pbx.example>",
    ] {
        assert_eq!(extension_asked(text), Extension::parse("2").ok(), "{text}");
    }
    for text in [
        "+15035550100",
        "15035550100",
        "",
        "anonymous",
        "\"ext 2\" <sip:+15035550100@pbx.example>",
    ] {
        assert_eq!(extension_asked(text), None, "{text}");
    }
}

#[test]
fn reading_a_number_costs_little() {
    let words = WithheldWords::default();
    for text in [
        "+16505551234",
        "+49305551234",
        "(650) 555-1234",
        "sip:+16505551234@10.0.0.5",
    ] {
        let region = Region::parse("US");
        let begun = Stopwatch::start();
        for _ in 0..10_000 {
            std::hint::black_box(parse_remote(std::hint::black_box(text), region, &words).ok());
        }
        let each = begun.elapsed() / 10_000;
        assert!(
            each < std::time::Duration::from_millis(1),
            "{each:?} for {text}"
        );
    }
}
