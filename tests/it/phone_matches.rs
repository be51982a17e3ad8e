//! Who is shown for whom, over generated numbers of all regions: everybody is found by their own
//! number, and nobody's digits make somebody else certain.

use contactd::domain::phone::{Certainty, Region, Sought, other_form};
use contactd::domain::{E164, Spelling, Variants};
use rlibphonenumber::{PHONE_NUMBER_UTIL, Region as EngineRegion};

use pairs::{Random, Stored, e164, number, plans, regions, spellings, stored, strangers};

mod pairs;

fn region(engine: EngineRegion) -> Region {
    engine.to_string().parse().unwrap()
}

fn judged(number: &str, stored: &str, regions: &[Region]) -> Option<Certainty> {
    Sought::new(E164::parse(number, None).unwrap(), regions)
        .find_in(stored)
        .map(|found| found.certainty)
}

/// Two numbers that one subscriber has are no strangers.
fn same_subscriber(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|text| E164::parse(text, None).unwrap());
    other_form(&one).is_some_and(|(form, _)| form == other)
}

#[test]
fn what_the_engine_reads_as_the_number_is_found_and_no_stranger_is_certain_in_any_region() {
    let (mut random, plans) = (Random(7), plans());
    let (mut wrong, mut read, mut met) = (Vec::new(), 0, 0);
    for engine in regions() {
        let home = [region(engine)];
        for number in std::iter::repeat_with(|| number(engine, &mut random))
            .take(2)
            .flatten()
        {
            for text in spellings(&number, engine) {
                let plain = PHONE_NUMBER_UTIL.parse(&text, Some(engine));
                if plain.is_ok_and(|plain| e164(&plain) == e164(&number)) {
                    read += 1;
                    if judged(&e164(&number), &text, &home).is_none() {
                        wrong.push(format!(
                            "{engine}: {} is not found as {text:?}",
                            e164(&number)
                        ));
                    }
                }
                for stranger in strangers(&text, &number, &plans, 0) {
                    met += 1;
                    let certain =
                        judged(&e164(&stranger), &text, &home) == Some(Certainty::Certain);
                    if certain && !same_subscriber(&e164(&stranger), &e164(&number)) {
                        wrong.push(format!(
                            "{engine}: {} is certain for {text:?}",
                            e164(&stranger)
                        ));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {read} and {met}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        read > 3_000 && met > 30_000,
        "only {read} spellings and {met} strangers"
    );
}

/// How many stored spellings are exact, likely and not shown for a number.
type Judged = [usize; 3];

/// Judges each pair for its own number and for its stranger, in the regions that its home has here.
fn judge(
    pairs: &[Stored],
    mut regions_of: impl FnMut(EngineRegion) -> Vec<Region>,
) -> (Judged, Judged) {
    let (mut own, mut strangers) = ([0; 3], [0; 3]);
    let place = |certainty| match certainty {
        Some(Certainty::Certain) => 0,
        Some(Certainty::Likely) => 1,
        None => 2,
    };
    for Stored {
        region,
        number,
        text,
        stranger,
    } in pairs
    {
        let regions = regions_of(*region);
        own[place(judged(&e164(number), text, &regions))] += 1;
        if let Some(stranger) = stranger {
            strangers[place(judged(&e164(stranger), text, &regions))] += 1;
        }
    }
    (own, strangers)
}

#[test]
#[allow(
    clippy::print_stdout,
    reason = "figures for whoever runs the test with --nocapture"
)]
fn ten_thousand_pairs_are_judged_well_at_home_and_carefully_elsewhere() {
    let (pairs, all, mut random) = (stored(10_000, 3), regions(), Random(11));
    let at_home = judge(&pairs, |home| vec![region(home)]);
    let elsewhere = judge(&pairs, |_| vec![region(all[random.below(all.len())])]);
    let both = judge(&pairs, |home| {
        vec![region(home), region(all[random.below(all.len())])]
    });
    let nowhere = judge(&pairs, |_| Vec::new());
    for (who, (own, strangers)) in [
        ("at home", at_home),
        ("elsewhere", elsewhere),
        ("at home and elsewhere", both),
        ("no region", nowhere),
    ] {
        println!("{who}: own {own:?}, strangers {strangers:?} (exact, likely, not shown)");
    }
    let (own, strangers) = at_home;
    assert!(own[0] + own[1] >= 9_950 && own[0] >= 9_500, "{own:?}");
    assert!(
        strangers[0] == 0 && strangers[1] * 100 < strangers[2],
        "{strangers:?}"
    );
    let (own, strangers) = nowhere;
    assert!(own[2] == 0 && strangers[0] == 0, "{own:?} {strangers:?}");
}

/// Whether a search for the texts that a connector sends returns the record: one that compares
/// texts, and one that compares digits.
fn is_returned(pair: &Stored, spelling: Spelling) -> [bool; 2] {
    let digits = |text: &str| {
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    let number = E164::parse(&e164(&pair.number), None).unwrap();
    let texts = Variants::new(&number, &[spelling], &[]);
    let found = |is: &dyn Fn(&str) -> bool| texts.iter().any(is);
    [
        found(&|text| pair.text.contains(text)),
        found(&|text| digits(&pair.text).contains(&digits(text))),
    ]
}

/// What the daemon's own check accepts is of no use if the CRM's search does not return it.
#[test]
#[allow(
    clippy::print_stdout,
    reason = "figures for whoever runs the test with --nocapture"
)]
fn a_search_by_digits_returns_most_of_what_is_stored_and_one_by_text_needs_the_formats_of_the_user()
{
    let pairs = stored(10_000, 3);
    let count = |spelling: Spelling| {
        let returned: Vec<[bool; 2]> = pairs
            .iter()
            .map(|pair| is_returned(pair, spelling.clone()))
            .collect();
        [0, 1].map(|way| returned.iter().filter(|returned| returned[way]).count())
    };
    let ([by_text, by_digits], [by_text_at_home, by_digits_at_home]) =
        (count(Spelling::E164), count(Spelling::National));
    println!("searched as E.164: {by_text} by text, {by_digits} by digits");
    println!(
        "searched as the national number: {by_text_at_home} by text, {by_digits_at_home} by digits"
    );
    assert!(by_digits_at_home > 9_000 && by_text < by_digits && by_digits < by_digits_at_home);
}
