//! The spellings to compare on: Google's example numbers of all regions and types, written in many
//! ways.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr as _;

use phonenumber::metadata::DATABASE;
use rlibphonenumber::{
    PHONE_NUMBER_UTIL as ENGINE, PhoneNumber, PhoneNumberFormat as Format, PhoneNumberType as Type,
    Region as EngineRegion,
};

/// Region `001` of Google's metadata: calling codes such as +800 that belong to no country.
const NO_COUNTRY: &str = "001";

/// The one example number that we do not read: Canada's 310 numbers have seven digits, too few for
/// the rest of +1.
pub(super) const LOCAL: &str = "+13101234";

const TYPES: [Type; 11] = [
    Type::FixedLine,
    Type::Mobile,
    Type::FixedLineOrMobile,
    Type::TollFree,
    Type::PremiumRate,
    Type::SharedCost,
    Type::VoIP,
    Type::PersonalNumber,
    Type::Pager,
    Type::UAN,
    Type::VoiceMail,
];

/// Ways to write extension 42.
const EXTENSIONS: [(&str, &str); 8] = [
    ("extension", " ext. 42"),
    ("extension", " extn 42"),
    ("extension", " extensi\u{f3}n 42"),
    ("extension", " x42"),
    ("extension", " #42"),
    ("extension, ;ext=", ";ext=42"),
    ("extension", " ~42"),
    ("extension, Cyrillic", " \u{434}\u{43e}\u{431}. 42"),
];

/// One text to read.
pub(super) struct Spelling {
    pub(super) kind: &'static str,
    pub(super) text: String,
    /// Where it is dialled.
    pub(super) region: Option<EngineRegion>,
    /// The number it was made from, where it still says that number.
    pub(super) truth: Option<String>,
}

/// The engine's example numbers by region, each number once.
pub(super) fn examples() -> BTreeMap<String, Vec<PhoneNumber>> {
    let mut all: BTreeMap<String, Vec<PhoneNumber>> = BTreeMap::new();
    let mut add = |region: String, number: PhoneNumber| {
        let numbers = all.entry(region).or_default();
        if !numbers.contains(&number) && number.format_as(Format::E164) != LOCAL {
            numbers.push(number);
        }
    };
    for region in ENGINE.get_supported_regions() {
        for kind in TYPES {
            if let Ok(number) = ENGINE.get_example_number_for_type_and_region(region, kind) {
                add(region.to_string(), number);
            }
        }
    }
    for code in ENGINE
        .get_supported_global_network_calling_codes()
        .collect::<BTreeSet<_>>()
    {
        if let Ok(number) = ENGINE.get_example_number_for_non_geo_entity(code) {
            add(NO_COUNTRY.to_owned(), number);
        }
    }
    all
}

pub(super) fn spellings(number: &PhoneNumber, region: &str, random: &mut Random) -> Vec<Spelling> {
    let home = EngineRegion::from_str(region)
        .ok()
        .filter(|_| region != NO_COUNTRY);
    let e164 = number.format_as(Format::E164).into_owned();
    let international = number.format_as(Format::International).into_owned();
    let uri = number.format_as(Format::RFC3966).into_owned();
    let national = number.format_as(Format::National).into_owned();
    let significant = number.get_national_significant_number();

    let mut all = Vec::new();
    let mut add = |kind, text: String, region, says_the_number: bool| {
        let truth = says_the_number.then(|| e164.clone());
        all.push(Spelling {
            kind,
            text,
            region,
            truth,
        });
    };
    add("E.164", e164.clone(), None, true);
    add("international", international.clone(), None, true);
    add("separators", scattered(&e164, random), None, true);
    add("RFC 3966", uri.clone(), None, true);
    add(
        "RFC 3966 parameters",
        format!("{uri};isub=12345;ext=42"),
        None,
        true,
    );
    let context = format!("tel:{significant};phone-context=+{}", number.country_code);
    add("RFC 3966 parameters", context, None, true);
    for (kind, extension) in EXTENSIONS {
        add(kind, format!("{international}{extension}"), None, true);
    }
    add(
        "other digits",
        translated(&international, '\u{660}'),
        None,
        true,
    );
    add(
        "other digits",
        translated(&e164.replace('+', "\u{ff0b}"), '\u{ff10}'),
        None,
        true,
    );
    for text in [vanity(&international), vanity(&e164)]
        .into_iter()
        .flatten()
    {
        add("letters", text, None, true);
    }
    for abroad in [
        EngineRegion::US,
        EngineRegion::GB,
        EngineRegion::AU,
        EngineRegion::JP,
        EngineRegion::RU,
    ] {
        let code = ENGINE.get_country_code_for_region(abroad).unwrap();
        if ENGINE.can_be_internationally_dialled(number) && code != number.country_code {
            let text = number
                .format_out_of_country_calling_number(abroad)
                .into_owned();
            add("dialled from abroad", text, Some(abroad), true);
        }
    }
    if let Some(trunk) = DATABASE
        .by_id(region)
        .and_then(|plan| plan.national_prefix())
    {
        // Google keeps Colombia's 0, which is a trunk prefix before the code of a carrier only.
        let text = format!("+{} ({trunk}){significant}", number.country_code);
        add("trunk prefix kept", text, None, region != "CO");
    }
    if let Some(text) = vanity(&national).filter(|_| home.is_some()) {
        add("letters, national", text, home, true);
    }
    if home.is_some() {
        add("national", national, home, true);
        add("bare national", significant, home, true);
    }
    for _ in 0..3 {
        add("mistyped", mistyped(&e164, random), None, false);
    }
    all
}

/// Digits of another script, which begin at `zero`.
fn translated(text: &str, zero: char) -> String {
    let other = |c: char| {
        c.to_digit(10)
            .and_then(|digit| char::from_u32(zero as u32 + digit))
            .unwrap_or(c)
    };
    text.chars().map(other).collect()
}

/// Stray separators between the digits, as people and pages write them.
fn scattered(e164: &str, random: &mut Random) -> String {
    const SEPARATORS: [&str; 9] = [
        " ", "-", ".", "/", "  ", " - ", "\u{a0}", "\u{2010}", "\u{200b}",
    ];
    let mut text = e164[..3].to_owned();
    for digit in e164[3..].chars() {
        if random.below(3) == 0 {
            text.push_str(SEPARATORS[random.below(SEPARATORS.len())]);
        }
        text.push(digit);
    }
    text
}

/// The last seven digits as letters of a keypad, where that leaves what Google reads: three digits,
/// then three letters.
fn vanity(text: &str) -> Option<String> {
    const KEYPAD: [char; 10] = ['0', '1', 'A', 'D', 'G', 'J', 'M', 'P', 'T', 'W'];
    let from = text
        .char_indices()
        .filter(|(_, c)| c.is_ascii_digit())
        .nth_back(6)?
        .0
        .max(4);
    let (head, tail) = text.split_at_checked(from)?;
    let letter = |c: char| c.to_digit(10).map_or(c, |digit| KEYPAD[digit as usize]);
    let tail: String = tail.chars().map(letter).collect();
    let digits = head.chars().filter(char::is_ascii_digit).count();
    let letters = tail.chars().filter(char::is_ascii_uppercase).count();
    (digits >= 3 && letters >= 3).then(|| format!("{head}{tail}"))
}

/// One digit left out, doubled, changed or swapped with the next; the calling code's first digit
/// stays.
fn mistyped(e164: &str, random: &mut Random) -> String {
    let mut digits: Vec<u8> = e164.bytes().collect();
    let at = 2 + random.below(digits.len() - 3);
    match random.below(4) {
        0 => drop(digits.remove(at)),
        1 => digits.insert(at, digits[at]),
        2 => digits[at] = b'0' + u8::try_from(random.below(10)).unwrap(),
        _ => digits.swap(at, at + 1),
    }
    String::from_utf8(digits).unwrap()
}

/// A generator of our own (SplitMix64), so that the list depends on nothing but the two crates.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn seeded(text: &str) -> Self {
        Self(
            text.bytes()
                .fold(0x5eed, |seed, byte| seed * 256 + u64::from(byte)),
        )
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % limit as u64).unwrap()
    }
}
