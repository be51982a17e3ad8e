//! A second opinion on telephone numbers: our parser and the `phonenumber` crate read the same
//! spellings of Google's example numbers, all regions and types. The file
//! `tests/data/phone_disagreements.txt` lists where they differ. If a change of either crate
//! changes the list, the test fails with the lines that changed. Only example numbers, nobody's
//! own.
//!
//! Nearly every spelling is made from a known number, so it is also known who is right: if the two
//! differ, our parser must be right.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::str::FromStr as _;
use std::{env, fs};

use contactd::domain::phone::{Party, Region, RemoteParty, WithheldWords, parse_remote};
use phonenumber::country;
use phonenumber::metadata::DATABASE;
use rlibphonenumber::Region as EngineRegion;
use spellings::{LOCAL, Random, Spelling, examples, spellings};

mod spellings;

const LIST: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/data/phone_disagreements.txt"
);
const HEADER: &str = "\
# Where our number parser and the crate phonenumber differ: spelling-kind, region, disagreements/compared, an example.
# \"refused\" is a number that phonenumber does not read. Written by: CONTACTD_BLESS=1 cargo test --test it phone_engines
";

/// What came of one kind of spelling in one region.
#[derive(Default)]
struct Tally {
    compared: usize,
    differ: usize,
    example: String,
}

#[test]
fn our_parser_differs_from_the_second_opinion_only_where_the_list_says_so_and_is_right_there() {
    let mut tallies: BTreeMap<(&str, String), Tally> = BTreeMap::new();
    let mut ours_is_wrong = Vec::new();
    for (region, numbers) in examples() {
        let mut random = Random::seeded(&region);
        for spelling in numbers
            .iter()
            .flat_map(|number| spellings(number, &region, &mut random))
        {
            let ours = ours(&spelling.text, spelling.region);
            if spelling.truth.is_some()
                && ours != spelling.truth
                && !is_service_number(&spelling.text)
            {
                ours_is_wrong.push(format!(
                    "{} {region}: {} -> {}",
                    spelling.kind,
                    spelling.text,
                    shown(&ours)
                ));
            }
            let theirs = theirs(&spelling, ours.is_none());
            let tally = tallies.entry((spelling.kind, region.clone())).or_default();
            tally.compared += 1;
            if ours != theirs {
                tally.differ += 1;
                if tally.example.is_empty() {
                    let (ours, theirs) = (shown(&ours), shown(&theirs));
                    tally.example = format!("{:?} is {ours}, not {theirs}", spelling.text);
                }
            }
        }
    }
    print_figures(&tallies);
    assert!(
        ours_is_wrong.is_empty(),
        "our parser reads another number than Google:\n{}",
        ours_is_wrong.join("\n")
    );
    compare_with_list(&list(&tallies));
}

#[test]
fn every_example_number_of_the_second_opinions_metadata_is_read_as_itself() {
    let mut read = 0;
    for region in DATABASE.iter() {
        let kinds = region.descriptors();
        let all = [
            kinds.fixed_line(),
            kinds.mobile(),
            kinds.toll_free(),
            kinds.premium_rate(),
            kinds.shared_cost(),
            kinds.voip(),
            kinds.personal_number(),
            kinds.pager(),
            kinds.uan(),
            kinds.voicemail(),
        ];
        for example in all.into_iter().flatten().filter_map(|kind| kind.example()) {
            let e164 = format!("+{}{example}", region.country_code());
            if e164 != LOCAL {
                assert_eq!(
                    ours(&e164, None).as_ref(),
                    Some(&e164),
                    "an example of {}",
                    region.id()
                );
                read += 1;
            }
        }
    }
    assert!(read > 1000, "only {read} examples");
}

#[test]
fn a_number_of_canada_that_can_be_dialled_within_canada_only_is_read_behind_a_plus_only() {
    assert_eq!(ours(LOCAL, None).as_deref(), Some(LOCAL));
    assert_eq!(ours("310-1234", Some(EngineRegion::CA)), None);
}

/// Up to six digits without `+` are a service number, even if a company has them.
fn is_service_number(text: &str) -> bool {
    !text.starts_with('+') && text.chars().filter(char::is_ascii_digit).count() <= 6
}

fn ours(text: &str, region: Option<EngineRegion>) -> Option<String> {
    let region = region.map(|region| Region::parse(&region.to_string()).unwrap());
    match parse_remote(text, region, &WithheldWords::default()) {
        Ok(RemoteParty::Party(Party::Number(number))) => Some(number.to_string()),
        _ => None,
    }
}

/// `phonenumber` does not look at the length while it reads, so where we refuse a number its own
/// check is asked too.
fn theirs(spelling: &Spelling, check: bool) -> Option<String> {
    let region = spelling
        .region
        .map(|region| country::Id::from_str(&region.to_string()).unwrap());
    let number = phonenumber::parse(region, &spelling.text).ok()?;
    (!check || number.is_valid())
        .then(|| format!("+{}{}", number.code().value(), number.national()))
}

fn shown(e164: &Option<String>) -> &str {
    e164.as_deref().unwrap_or("refused")
}

#[allow(
    clippy::print_stdout,
    reason = "figures for whoever runs the test with --nocapture"
)]
fn print_figures(tallies: &BTreeMap<(&str, String), Tally>) {
    let mut kinds: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for ((kind, _), tally) in tallies {
        for kind in [*kind, "all"] {
            let sum = kinds.entry(kind).or_default();
            *sum = (sum.0 + tally.differ, sum.1 + tally.compared);
        }
    }
    for (kind, (differ, compared)) in kinds {
        println!("{kind:26} {differ:6} of {compared:6} differ");
    }
}

/// One line for a kind that phonenumber reads nowhere, else one for each region with a
/// disagreement.
fn list(tallies: &BTreeMap<(&str, String), Tally>) -> String {
    let mut text = HEADER.to_owned();
    let kinds: BTreeSet<_> = tallies.keys().map(|(kind, _)| *kind).collect();
    for kind in kinds {
        let regions: Vec<_> = tallies.iter().filter(|((of, _), _)| *of == kind).collect();
        if regions
            .iter()
            .all(|(_, tally)| tally.differ == tally.compared)
        {
            writeln!(text, "{kind} · every region · {}", regions[0].1.example).unwrap();
            continue;
        }
        for ((_, region), tally) in regions.into_iter().filter(|(_, tally)| tally.differ > 0) {
            writeln!(
                text,
                "{kind} · {region} · {}/{} · {}",
                tally.differ, tally.compared, tally.example
            )
            .unwrap();
        }
    }
    text
}

fn compare_with_list(now: &str) {
    if env::var_os("CONTACTD_BLESS").is_some() {
        fs::write(LIST, now).unwrap();
        return;
    }
    let known = fs::read_to_string(LIST).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (known, now) = (lines(&known), lines(now));
    let gone = known.difference(&now).map(|line| format!("- {line}"));
    let new = now.difference(&known).map(|line| format!("+ {line}"));
    let diff: Vec<_> = gone.chain(new).collect();
    assert!(
        diff.is_empty(),
        "the engines differ in other places than {LIST} says ({} lines). Where that is what an upgrade was meant to do, \
         write the list anew with CONTACTD_BLESS=1 and review its diff:\n{}",
        diff.len(),
        diff.join("\n")
    );
}
