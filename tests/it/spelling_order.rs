//! CRMs that are asked for one spelling after the other: what the learned order saves.

use std::collections::HashSet;

use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::many_numbers::{asker, unlimited};
use crate::support::crm::Seen;
use crate::support::daemon::{Changed as _, names};
use crate::support::{FakeCrm, Reply, TestDaemon};

const NUMBERS: usize = 1_000;

/// A CRM whose people store their numbers in one spelling, which is searched late.
struct Habit {
    kind: &'static str,
    /// The path of the search.
    search: &'static str,
    formats: &'static [&'static str],
    stored: fn(usize) -> String,
    /// The text that a search asks for.
    asked: fn(&Seen) -> Option<&str>,
    reply: fn(Option<&str>) -> Value,
    /// Searches until it is asked for, in the file's order.
    cold: usize,
}

const HABITS: [Habit; 3] = [
    Habit {
        kind: "keap",
        search: "/contacts",
        formats: &[],
        stored: |n| format!("650{}{:04}", 200 + n / 10_000, n % 10_000),
        asked: |seen| {
            let filter = seen.param("filter")?.strip_prefix("phone_number==")?;
            filter.split(';').next()
        },
        reply: |phone| {
            let person = |phone| json!({"id": phone, "given_name": "Ada", "phone_numbers": [{"number": phone}]});
            json!({"contacts": phone.map(person).as_slice(), "next_page_token": ""})
        },
        cold: 3,
    },
    Habit {
        kind: "activecampaign",
        search: "/contacts",
        formats: &[],
        stored: |n| format!("(650) {}-{:04}", 200 + n / 10_000, n % 10_000),
        asked: |seen| seen.param("phone"),
        reply: |phone| {
            let person = |phone| json!({"id": phone, "firstName": "Ada", "phone": phone});
            json!({"contacts": phone.map(person).as_slice(), "meta": {"total": "1"}})
        },
        // The digits are searched for as well.
        cold: 4,
    },
    Habit {
        kind: "clio",
        search: "/contacts.json",
        formats: &["(###) ###-####", "###.###.####"],
        stored: |n| format!("650.{}.{:04}", 200 + n / 10_000, n % 10_000),
        asked: |seen| seen.param("query"),
        reply: |phone| {
            let person = |phone| json!({"id": phone, "name": "Ada", "type": "Person", "phone_numbers": [{"number": phone}]});
            json!({"data": phone.map(person).as_slice(), "meta": {"paging": {}}})
        },
        cold: 3,
    },
];

impl Habit {
    async fn crm(&'static self) -> FakeCrm {
        let stored: HashSet<String> = (0..NUMBERS).map(self.stored).collect();
        FakeCrm::start(move |seen| {
            if !seen.path.ends_with(self.search) {
                // Neither details nor the credential's owner.
                return Reply::status(404);
            }
            let found = (self.asked)(seen).filter(|text| stored.contains(*text));
            Reply::json((self.reply)(found))
        })
        .await
    }

    /// Searches for all numbers: in one account, or each in an account of its own, of which nothing
    /// is known.
    async fn searches(&'static self, is_one_account: bool) -> usize {
        let crm = self.crm().await;
        let daemon = TestDaemon::start(&unlimited(self.kind, &crm.url())).await;
        let find = |n: usize| {
            let whose = if is_one_account { 0 } else { n };
            let mut request = asker(self.kind)
                .number(&format!("+1650{}{:04}", 200 + n / 10_000, n % 10_000))
                .auth(&format!("Bearer token-{whose}"));
            request.overriding_formats = self.formats.iter().map(|it| (*it).to_owned()).collect();
            request.user.as_mut().unwrap().id = format!("user-{whose}");
            daemon.find(request)
        };
        // What a search learned is known to the next one only if they come one after the other.
        let at_once = if is_one_account { 1 } else { 8 };
        let mut found = stream::iter((0..NUMBERS).map(find)).buffered(at_once);
        while let Some(response) = found.next().await {
            assert_eq!(names(&response.unwrap()), ["Ada"], "{}", self.kind);
        }
        let seen = crm.seen();
        seen.iter()
            .filter(|seen| seen.path.ends_with(self.search))
            .count()
    }
}

#[tokio::test]
#[allow(
    clippy::print_stdout,
    reason = "figures for whoever runs the test with --nocapture"
)]
async fn a_thousand_known_numbers_cost_hardly_more_searches_than_numbers() {
    println!("searches for 1,000 known numbers: in the file's order, in the learned order");
    for habit in &HABITS {
        let (without, learned) = (habit.searches(false).await, habit.searches(true).await);
        println!("{:<20} {without:>6} {learned:>6}", habit.kind);
        assert_eq!(without, habit.cold * NUMBERS, "{}", habit.kind);
        // Only the first one has to find out.
        assert_eq!(learned, NUMBERS + habit.cold - 1, "{}", habit.kind);
    }
}
