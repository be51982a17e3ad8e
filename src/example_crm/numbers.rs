//! Phone numbers: made up under the numbering plans of a few countries, and spelled as people type
//! them.
//!
//! The numbers are valid under their plans. If somebody really has one of them, that is chance.

use fastrand::Rng;

/// How the numbers of one country, or of one kind of them, are made and spelled.
#[derive(Debug)]
struct NumberingPlan {
    /// How many of a hundred numbers use this plan. The rest is North American.
    share: u8,
    /// The country code.
    country: &'static str,
    /// What national numbers begin with.
    areas: &'static [&'static str],
    /// The digits after it: `N` stands for 2 to 9, `X` for any digit.
    subscriber: &'static str,
    /// How people write it: each `x` stands for the next digit of the national number.
    spellings: &'static [&'static str],
}

/// The North American plan, used by most numbers.
static NANP: NumberingPlan = NumberingPlan {
    share: 0,
    country: "1",
    areas: &[
        "415", "650", "212", "617", "303", "512", "206", "312", "404", "702",
    ],
    subscriber: "NXXXXXX",
    spellings: &[
        "+1xxxxxxxxxx",
        "(xxx) xxx-xxxx",
        "xxx-xxx-xxxx",
        "xxx.xxx.xxxx",
        "xxxxxxxxxx",
        "1 (xxx) xxx-xxxx",
        "+1 xxx xxx xxxx",
        "1-xxx-xxx-xxxx",
    ],
};

/// The other plans: London, British mobiles, Berlin, Paris, Rome (whose leading zero is part of the
/// number), Sydney.
static ABROAD: [NumberingPlan; 6] = [
    NumberingPlan {
        share: 4,
        country: "44",
        areas: &["207946"],
        subscriber: "XXXX",
        spellings: &[
            "+44xxxxxxxxxx",
            "+44 xx xxxx xxxx",
            "0xx xxxx xxxx",
            "(0xx) xxxx xxxx",
            "+44 (0)xx xxxx xxxx",
        ],
    },
    NumberingPlan {
        share: 2,
        country: "44",
        areas: &["7712", "7733", "7845"],
        subscriber: "XXXXXX",
        spellings: &[
            "+44xxxxxxxxxx",
            "+44 xxxx xxxxxx",
            "0xxxx xxxxxx",
            "0xxxxxxxxxx",
        ],
    },
    NumberingPlan {
        share: 3,
        country: "49",
        areas: &["30"],
        subscriber: "NXXXXXXX",
        spellings: &[
            "+49xxxxxxxxxx",
            "+49 xx xxxxxxxx",
            "0xx xxxxxxxx",
            "0xx/xxxxxxxx",
            "+49 (xx) xxxx-xxxx",
        ],
    },
    NumberingPlan {
        share: 3,
        country: "33",
        areas: &["142", "144", "153", "158"],
        subscriber: "XXXXXX",
        spellings: &[
            "+33xxxxxxxxx",
            "+33 x xx xx xx xx",
            "0x xx xx xx xx",
            "0x.xx.xx.xx.xx",
        ],
    },
    NumberingPlan {
        share: 2,
        country: "39",
        areas: &["06"],
        subscriber: "NXXXXXXX",
        spellings: &[
            "+39xxxxxxxxxx",
            "+39 xx xxxx xxxx",
            "xx xxxx xxxx",
            "xx-xxxxxxxx",
        ],
    },
    NumberingPlan {
        share: 2,
        country: "61",
        areas: &["292", "293", "298"],
        subscriber: "XXXXXX",
        spellings: &[
            "+61xxxxxxxxx",
            "+61 x xxxx xxxx",
            "0x xxxx xxxx",
            "(0x) xxxx xxxx",
        ],
    },
];

/// One made-up phone number.
#[derive(Debug, Clone)]
pub(super) struct Number {
    plan: &'static NumberingPlan,
    /// One of the plan's areas.
    area: &'static str,
    /// The digits after it.
    subscriber: String,
}

impl Number {
    /// A number of any country, most often a North American one.
    pub(super) fn any(rng: &mut Rng) -> Self {
        let mut ticket = rng.u8(..100);
        for plan in &ABROAD {
            if ticket < plan.share {
                return Self::under(plan, rng);
            }
            ticket -= plan.share;
        }
        Self::north_american(rng)
    }

    /// A North American number.
    pub(super) fn north_american(rng: &mut Rng) -> Self {
        Self::under(&NANP, rng)
    }

    fn under(plan: &'static NumberingPlan, rng: &mut Rng) -> Self {
        loop {
            let subscriber: String = plan.subscriber.chars().map(|c| digit(c, rng)).collect();
            // A North American exchange is not N11, which is a service such as 911. The other plans
            // have such numbers too, but can do without them.
            if subscriber.get(1..3) != Some("11") {
                return Self {
                    plan,
                    area: pick(plan.areas, rng),
                    subscriber,
                };
            }
        }
    }

    /// `+`, the country code and the national number, without separators.
    pub(super) fn e164(&self) -> String {
        format!("+{}{}{}", self.plan.country, self.area, self.subscriber)
    }

    /// The number as somebody might have typed it.
    pub(super) fn spelled(&self, rng: &mut Rng) -> String {
        let mut digits = self.area.chars().chain(self.subscriber.chars());
        let spelling = pick(self.plan.spellings, rng).chars();
        spelling
            .filter_map(|c| if c == 'x' { digits.next() } else { Some(c) })
            .collect()
    }

    /// The numbers of the plan's other areas that have this number's digits after the area code.
    pub(super) fn elsewhere(&self) -> impl Iterator<Item = Self> {
        let areas = self.plan.areas;
        // Starts after the own area and wraps around, so that no area is preferred.
        let start = areas
            .iter()
            .position(|&area| area == self.area)
            .map_or(0, |own| own + 1);
        let others = areas.iter().cycle().skip(start).take(areas.len() - 1);
        others.map(|area| Self {
            area,
            ..self.clone()
        })
    }
}

/// One of `items`. They are a list of this module or of the word lists, so never empty.
pub(super) fn pick<T: Copy>(items: &[T], rng: &mut Rng) -> T {
    items[rng.usize(..items.len())]
}

fn digit(kind: char, rng: &mut Rng) -> char {
    let lowest = if kind == 'N' { b'2' } else { b'0' };
    char::from(rng.u8(lowest..=b'9'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digits(text: &str) -> String {
        text.chars().filter(char::is_ascii_digit).collect()
    }

    #[test]
    fn every_spelling_has_room_for_every_digit() {
        let mut rng = Rng::with_seed(1);
        for plan in ABROAD.iter().chain([&NANP]) {
            for area in plan.areas {
                for spelling in plan.spellings {
                    let room = spelling.chars().filter(|&c| c == 'x').count();
                    assert_eq!(room, area.len() + plan.subscriber.len(), "{spelling}");
                }
            }
            let number = Number::under(plan, &mut rng);
            for _ in 0..20 {
                let spelled = digits(&number.spelled(&mut rng));
                assert!(
                    spelled.ends_with(&format!("{}{}", number.area, number.subscriber)),
                    "{spelled}"
                );
            }
        }
    }

    #[test]
    fn north_american_exchanges_are_no_service_codes() {
        let mut rng = Rng::with_seed(2);
        for _ in 0..2_000 {
            let number = Number::north_american(&mut rng);
            assert_eq!(number.e164().len(), "+16505551234".len());
            assert!(
                number.subscriber[..1] >= *"2" && number.subscriber[1..3] != *"11",
                "{number:?}"
            );
        }
    }

    #[test]
    fn elsewhere_changes_the_area_only() {
        let number = Number::north_american(&mut Rng::with_seed(3));
        let others: Vec<_> = number.elsewhere().collect();
        assert_eq!(others.len(), NANP.areas.len() - 1);
        for other in others {
            assert_eq!(other.subscriber, number.subscriber);
            assert_ne!(other.area, number.area);
        }
    }
}
