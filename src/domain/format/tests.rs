use proptest::prelude::*;

use super::*;

fn number(text: &str) -> E164 {
    E164::parse(text, None).unwrap()
}

fn spell(pattern: &str, text: &str) -> Option<String> {
    NumberFormat::parse(pattern)?.spell(&number(text))
}

#[test]
fn placeholders_take_the_national_digits_in_order() {
    for (pattern, text, expected) in [
        ("(***) ***-****", "+16505551234", "(650) 555-1234"),
        ("(***) ###-****", "+16505551234", "(650) 555-1234"),
        ("1 (***) ***-****", "+16505551234", "1 (650) 555-1234"),
        ("+1-###-###-####", "+16505551234", "+1-650-555-1234"),
        ("  ###.###.#### ", "+16505551234", "650.555.1234"),
        ("0## #### ####", "+442079460018", "020 7946 0018"),
        ("## #### ####", "+390612345678", "06 1234 5678"),
        ("tél ##########", "+16505551234", "tél 6505551234"),
    ] {
        assert_eq!(spell(pattern, text).as_deref(), Some(expected), "{pattern}");
    }
}

#[test]
fn a_format_with_other_than_the_numbers_digits_is_passed_over() {
    for pattern in ["###-####", "+1 (###) ###-####-###", "#", "(###) ###-#####"] {
        assert_eq!(spell(pattern, "+16505551234"), None, "{pattern}");
    }
    assert_eq!(spell("(###) ###-####", "+4930123456"), None);
}

#[test]
fn a_pattern_that_can_spell_nothing_is_passed_over() {
    let long = format!("#{}", "0".repeat(64));
    for pattern in [
        "",
        "   ",
        "abc",
        "(650) 555-1234",
        "###\r\nX: ###",
        "##########\0",
        long.as_str(),
    ] {
        assert_eq!(NumberFormat::parse(pattern), None, "{pattern:?}");
    }
}

#[test]
fn spellings_come_in_order_and_once() {
    let formats: Vec<_> = [
        "(###) ###-####",
        "##########",
        "###",
        "(***) ***-****",
        "+1##########",
    ]
    .into_iter()
    .filter_map(NumberFormat::parse)
    .collect();
    let variants = Variants::new(
        &number("+16505551234"),
        &[Spelling::E164, Spelling::National, Spelling::Formats],
        &formats,
    );
    assert_eq!(
        variants.iter().collect::<Vec<_>>(),
        ["+16505551234", "6505551234", "(650) 555-1234"]
    );
}

proptest! {
    #[test]
    fn no_placeholder_is_ever_left_over(pattern in "[#*0-9a-z() +.-]{0,40}") {
        if let Some(text) = spell(&pattern, "+16505551234") {
            prop_assert!(!text.contains(['#', '*']));
            prop_assert!(!text.trim().is_empty());
        }
    }
}
