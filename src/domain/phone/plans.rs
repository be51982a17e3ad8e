//! Subscribers with two E.164 forms: their numbering plan changed, or calls from abroad use a form
//! of their own.
//!
//! People's address books keep the old form for decades, and switches send either one. Both forms
//! are searched for, and a record with one of them matches the other.

use super::{Certainty, E164};

/// One rule: a number of the form `was` and the corresponding number of the form `is` have the same
/// subscriber. `#` stands for any digit, `[…]` for one of the listed digits. The matched digits are
/// copied in order.
struct Change {
    was: &'static str,
    is: &'static str,
    certainty: Certainty,
}

const fn certain(was: &'static str, is: &'static str) -> Change {
    Change {
        was,
        is,
        certainty: Certainty::Certain,
    }
}

const fn likely(was: &'static str, is: &'static str) -> Change {
    Change {
        was,
        is,
        certainty: Certainty::Likely,
    }
}

/// The source of each rule is above it. If several rules fit, the first one counts.
#[rustfmt::skip]
const CHANGES: &[Change] = &[
    // Brazil: a 9 before all mobile numbers, area by area from 2012-07-29 to 2016-11-06 (Anatel,
    // Resolução 553/2010, art. 2). The range 7 was partly trunked radio (Nextel), which kept eight
    // digits.
    certain("55##[689]#######", "55##9[689]#######"),
    likely("55##7#######", "55##97#######"),
    // Mexico: the 1 after +52 for mobiles called from abroad ended from 2019-08-03 on, and so did
    // the prefixes within the country: 01, and 044 and 045 for mobiles (Acuerdo of 2018-05-11 in
    // the Diario Oficial; reports of the IFT).
    certain("521##########", "52##########"),
    certain("5201##########", "52##########"),
    certain("52044##########", "52##########"), certain("52045##########", "52##########"),
    // Argentina: the 9 after +54 (at home, 15 after the area code) means "mobile". Mobiles use the
    // area codes of fixed lines, which begin with 1, 2 or 3. No source excludes that a fixed line
    // has the same ten digits.
    likely("54[123]#########", "549[123]#########"),
    // Benin: 01 before fixed and mobile numbers on 2024-11-30 (reports of ARCEP's announcement).
    // Service numbers with 8 still have eight digits (the engine's metadata).
    certain("229[24569]#######", "22901[24569]#######"),
    // Ivory Coast: eight digits became ten on 2021-01-31, by operator: Moov 01, MTN 05, Orange 07
    // for mobiles, Moov 21, MTN 25, Orange 27 for fixed lines (reports of ARTCI's announcement).
    // libphonenumber's carrier data until 8.12.16 shows which mobile numbers an operator had. For
    // fixed lines there are only the lists of public migration scripts.
    certain("2250[123]######", "225010[123]######"), certain("225[457][0123]######", "22501[457][0123]######"),
    certain("225[0456789][456]######", "22505[0456789][456]######"),
    certain("225[045789][789]######", "22507[045789][789]######"), certain("2256[78]######", "225076[78]######"),
    likely("2252[0123]8#####", "225212[0123]8#####"),
    likely("225[23]#0#####", "22525[23]#0#####"),
    likely("225[23]#[12345679]#####", "22527[23]#[12345679]#####"), likely("225368#####", "22527368#####"),
    // Colombia: 60 before the area digit of fixed lines on 2021-09-01 (reports of the CRC's
    // announcement).
    certain("57[1245678]#######", "5760[1245678]#######"),
    // Viet Nam: mobiles of eleven digits became ten from 2018-09-15 (list published by Thái Bình
    // province): MobiFone, VinaPhone, Viettel, Vietnamobile, Gmobile.
    certain("84120#######", "8470#######"), certain("84121#######", "8479#######"),
    certain("84122#######", "8477#######"), certain("84126#######", "8476#######"),
    certain("84128#######", "8478#######"), certain("84123#######", "8483#######"),
    certain("84124#######", "8484#######"), certain("84125#######", "8485#######"),
    certain("84127#######", "8481#######"), certain("84129#######", "8482#######"),
    certain("8416[23456789]#######", "843[23456789]#######"),
    certain("84186#######", "8456#######"), certain("84188#######", "8458#######"),
    certain("84199#######", "8459#######"),
    // Ecuador: a 9 before mobile numbers on 2012-09-30 (reports).
    certain("593[89]#######", "5939[89]#######"),
    // Kosovo: +383 replaced Monaco's, Slovenia's and Serbia's codes after the ITU assigned it in
    // 2016-12 (reports; the engine's metadata on Monaco).
    certain("377[4][45]######", "383[4][45]######"),
    certain("386[4][39]######", "383[4][39]######"),
    certain("381[23][89]######", "383[23][89]######"),
    // Sint Maarten: from +599 to +1 721 on 2011-09-30 (North American Numbering Plan, area code
    // 721).
    certain("5995######", "17215######"),
];

/// The other form of this subscriber, and how certain it is that both are the same.
#[must_use]
pub fn other_form(number: &E164) -> Option<(E164, Certainty)> {
    let digits = number.digits();
    if number.calling_code == ITALY {
        return italian(number);
    }
    let forms = CHANGES.iter().flat_map(|change| {
        let ways = [(change.was, change.is), (change.is, change.was)];
        ways.map(|(from, to)| (from, to, change.certainty))
    });
    let mut rewritten =
        forms.filter_map(|(from, to, certainty)| Some((rewrite(&digits, from, to)?, certainty)));
    rewritten.find_map(|(digits, certainty)| Some((E164::abroad(&digits)?, certainty)))
}

const ITALY: u16 = 39;

/// Italy: since 1998-06-19 the zero of a fixed line is also dialled after +39 (DM 1997-07-01, art.
/// 1), and people who do not know that omit it. Mobiles had a zero until 2001, which old address
/// books keep. If one form is nobody's number, it is the mistake or the old form. If both are
/// somebody's, as with 0331 … and mobile 331 …, they are two subscribers.
fn italian(number: &E164) -> Option<(E164, Certainty)> {
    let other = match number.leading_zeros {
        0 => E164 {
            leading_zeros: 1,
            ..*number
        },
        1 => E164 {
            leading_zeros: 0,
            ..*number
        },
        _ => return None,
    };
    (number.is_valid() != other.is_valid()).then_some((other, Certainty::Certain))
}

/// `digits` converted to the form `to`, if they have the form `from`.
fn rewrite(digits: &str, from: &str, to: &str) -> Option<String> {
    let mut rest = digits.chars();
    let mut taken = Vec::new();
    for pattern in pattern_digits(from) {
        let digit = rest.next()?;
        match pattern {
            PatternDigit::Digit(fixed) if fixed != digit => return None,
            PatternDigit::Digit(_) => {}
            PatternDigit::Any => taken.push(digit),
            PatternDigit::OneOf(set) if set.contains(digit) => taken.push(digit),
            PatternDigit::OneOf(_) => return None,
        }
    }
    let mut taken = taken.into_iter();
    let written = pattern_digits(to).map(|pattern| match pattern {
        PatternDigit::Digit(fixed) => Some(fixed),
        PatternDigit::Any | PatternDigit::OneOf(_) => taken.next(),
    });
    rest.next().is_none().then(|| written.collect()).flatten()
}

enum PatternDigit<'a> {
    Digit(char),
    Any,
    OneOf(&'a str),
}

fn pattern_digits(form: &str) -> impl Iterator<Item = PatternDigit<'_>> {
    let mut rest = form;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        if first == '[' {
            let (set, after) = rest[1..].split_once(']')?;
            rest = after;
            return Some(PatternDigit::OneOf(set));
        }
        rest = &rest[1..];
        Some(if first == '#' {
            PatternDigit::Any
        } else {
            PatternDigit::Digit(first)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn other(text: &str) -> Option<String> {
        let (number, certainty) = other_form(&E164::parse(text, None).unwrap())?;
        Some(format!(
            "{number}{}",
            if certainty == Certainty::Likely {
                "?"
            } else {
                ""
            }
        ))
    }

    #[test]
    fn both_forms_of_a_subscriber_lead_to_each_other() {
        for (was, is) in [
            ("+552187654321", "+5521987654321"),
            ("+5215512345678", "+525512345678"),
            ("+22997123456", "+2290197123456"),
            ("+22504123456", "+2250504123456"),
            ("+22507123456", "+2250707123456"),
            ("+22541123456", "+2250141123456"),
            ("+39612345678", "+390612345678"),
            ("+5712345678", "+576012345678"),
            ("+841681234567", "+84381234567"),
            ("+59398765432", "+593998765432"),
            ("+37744123456", "+38344123456"),
            ("+5995421234", "+17215421234"),
        ] {
            assert_eq!(other(was).as_deref(), Some(is));
            assert_eq!(other(is).as_deref(), Some(was));
        }
        assert_eq!(other("+390335123456").as_deref(), Some("+39335123456"));
        assert_eq!(other("+22521212345").as_deref(), Some("+2252721212345?"));
        assert_eq!(other("+22521812345").as_deref(), Some("+2252121812345?"));
        assert_eq!(other("+22536812345").as_deref(), Some("+2252736812345?"));
        assert_eq!(other("+22588123456").as_deref(), Some("+2250788123456"));
        assert_eq!(other("+2252520012345").as_deref(), Some("+22520012345?"));
        assert_eq!(other("+541155551234").as_deref(), Some("+5491155551234?"));
        assert_eq!(other("+5491155551234").as_deref(), Some("+541155551234?"));
        assert_eq!(other("+5521978654321").as_deref(), Some("+552178654321?"));
    }

    #[test]
    fn everybody_else_has_one_form() {
        for text in [
            "+16505551234",
            "+4930123456",
            "+552125550188",  // a fixed line of Rio de Janeiro
            "+5521925550188", // a mobile number that never had eight digits
            "+573211234567",  // a mobile of Colombia
            "+84912345678",
            "+37798123456", // Monaco
            "+22981123456", // a service number of Benin
            "+22580123456", // one of Ivory Coast
            "+22590123456",
            "+548001234567", // free of charge in Argentina
            "+390331123456", // Busto Arsizio; 331 123456 is a mobile number
        ] {
            assert_eq!(other(text), None, "{text}");
        }
    }

    #[test]
    fn every_rule_can_be_turned_round_and_no_number_has_two_forms_of_the_list() {
        for change in CHANGES {
            let holes = |form| {
                pattern_digits(form)
                    .filter(|pattern| !matches!(pattern, PatternDigit::Digit(_)))
                    .count()
            };
            assert_eq!(holes(change.was), holes(change.is), "{}", change.was);
            for form in [change.was, change.is] {
                let sample: String = pattern_digits(form)
                    .map(|pattern| match pattern {
                        PatternDigit::Digit(digit) => digit,
                        PatternDigit::Any => '5',
                        PatternDigit::OneOf(set) => set.chars().next().unwrap(),
                    })
                    .collect();
                let forms: BTreeSet<_> = CHANGES
                    .iter()
                    .flat_map(|change| [change.was, change.is])
                    .collect();
                let fitting = forms
                    .into_iter()
                    .filter(|form| rewrite(&sample, form, form).is_some());
                assert_eq!(fitting.collect::<Vec<_>>(), [form], "{sample}");
            }
        }
    }
}
