use std::collections::HashSet;

use super::*;

/// The contacts that have `e164`, found without the index.
fn owners<'a>(data: &'a DataSet, e164: &str) -> Vec<&'a SampleContact> {
    data.contacts
        .iter()
        .filter(|contact| contact.phones.iter().any(|phone| phone.e164 == e164))
        .collect()
}

/// Every phone of every contact, spelled as it is stored.
fn numbers(data: &DataSet) -> impl Iterator<Item = &str> {
    data.contacts
        .iter()
        .flat_map(|contact| &contact.phones)
        .map(|phone| phone.number.as_str())
}

fn with_deals(data: &DataSet, counts: impl std::ops::RangeBounds<usize>) -> usize {
    data.contacts
        .iter()
        .filter(|contact| counts.contains(&contact.deals.len()))
        .count()
}

#[test]
fn equal_arguments_make_equal_data_sets() {
    let (a, b, c) = (
        DataSet::generate(7, 1_000),
        DataSet::generate(7, 1_000),
        DataSet::generate(8, 1_000),
    );
    assert_eq!(a.contacts, b.contacts);
    assert_eq!(a.samples, b.samples);
    assert_ne!(a.contacts, c.contacts);
    assert_eq!(a.recent_calls(100, 3), b.recent_calls(100, 3));
    assert_ne!(a.recent_calls(100, 3), a.recent_calls(100, 4));
}

#[test]
fn samples_hold_what_they_promise_at_every_size() {
    for (seed, contacts) in (0..20)
        .map(|seed| (seed, 0))
        .chain([(1, 17), (1, 400), (1, 10_000)])
    {
        let data = DataSet::generate(seed, contacts);
        assert_eq!(data.len(), contacts.max(generate::MIN_CONTACTS));
        let samples = data.samples();
        assert_eq!(owners(&data, &samples.one).len(), 1);
        assert!(data.search(&samples.one).len() >= 2);
        let sharers = owners(&data, &samples.many);
        assert!((3..=8).contains(&sharers.len()), "{}", sharers.len());
        assert!(
            sharers
                .iter()
                .all(|contact| contact.company == sharers[0].company)
        );
        assert!(owners(&data, &samples.absent).is_empty());
        let colleagues = data
            .contacts
            .iter()
            .filter(|contact| contact.extension.as_deref() == Some(samples.extension.as_str()));
        assert_eq!(colleagues.count(), 1);
        assert!(data.search_extension(&samples.extension).is_some());
    }
}

#[test]
fn the_search_finds_near_misses() {
    let data = DataSet::generate(1, 10_000);
    let one = data.samples().one;
    let found = data.search(&one);
    assert!(found.len() >= 2);
    assert!(
        found
            .iter()
            .any(|contact| contact.phones.iter().all(|phone| phone.e164 != one))
    );
    assert!(found.is_sorted_by_key(|contact| contact.id));

    let missed = |contact: &&SampleContact| {
        contact
            .phones
            .iter()
            .any(|phone| data.search(&phone.e164).len() > owners(&data, &phone.e164).len())
    };
    let near = data.contacts.iter().take(1_000).filter(missed).count();
    assert!((20..120).contains(&near), "{near}");
}

#[test]
fn the_search_reads_digits_only() {
    let data = DataSet::generate(1, 1_000);
    let contact = data
        .contacts
        .iter()
        .find(|contact| !contact.phones.is_empty())
        .unwrap();
    let digits: String = contact.phones[0]
        .number
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let spaced: String = digits.chars().flat_map(|c| [c, '-']).collect();
    assert!(data.search(&format!("tel. {spaced}")).contains(&contact));
    assert!(data.search(&digits[digits.len() - 6..]).is_empty());
    assert!(data.search("").is_empty());
    assert_eq!(tail("+1 (650) 005-1234"), Some(51_234));
    assert_eq!(tail("005123"), None);
}

#[test]
fn numbers_are_spelled_in_many_ways() {
    let data = DataSet::generate(1, 10_000);
    let shape = |number: &str| number.replace(|c: char| c.is_ascii_digit(), "9");
    let shapes: HashSet<String> = numbers(&data).map(shape).collect();
    for usual in [
        "+99999999999",
        "(999) 999-9999",
        "999-999-9999",
        "999.999.9999",
        "9999999999",
        "9 (999) 999-9999",
    ] {
        assert!(shapes.contains(usual), "{usual}");
    }
    assert!(shapes.len() >= 20, "{shapes:?}");
    for start in [
        "+44 20 7946 ",
        "020 7946 ",
        "+49 30 ",
        "+39 06 ",
        "+33 1 ",
        "+61 2 ",
    ] {
        assert!(
            numbers(&data).any(|number| number.starts_with(start)),
            "{start}"
        );
    }
}

#[test]
fn contacts_are_as_mixed_as_promised() {
    let data = DataSet::generate(1, 10_000);
    let count = |wanted: fn(&SampleContact) -> bool| {
        data.contacts
            .iter()
            .filter(|contact| wanted(contact))
            .count()
    };
    assert!((350..650).contains(&count(|contact| contact.phones.is_empty())));
    assert!((1_000..4_000).contains(&count(|contact| contact.phones.len() == 2)));
    assert!((250..800).contains(&count(|contact| contact.kind == "company")));
    assert!((5_500..6_500).contains(&with_deals(&data, 1..=3)));
    assert!((5..20).contains(&with_deals(&data, 51..)));

    let extensions: HashSet<&str> = data
        .contacts
        .iter()
        .filter_map(|contact| contact.extension.as_deref())
        .collect();
    assert_eq!(extensions.len(), 200);
    assert_eq!(count(|contact| contact.extension.is_some()), 200);
    assert!(
        extensions
            .iter()
            .all(|extension| ("1000"..="1199").contains(extension))
    );
    assert!(
        data.contacts
            .iter()
            .zip(1..)
            .all(|(contact, id)| contact.id == id)
    );
    assert_eq!(data.contact(17).map(|contact| contact.id), Some(17));
    assert!(data.contact(0).is_none() && data.contact(10_001).is_none());
}

#[test]
fn times_are_in_order_and_in_range() {
    let data = DataSet::generate(1, 2_000);
    for contact in &data.contacts {
        assert!(
            contact.created_at.len() == 20 && contact.created_at.ends_with('Z'),
            "{}",
            contact.created_at
        );
        assert!(contact.created_at <= contact.last_activity_at);
        assert!(
            contact.created_at.as_str() >= "2023" && contact.last_activity_at.as_str() < "2026-04"
        );
    }
}

#[test]
fn a_call_log_is_mostly_contacts_with_strangers_and_repeats() {
    let data = DataSet::generate(1, 10_000);
    let calls = data.recent_calls(1_000, 5);
    assert_eq!(calls.len(), 1_000);
    assert!(calls.iter().all(|call| call.starts_with('+')));
    let known: HashSet<&str> = data
        .contacts
        .iter()
        .flat_map(|contact| &contact.phones)
        .map(|phone| phone.e164.as_str())
        .collect();
    let strangers = calls
        .iter()
        .filter(|call| !known.contains(call.as_str()))
        .count();
    assert!((100..350).contains(&strangers), "{strangers}");
    let different = calls.iter().collect::<HashSet<_>>().len();
    assert!((700..900).contains(&different), "{different}");
    assert!(data.recent_calls(0, 5).is_empty());
}
