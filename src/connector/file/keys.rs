//! The words of the language: every key of every table, for the reader, the checker and the schema.

/// A key, and what it is for.
pub(crate) type Key = (&'static str, &'static str);

pub(super) const FILE: &[Key] = &[
    ("format", "The version of the language: 1."),
    ("name", "The CRM's name, for people."),
    (
        "spellings",
        "The spellings that are searched, in their order: e164, digits, national, local, \
         local_digits, international, formats, or a pattern with #.",
    ),
    (
        "stop",
        "\"never\" searches all spellings. Otherwise the search ends at the first one that finds a contact.",
    ),
    ("about", "What the file says about itself."),
    ("crm", "Where the CRM is, and what it allows."),
    ("request", "What all searches and details share."),
    ("record", "How all records are mapped."),
    (
        "search",
        "A search. All searches of the file run for each spelling.",
    ),
    ("details", "A part of the details of found contacts."),
    (
        "rate",
        "Headers in which the CRM reports its quota, if they are not the usual ones.",
    ),
    (
        "errors",
        "Replies whose meaning differs from the common table.",
    ),
    ("auth", "How the caller's credential is put into headers."),
    ("whoami", "The request that names the user of a credential."),
];

pub(super) const ABOUT: &[Key] = &[
    ("searches", "What is searched, in one or two sentences."),
    (
        "auth_header",
        "What the caller's auth_header must be, such as `Bearer TOKEN`.",
    ),
    ("built_from", "The documents that the file was built from."),
    ("scopes", "The scopes or rights that a token needs."),
    (
        "unverified",
        "What could not be verified without an account.",
    ),
    ("gaps", "What is knowingly missing or different."),
];

pub(super) const CRM: &[Key] = &[
    (
        "base",
        "The CRM's address. Slots: host, host.label, info.PATH.",
    ),
    (
        "hosts",
        "The hosts that the CRM may have. Required if the address has a slot.",
    ),
    ("headers", "Headers of every request."),
    ("quota", "The CRM's documented limit."),
];

pub(super) const QUOTA: &[Key] = &[
    ("rate", "Calls in any window."),
    ("per", "The length of a window."),
    ("burst", "Calls that may go at once."),
    (
        "scope",
        "Whose calls the CRM counts together: user or account.",
    ),
    ("concurrent", "Concurrent calls."),
    ("per_day", "Calls in 24 hours."),
    (
        "search",
        "The limit of searches, if the CRM has one of its own.",
    ),
    (
        "other",
        "The limit of other calls, if the CRM has one of its own.",
    ),
];

pub(super) const QUOTA_OF_KIND: &[Key] = &[
    ("rate", "Calls in any window."),
    ("per", "The length of a window."),
    ("burst", "Calls that may go at once."),
];

/// The keys under `contactd` in App Connect's JSON.
pub(super) const CONTACTD: &[Key] = &[
    (
        "spellings",
        "The spellings that phoneNumber has, in their order. Default: e164.",
    ),
    (
        "stop",
        "\"never\" searches all spellings. Otherwise the search ends at the first one that finds a contact.",
    ),
    ("hosts", "The hosts that the CRM may have."),
    ("quota", "The CRM's documented limit."),
    (
        "phones",
        "The paths of all phone numbers of a record. They decide whether a record matches.",
    ),
    (
        "exact",
        "Whether the CRM compares complete numbers. If true, a full page on which no record has the \
         number is an error.",
    ),
    ("pages", "How the list continues."),
    ("details", "A part of the details of found contacts."),
    (
        "rate",
        "Headers in which the CRM reports its quota, if they are not the usual ones.",
    ),
    (
        "errors",
        "Replies whose meaning differs from the common table.",
    ),
    ("whoami", "The request that names the user of a credential."),
];

/// The keys of every request.
pub(super) const REQUEST: &[Key] = &[
    ("get", "The path of a GET."),
    ("read_by_post", "The path of a POST that only reads."),
    (
        "reads_because",
        "Why a POST to this path only reads, if its last segment does not show it.",
    ),
    ("query", "Parameters. A list is a repeated parameter."),
    ("headers", "Headers."),
    ("body", "A JSON body."),
    ("form", "A form as body."),
    (
        "language",
        "The query language of texts with slots: soql, coql, suiteql, odata, dataverse, sosl, lucene, \
         quoted, freshdesk, plain, servicenow.",
    ),
    (
        "list",
        "The path of the list in the reply. \".\" is the reply itself.",
    ),
    (
        "shape",
        "What stands at the path of the list: objects, nullable, one, table.",
    ),
    ("pages", "How the list continues, or false."),
    (
        "for",
        "A name and its values: the request is made once for each.",
    ),
    ("before", "Requests whose results this one uses."),
];

/// The keys of a search besides those of a request.
pub(super) const SEARCH: &[Key] = &[
    (
        "phones",
        "The paths of the record's phone numbers. They decide whether a record matches.",
    ),
    (
        "exact",
        "Whether the CRM compares complete numbers. If true, a full page on which no record has the \
         number is an error.",
    ),
    (
        "only_if_empty",
        "Runs only if the searches above it found no record.",
    ),
    (
        "optional",
        "The search is left out if the CRM refuses it for good.",
    ),
    (
        "if_among",
        "A user setting and a word. The search runs if the setting's list has the word, or is empty.",
    ),
    (
        "batch",
        "How many values one request may have, or { values, text }.",
    ),
    ("record", "How the records of this search are mapped."),
];

/// The keys of details besides those of a request.
pub(super) const DETAILS: &[Key] = &[
    ("name", "The key in additional_info."),
    ("choice", "How a row becomes a choice. const is required."),
    ("choices", "Fixed choices instead of a request."),
    (
        "drop",
        "Rows that are left out: a path and its values, and unless_setting.",
    ),
    (
        "of",
        "Where a row names its record. Rows of other records are left out. Required with records.PATH.",
    ),
    ("if_setting", "The user's setting that must be on."),
    (
        "per",
        "\"answer\": all contacts get the choices of one request.",
    ),
];

/// The keys of a request before another one.
pub(super) const BEFORE: &[Key] = &[("take", "Names, and the paths of their values in the reply.")];

pub(super) const RECORD: &[Key] = &[
    ("id", "The record's id."),
    ("kind", "The kind of record."),
    ("name", "The name that is shown."),
    ("title", "The job title."),
    ("company", "The company."),
    ("email", "The e-mail address."),
    ("created", "When the record was created."),
    ("last_activity", "When something last happened."),
    ("info", "Further values for additional_info."),
];

pub(super) const PAGES: &[Key] = &[
    (
        "link",
        "The path of the link to the next page, or \"header\".",
    ),
    ("cursor", "The path of the next page's cursor."),
    ("as", "Where the cursor goes: query.NAME or body.PATH."),
    (
        "number",
        "Whether the cursor is a number in the reply, not a string.",
    ),
    ("offset", "Where the number of skipped entries goes."),
    ("page", "Where the number of the page goes."),
    ("size", "Entries of a full page."),
    ("first", "The number of the first page."),
    ("more", "The path of a flag for further pages."),
];

pub(super) const BATCH: &[Key] = &[
    ("values", "How many values one request may have."),
    ("text", "How long its longest text may be, in characters."),
];

pub(super) const RATE: &[Key] = &[
    ("remaining", "The header with the remaining calls."),
    ("limit", "The header with the calls of a window."),
    ("reset", "The header with the time of the next window."),
];

pub(super) const ERRORS: &[Key] = &[
    ("status", "A status or a list of them."),
    ("header", "Headers and their values."),
    (
        "where",
        "Paths, each with a list of values. One value at the path must be in the list.",
    ),
    (
        "where_not",
        "Paths, and the values that they must not have.",
    ),
    ("where_present", "A path, or paths, that must have a value."),
    ("where_absent", "A path, or paths, that must have none."),
    ("not_json", "The body is not JSON."),
    (
        "means",
        "rate_limited, unauthenticated, forbidden, unavailable, bad_reply, partial or nothing.",
    ),
];

pub(super) const AUTH: &[Key] = &[
    ("headers", "Headers and their values."),
    ("value", "The value of Authorization."),
    ("scheme", "A word before the value."),
    ("encode", "\"base64\"."),
    (
        "token",
        "How a token is fetched with client credentials: post and form. {{token}} is the token.",
    ),
];

pub(super) const TOKEN: &[Key] = &[
    ("post", "The https address that gives tokens."),
    ("form", "The fields of the form. Slots: secret.NAME."),
];

/// The keys of `whoami` besides those of a request.
pub(super) const WHOAMI: &[Key] = &[("id", "The path of the user's id, and of the account's.")];
