//! Valid numbers of all regions, the spellings that their own countries use, and strangers with the
//! same digits.

use std::collections::BTreeSet;

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, PhoneNumberType, Region};

/// Small and repeatable; the figures do not depend on a good one.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// A number as it is stored.
pub(crate) struct Stored {
    pub(crate) region: Region,
    pub(crate) number: PhoneNumber,
    pub(crate) text: String,
    /// Somebody in another plan with the same digits.
    pub(crate) stranger: Option<PhoneNumber>,
}

pub(crate) fn regions() -> Vec<Region> {
    let mut regions: Vec<Region> = PHONE_NUMBER_UTIL
        .get_supported_regions()
        .filter(|region| region.to_string().len() == 2)
        .collect();
    regions.sort_by_key(ToString::to_string);
    regions
}

pub(crate) fn e164(number: &PhoneNumber) -> String {
    PHONE_NUMBER_UTIL
        .format(number, PhoneNumberFormat::E164)
        .into_owned()
}

/// A fixed line or mobile that the metadata takes for a valid number of the region.
pub(crate) fn number(region: Region, random: &mut Random) -> Option<PhoneNumber> {
    let kinds = [PhoneNumberType::FixedLine, PhoneNumberType::Mobile];
    let kind = kinds[random.below(2)];
    let example = PHONE_NUMBER_UTIL
        .get_example_number_for_type_and_region(region, kind)
        .ok()?;
    let text = e164(&example);
    for _ in 0..50 {
        let last = 2 + random.below(6);
        let mut digits = text.clone().into_bytes();
        let from = digits
            .len()
            .saturating_sub(last)
            .max(1 + example.country_code.to_string().len());
        for digit in &mut digits[from..] {
            *digit = b'0' + u8::try_from(random.below(10)).unwrap();
        }
        let text = String::from_utf8(digits).unwrap();
        if let Ok(number) = PHONE_NUMBER_UTIL.parse(&text, None)
            && number.country_code == example.country_code
            && PHONE_NUMBER_UTIL.is_valid_number_for_region(&number, region)
        {
            return Some(number);
        }
    }
    Some(example)
}

/// As people of the region write the number.
pub(crate) fn spellings(number: &PhoneNumber, region: Region) -> Vec<String> {
    let format = |format| PHONE_NUMBER_UTIL.format(number, format).into_owned();
    let national = format(PhoneNumberFormat::National);
    let abroad = format(PhoneNumberFormat::International);
    let digits: String = national.chars().filter(char::is_ascii_digit).collect();
    let dotted = national.replace([' ', '-'], ".");
    let mut all = vec![
        abroad.clone(),
        e164(number),
        format(PhoneNumberFormat::RFC3966),
        format!("{national} (work)"),
        format!("Tel.: {national}"),
        dotted,
        digits,
        national,
    ];
    if region != Region::US {
        all.push(format!("00{}", &e164(number)[1..]));
    }
    all
}

/// The main region of each numbering plan.
pub(crate) fn plans() -> Vec<Region> {
    let codes: BTreeSet<i32> = PHONE_NUMBER_UTIL.get_supported_calling_codes().collect();
    let main = codes
        .into_iter()
        .filter_map(|code| PHONE_NUMBER_UTIL.get_region_for_country_code(code));
    main.filter(|region| region.to_string().len() == 2)
        .collect()
}

/// Valid numbers of other plans with the digits of `text`: as these write them, or behind their
/// calling code. From the plan `first` on.
pub(crate) fn strangers<'a>(
    text: &str,
    number: &'a PhoneNumber,
    plans: &'a [Region],
    first: usize,
) -> impl Iterator<Item = PhoneNumber> + use<'a> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let nationally = digits.clone();
    let behind_code =
        std::iter::once(format!("+{digits}")).map(|text| PHONE_NUMBER_UTIL.parse(text, None));
    let everywhere = plans.iter().cycle().skip(first).take(plans.len());
    let everywhere = everywhere.map(move |plan| PHONE_NUMBER_UTIL.parse(&nationally, Some(*plan)));
    let none = text.contains('+');
    let read = everywhere
        .chain(behind_code)
        .take_while(move |_| !none)
        .flatten();
    read.filter(|other| {
        other.country_code != number.country_code && PHONE_NUMBER_UTIL.is_valid_number(other)
    })
}

/// So many stored numbers, the regions in turn, each with a stranger if there is one.
pub(crate) fn stored(count: usize, seed: u64) -> Vec<Stored> {
    let (mut random, regions, plans) = (Random(seed), regions(), plans());
    let mut all = Vec::with_capacity(count);
    for region in regions.iter().copied().cycle() {
        let Some(number) = number(region, &mut random) else {
            continue;
        };
        let spellings = spellings(&number, region);
        let text = spellings[random.below(spellings.len())].clone();
        let stranger = strangers(&text, &number, &plans, random.below(plans.len())).next();
        all.push(Stored {
            region,
            number,
            text,
            stranger,
        });
        if all.len() == count {
            break;
        }
    }
    all
}
