//! What a number's plan says about it, in the words of Google's library.

use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, PhoneNumberType};

use super::E164;

/// What a number's plan says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlanFacts {
    pub(crate) calling_code: u16,
    /// Its country (ISO 3166), or 001 for the world. `None` if the plan has none for it.
    pub(crate) region: Option<String>,
    /// Whether it is in use.
    pub(crate) is_valid: bool,
    /// Its type, such as `fixed-line-or-mobile`.
    pub(crate) kind: &'static str,
    /// Whether it can be called from abroad.
    pub(crate) is_dialled_from_abroad: bool,
    /// The number as a tel: URI with dashes (RFC 3966).
    pub(crate) rfc3966: String,
}

impl PlanFacts {
    pub(crate) fn of(number: &E164) -> Self {
        let engine = number.to_engine();
        let region = PHONE_NUMBER_UTIL.get_region_for_number(&engine);
        // The plan's main region, if the number belongs to no region.
        let main = || PHONE_NUMBER_UTIL.get_region_for_country_code(engine.country_code);
        let region = region.or_else(main);
        Self {
            calling_code: number.calling_code,
            region: region.map(|region| region.to_string()),
            is_valid: number.is_valid(),
            kind: kind(PHONE_NUMBER_UTIL.get_number_type(&engine)),
            is_dialled_from_abroad: PHONE_NUMBER_UTIL.can_be_internationally_dialled(&engine),
            rfc3966: PHONE_NUMBER_UTIL
                .format(&engine, PhoneNumberFormat::RFC3966)
                .into_owned(),
        }
    }
}

fn kind(kind: PhoneNumberType) -> &'static str {
    match kind {
        PhoneNumberType::FixedLine => "fixed-line",
        PhoneNumberType::Mobile => "mobile",
        PhoneNumberType::FixedLineOrMobile => "fixed-line-or-mobile",
        PhoneNumberType::TollFree => "toll-free",
        PhoneNumberType::PremiumRate => "premium-rate",
        PhoneNumberType::SharedCost => "shared-cost",
        PhoneNumberType::VoIP => "voip",
        PhoneNumberType::PersonalNumber => "personal-number",
        PhoneNumberType::Pager => "pager",
        PhoneNumberType::UAN => "uan",
        PhoneNumberType::VoiceMail => "voicemail",
        PhoneNumberType::Unknown => "unknown",
    }
}
