//! Makes the people and companies of the data set: who exists, who shares a number, and whose
//! number ends like another's.
//!
//! All randomness comes from one seeded generator, so equal arguments make an equal population.

use std::collections::HashSet;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use fastrand::Rng;

use super::numbers::{Number, pick};
use super::records::{Deal, Phone, SampleContact, Samples};
use super::words::{
    COMPANY_NAMES, COMPANY_TRADES, DEAL_SUBJECTS, FIRST_NAMES, JOB_TITLES, LAST_NAMES,
};

/// One near-miss pair, the largest group with a shared number and one colleague make 11; the rest
/// is slack.
pub(super) const MIN_CONTACTS: usize = 16;

/// The company whose telephone system asks: its people have internal extensions.
const HOME_COMPANY: &str = "Example Telephony";
const FIRST_EXTENSION: usize = 1000;
const MAX_COLLEAGUES: usize = 200;

/// When contacts were created: 2023 to 2025, in seconds since 1970.
const CREATED: Range<u64> = 1_672_531_200..1_767_225_600;
/// No activity is later than this: 2026-04-01.
const ACTIVE_UNTIL: u64 = 1_775_001_600;

/// One contact in this many has more deals than a page holds.
const BUSY_EVERY: usize = 1_000;

/// Makes at least [`MIN_CONTACTS`] contacts, in no order, with ids from 1 on.
pub(super) fn population(seed: u64, contacts: usize) -> (Vec<SampleContact>, Samples) {
    let total = contacts.max(MIN_CONTACTS);
    let mut population = Population::new(seed, total);
    let absent = population.fresh(Number::any).e164();
    let one = population.near_misses(total / 50);
    let many = population.groups(total / 25);
    let extension = population.colleagues(total / 50);
    population.fill(total);
    (
        population.finish(),
        Samples {
            one,
            many,
            absent,
            extension,
        },
    )
}

struct Population {
    rng: Rng,
    contacts: Vec<SampleContact>,
    /// The E.164 numbers already used, so that numbers are only shared on purpose.
    used: HashSet<String>,
}

impl Population {
    fn new(seed: u64, total: usize) -> Self {
        Self {
            rng: Rng::with_seed(seed),
            contacts: Vec::with_capacity(total),
            used: HashSet::with_capacity(total),
        }
    }

    /// Pairs of people whose numbers differ only in the area code; at least one pair. Returns a
    /// number of the first.
    fn near_misses(&mut self, pairs: usize) -> String {
        let first = self.near_miss();
        for _ in 1..pairs {
            self.near_miss();
        }
        first
    }

    fn near_miss(&mut self) -> String {
        let number = self.fresh(Number::north_american);
        let twin = number
            .elsewhere()
            .find(|twin| self.used.insert(twin.e164()));
        for number in [Some(&number), twin.as_ref()].into_iter().flatten() {
            let company = self.company_name();
            let phone = self.phone("work", number);
            let mut contact = self.person(company, vec![phone]);
            contact.deals = self.deals(1..4);
            self.contacts.push(contact);
        }
        number.e164()
    }

    /// Groups of three to eight people with one main number, `people` or a few more in all; at
    /// least one group. Returns the number of the first.
    fn groups(&mut self, people: usize) -> String {
        let enough = self.contacts.len() + people;
        let first = self.group();
        while self.contacts.len() < enough {
            self.group();
        }
        first
    }

    fn group(&mut self) -> String {
        // North American, so that each spelling means the same number to a client with that region.
        let main = self.fresh(Number::north_american);
        let company = self.company_name();
        for _ in 0..self.rng.u8(3..=8) {
            let mut phones = vec![self.phone("work", &main)];
            phones.extend(self.maybe_mobile());
            let contact = self.person(company.clone(), phones);
            self.contacts.push(contact);
        }
        main.e164()
    }

    /// Colleagues with an internal extension each: `count`, but at least one and at most
    /// [`MAX_COLLEAGUES`]. Returns the extension of the first.
    fn colleagues(&mut self, count: usize) -> String {
        let count = count.clamp(1, MAX_COLLEAGUES);
        for extension in FIRST_EXTENSION..FIRST_EXTENSION + count {
            let phones = self.own_phones();
            let contact = self.person(HOME_COMPANY.to_owned(), phones);
            self.contacts.push(SampleContact {
                extension: Some(extension.to_string()),
                ..contact
            });
        }
        FIRST_EXTENSION.to_string()
    }

    /// Ordinary people and companies until there are `total` contacts.
    fn fill(&mut self, total: usize) {
        while self.contacts.len() < total {
            let phones = if self.rng.u8(..100) < 6 {
                Vec::new()
            } else {
                self.own_phones()
            };
            let company = self.company_name();
            let mut contact = if self.rng.u8(..100) < 5 {
                self.company(company, phones)
            } else {
                self.person(company, phones)
            };
            if self.contacts.len() % BUSY_EVERY == BUSY_EVERY - 1 {
                contact.deals = self.deals(51..160);
            }
            self.contacts.push(contact);
        }
    }

    /// Mixes the contacts and numbers them and their deals.
    fn finish(mut self) -> Vec<SampleContact> {
        self.rng.shuffle(&mut self.contacts);
        for (id, contact) in (1..).zip(&mut self.contacts) {
            contact.id = id;
        }
        for (id, deal) in (1..).zip(
            self.contacts
                .iter_mut()
                .flat_map(|contact| &mut contact.deals),
        ) {
            deal.id = id;
        }
        self.contacts
    }

    fn person(&mut self, company: String, phones: Vec<Phone>) -> SampleContact {
        let (first, last) = (
            pick(FIRST_NAMES, &mut self.rng),
            pick(LAST_NAMES, &mut self.rng),
        );
        let mailbox = format!("{}.{}", ascii_word(first), ascii_word(last));
        let title = pick(JOB_TITLES, &mut self.rng);
        SampleContact {
            title,
            ..self.contact(
                "person",
                format!("{first} {last}"),
                company,
                &mailbox,
                phones,
            )
        }
    }

    fn company(&mut self, name: String, phones: Vec<Phone>) -> SampleContact {
        self.contact("company", name.clone(), name, "office", phones)
    }

    /// Makes a person or a company. Ids are assigned when all are made.
    fn contact(
        &mut self,
        kind: &'static str,
        name: String,
        company: String,
        mailbox: &str,
        phones: Vec<Phone>,
    ) -> SampleContact {
        let email = format!("{mailbox}@{}.example", ascii_word(&company));
        let created = self.rng.u64(CREATED);
        let active = self.rng.u64(created..ACTIVE_UNTIL);
        let deals = if self.rng.u8(..100) < 60 {
            self.deals(1..4)
        } else {
            Vec::new()
        };
        SampleContact {
            id: 0,
            kind,
            name,
            title: "",
            company,
            email,
            phones,
            extension: None,
            created_at: timestamp(created),
            last_activity_at: timestamp(active),
            deals,
        }
    }

    fn deals(&mut self, count: Range<usize>) -> Vec<Deal> {
        let rng = &mut self.rng;
        (0..rng.usize(count)).map(|_| deal(rng)).collect()
    }

    fn own_phones(&mut self) -> Vec<Phone> {
        let number = self.fresh(Number::any);
        let mut phones = vec![self.phone("work", &number)];
        phones.extend(self.maybe_mobile());
        phones
    }

    /// A second phone for one in four.
    fn maybe_mobile(&mut self) -> Option<Phone> {
        (self.rng.u8(..4) == 0).then(|| {
            let number = self.fresh(Number::any);
            self.phone("mobile", &number)
        })
    }

    fn phone(&mut self, label: &'static str, number: &Number) -> Phone {
        Phone {
            label,
            number: number.spelled(&mut self.rng),
            e164: number.e164(),
        }
    }

    /// An unused number from `draw`, which may change the country each time: small plans run out.
    fn fresh(&mut self, draw: fn(&mut Rng) -> Number) -> Number {
        loop {
            let number = draw(&mut self.rng);
            if self.used.insert(number.e164()) {
                return number;
            }
        }
    }

    fn company_name(&mut self) -> String {
        format!(
            "{} {}",
            pick(COMPANY_NAMES, &mut self.rng),
            pick(COMPANY_TRADES, &mut self.rng)
        )
    }
}

fn deal(rng: &mut Rng) -> Deal {
    Deal {
        id: 0,
        title: format!("{} {}", pick(DEAL_SUBJECTS, rng), rng.u16(2023..=2026)),
        stage: pick(&["open", "won", "lost"], rng),
    }
}

/// `text` as a part of an email address: in lower case, words joined by `-`, letters without their
/// accents, and without other signs.
fn ascii_word(text: &str) -> String {
    let lower = text.to_lowercase();
    let words = lower.chars().map(|c| match c {
        ' ' => '-',
        'á' => 'a',
        'é' | 'ë' => 'e',
        'í' => 'i',
        'ñ' => 'n',
        'ó' | 'ø' => 'o',
        'ú' | 'ü' => 'u',
        other => other,
    });
    words
        .filter(|&c| c == '-' || c.is_ascii_alphanumeric())
        .collect()
}

/// RFC 3339 in UTC of `seconds` since 1970.
fn timestamp(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_each_letter_of_the_name() {
        for name in FIRST_NAMES.iter().chain(LAST_NAMES) {
            let letters = name.chars().filter(|c| c.is_alphabetic()).count();
            assert_eq!(ascii_word(name).len(), letters, "{name}");
        }
        assert_eq!(ascii_word("Zoë"), "zoe");
        assert_eq!(ascii_word("O'Brien"), "obrien");
    }
}
