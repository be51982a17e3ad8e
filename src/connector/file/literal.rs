//! Literals of query languages: a value becomes one complete literal, quotes included.
//!
//! Each language escapes what its own documentation names. A value that cannot be written safely
//! makes no literal, and then the request is not made.

use super::slot::Pattern;

/// A query language in which a request is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Language {
    /// Salesforce's queries (SOQL and SOSL Reference, "Quoted String Escape Sequences").
    Soql,
    /// Zoho's queries (Zoho CRM API, "COQL").
    Coql,
    /// NetSuite's queries: quotes are doubled.
    SuiteQl,
    /// OData 4.01, 5.1.1.6.1: quotes are doubled.
    OData,
    /// Dataverse: as OData, and `%`, `_` and `[` are wildcards that brackets make literal.
    Dataverse,
    /// Salesforce's text search (SOQL and SOSL Reference, "FIND": reserved characters).
    Sosl,
    /// Lucene's query parser (Query Parser Syntax, "Escaping Special Characters").
    Lucene,
    /// A phrase in quotation marks.
    Quoted,
    /// Freshdesk's search: `'…'` inside one outer pair of quotation marks, without escapes.
    Freshdesk,
    /// Conditions without quotes, as in Keap's `field==value;…`.
    Plain,
    /// ServiceNow's encoded queries, in which `^` begins a condition.
    ServiceNow,
}

impl Language {
    /// Each language with its name in a file.
    pub(super) const ALL: [(&'static str, Self); 11] = [
        ("soql", Self::Soql),
        ("coql", Self::Coql),
        ("suiteql", Self::SuiteQl),
        ("odata", Self::OData),
        ("dataverse", Self::Dataverse),
        ("sosl", Self::Sosl),
        ("lucene", Self::Lucene),
        ("quoted", Self::Quoted),
        ("freshdesk", Self::Freshdesk),
        ("plain", Self::Plain),
        ("servicenow", Self::ServiceNow),
    ];

    /// The quotation mark around a whole query, inside which literals stand.
    pub(super) fn outer_quote(self) -> Option<char> {
        (self == Self::Freshdesk).then_some('"')
    }

    /// Whether the language has literals of patterns.
    pub(super) fn has_patterns(self) -> bool {
        !matches!(
            self,
            Self::OData | Self::Quoted | Self::Freshdesk | Self::Plain | Self::ServiceNow
        )
    }

    /// Whether the language has literals of lists.
    pub(super) fn has_lists(self) -> bool {
        !matches!(self, Self::Quoted | Self::Freshdesk | Self::Plain)
    }

    /// The literal of one value. `None` if it cannot be written safely.
    pub(super) fn literal(self, value: &str, pattern: Option<Pattern>) -> Option<String> {
        if value.is_empty() || value.contains(char::is_control) {
            return None;
        }
        match self {
            Self::Soql | Self::Coql => Some(backslashed(value, pattern)),
            Self::SuiteQl => doubled(value, pattern, &[]),
            Self::OData => doubled(value, None, &[]),
            Self::Dataverse => doubled(value, pattern, &['%', '_', '[']),
            Self::Sosl => term(value, pattern, &SOSL_RESERVED),
            Self::Lucene => term(value, pattern, &[]),
            Self::Quoted => Some(phrase(value, &[])),
            Self::Freshdesk => unless(value.contains(['\'', '"', '\\']), format!("'{value}'")),
            Self::ServiceNow => unless(begins_condition(value), value.to_owned()),
            Self::Plain => unless(value.contains(PLAIN_RESERVED), value.to_owned()),
        }
    }

    /// The literal of a list.
    pub(super) fn list(self, values: &[String], pattern: Option<Pattern>) -> Option<String> {
        let literals = values.iter().map(|value| self.literal(value, pattern));
        let items: Vec<String> = literals.collect::<Option<_>>()?;
        if items.is_empty() {
            return None;
        }
        match self {
            Self::Sosl => Some(items.join(" OR ")),
            Self::Lucene => Some(format!("({})", items.join(" OR "))),
            Self::ServiceNow => {
                let has_comma = items.iter().any(|item| item.contains(','));
                unless(has_comma, items.join(","))
            }
            Self::Quoted | Self::Freshdesk | Self::Plain => None,
            _ => Some(format!("({})", items.join(", "))),
        }
    }
}

/// The literal, unless the value cannot be written safely.
fn unless(is_unsafe: bool, literal: String) -> Option<String> {
    (!is_unsafe).then_some(literal)
}

/// Characters that mean something in a condition without quotes.
const PLAIN_RESERVED: [char; 13] = [
    ';', ',', '*', '=', '<', '>', '!', '~', '\'', '"', '\\', '&', '|',
];

/// Whether ServiceNow would read a part of the value as a condition, or evaluate it as code.
fn begins_condition(value: &str) -> bool {
    let is_code = value.to_ascii_lowercase().contains("javascript:");
    is_code || value.contains('^')
}

/// `'…'` with backslashes. In a pattern, `%` and `_` of the value are escaped as well.
fn backslashed(value: &str, pattern: Option<Pattern>) -> String {
    let escape = |c: char| match c {
        '\\' | '\'' | '"' => format!("\\{c}"),
        '%' | '_' if pattern.is_some() => format!("\\{c}"),
        c => c.to_string(),
    };
    format!("'{}'", wildcards(value, pattern, '%', escape))
}

/// `'…'` with doubled quotes. `special` characters are put into brackets. If there are none, the
/// wildcards of a value cannot be escaped, so a pattern with such a value is `None`.
fn doubled(value: &str, pattern: Option<Pattern>, special: &[char]) -> Option<String> {
    if pattern.is_some() && special.is_empty() && value.contains(['%', '_']) {
        return None;
    }
    let escape = |c| doubled_char(c, special);
    Some(format!("'{}'", wildcards(value, pattern, '%', escape)))
}

fn doubled_char(c: char, special: &[char]) -> String {
    match c {
        '\'' => "''".to_owned(),
        c if special.contains(&c) => format!("[{c}]"),
        c => c.to_string(),
    }
}

/// Letters and digits bare, everything else as a phrase. Only a bare term can be a pattern.
fn term(value: &str, pattern: Option<Pattern>, reserved: &[char]) -> Option<String> {
    let is_bare = value.chars().all(|c| c.is_ascii_alphanumeric());
    // AND, OR and NOT are operators, and TO stands in Lucene's ranges.
    let is_word = matches!(value, "AND" | "OR" | "NOT" | "TO");
    match (is_bare && !is_word, pattern) {
        (true, pattern) => Some(wildcards(value, pattern, '*', |c| c.to_string())),
        (false, None) => Some(phrase(value, reserved)),
        (false, Some(_)) => None,
    }
}

/// Characters that SOSL reserves in a phrase too (SOSL Reference, "FIND": reserved characters).
const SOSL_RESERVED: [char; 16] = [
    '?', '&', '|', '!', '{', '}', '[', ']', '(', ')', '^', '~', '*', ':', '+', '-',
];

/// `"…"` in which backslashes, quotation marks and reserved characters are escaped.
fn phrase(value: &str, reserved: &[char]) -> String {
    let mut text = String::from('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\') || reserved.contains(&c) {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}

fn wildcards(
    value: &str,
    pattern: Option<Pattern>,
    wildcard: char,
    escape: impl Fn(char) -> String,
) -> String {
    let Pattern {
        before,
        between,
        after,
    } = pattern.unwrap_or_default();
    let mut text = String::new();
    for (n, c) in value.chars().enumerate() {
        if if n == 0 { before } else { between } {
            text.push(wildcard);
        }
        text.push_str(&escape(c));
    }
    if after {
        text.push(wildcard);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINS: Pattern = Pattern {
        before: true,
        between: false,
        after: true,
    };

    fn literal(language: Language, value: &str) -> String {
        language.literal(value, None).unwrap_or_default()
    }

    #[test]
    fn a_value_is_one_literal_of_its_language() {
        for (language, value, expected) in [
            (Language::Soql, "O'Neil\\", r"'O\'Neil\\'"),
            (Language::Coql, "a'b", r"'a\'b'"),
            (Language::SuiteQl, "a'b", "'a''b'"),
            (Language::OData, "a'b%", "'a''b%'"),
            (Language::Dataverse, "a%b_[c'", "'a[%]b[_][[]c'''"),
            (Language::Sosl, "6505550101", "6505550101"),
            (Language::Sosl, "+1 (650)", r#""\+1 \(650\)""#),
            (Language::Freshdesk, "+1", "'+1'"),
            (Language::Freshdesk, "a' OR b", ""),
            (Language::Lucene, "a) OR (b", "\"a) OR (b\""),
            (Language::Lucene, "OR", "\"OR\""),
            (Language::Quoted, "a\" OR x:\"b\\", r#""a\" OR x:\"b\\""#),
            (Language::ServiceNow, "650 555", "650 555"),
            (Language::ServiceNow, "1^ORnameSTARTSWITHa", ""),
            (Language::ServiceNow, "JavaScript:gs.getUser()", ""),
            (Language::Plain, "(650) 555-0101", "(650) 555-0101"),
            (Language::Plain, "a;b==c", ""),
            (Language::Soql, "a\nb", ""),
            (Language::Lucene, "", ""),
        ] {
            assert_eq!(literal(language, value), expected, "{language:?} {value}");
        }
    }

    #[test]
    fn lists_and_patterns_have_the_languages_own_form() {
        let values = ["650".to_owned(), "+1".to_owned()];
        let list = |language: Language| language.list(&values, None).unwrap_or_default();
        assert_eq!(list(Language::Soql), "('650', '+1')");
        assert_eq!(list(Language::Sosl), r#"650 OR "\+1""#);
        assert_eq!(list(Language::Lucene), "(650 OR \"+1\")");
        assert_eq!(list(Language::ServiceNow), "650,+1");
        assert_eq!(list(Language::Quoted), "");
        assert_eq!(Language::Soql.list(&[], None), None);
        let pattern = |language: Language, value| language.literal(value, Some(CONTAINS));
        assert_eq!(pattern(Language::Soql, "5_5").as_deref(), Some(r"'%5\_5%'"));
        assert_eq!(pattern(Language::SuiteQl, "5%5"), None);
        assert_eq!(
            pattern(Language::Dataverse, "5%").as_deref(),
            Some("'%5[%]%'")
        );
        assert_eq!(pattern(Language::Lucene, "555").as_deref(), Some("*555*"));
        assert_eq!(pattern(Language::Lucene, "5 5"), None);
        let spread = Pattern {
            between: true,
            ..Pattern::default()
        };
        let spread = Language::Dataverse.literal("123", Some(spread));
        assert_eq!(spread.as_deref(), Some("'1%2%3'"));
    }
}
