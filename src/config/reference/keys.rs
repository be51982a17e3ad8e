//! What each setting means.

/// One key of the settings.
pub(super) struct Setting {
    /// Its path, with `NAME` for the name of a connector.
    pub(super) key: &'static str,
    /// Its default in words. If empty, the effective value is shown.
    pub(super) default: &'static str,
    /// What it is for, as Markdown in one line.
    pub(super) meaning: &'static str,
}

const fn setting(key: &'static str, meaning: &'static str) -> Setting {
    in_words(key, "", meaning)
}

const fn in_words(key: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting {
        key,
        default,
        meaning,
    }
}

/// All settings, in the order of the page.
pub(super) const SETTINGS: [Setting; 47] = [
    setting(
        "grpc.listen",
        "where callers connect; port 0 takes a free one, which the log names",
    ),
    in_words(
        "grpc.tls",
        "none",
        "`{ cert, key, client_ca }`: paths of PEM files, read again when they change; with \
         `client_ca`, callers need a certificate of it",
    ),
    in_words(
        "grpc.tokens",
        "none",
        "who may call: `{ name, sha256 or certificate, platforms, accounts, rate, \
         max_in_flight }` each",
    ),
    setting(
        "grpc.insecure",
        "allows an address that other machines can reach without `client_ca` or `tokens`",
    ),
    setting(
        "grpc.max_in_flight",
        "calls of one CRM user that may wait for the CRM, and look-ups of one user under way; \
         more are refused at once. In all there are twice as many places, of which one CRM \
         gets three quarters if there are others",
    ),
    setting(
        "grpc.max_prefetch_jobs",
        "batches at once; half of them are one user's at most, also if nobody else has any, and \
         three quarters one CRM's if there are others",
    ),
    setting(
        "grpc.max_connections",
        "connections at once; if all are taken, an address with few takes a place of the one \
         with most. \
         Connections that known callers use go last",
    ),
    setting(
        "grpc.max_connection_age",
        "when a connection is told to end, so that callers spread over replicas",
    ),
    setting(
        "grpc.max_connection_age_grace",
        "what the calls of such a connection may take after that",
    ),
    setting(
        "grpc.drain_delay",
        "how long to go on serving after the stop was announced",
    ),
    setting(
        "grpc.drain_timeout",
        "how long calls in hand may take after that",
    ),
    setting("ops.listen", "status page, metrics and probes"),
    setting("log.level", "what is logged: a level or directives"),
    setting("log.format", "how lines look: `auto`, `human` or `json`"),
    setting(
        "cache.memory",
        "memory for stored answers, bookkeeping included; one takes about 0.5 to 1 KiB",
    ),
    setting("cache.found.fresh", "how long a found contact is fresh"),
    setting("cache.found.stale", "how long it may be served at all"),
    setting(
        "cache.absent.fresh",
        "the same for \"nobody\" and for partial answers",
    ),
    setting(
        "cache.absent.stale",
        "the same for \"nobody\" and for partial answers",
    ),
    setting(
        "cache.admitted",
        "how long a credential is trusted after the CRM accepted it. After that the CRM is \
         asked first; stored answers are served without it only if it cannot be reached. A \
         hit in the last fifth of this time renews the trust behind the answer. \
         [Example](SECURITY.md#whose-answer-it-is)",
    ),
    in_words(
        "redis.url",
        "none; required in section `redis`",
        "the Redis that replicas share: `redis://`, `rediss://`, `redis+cluster://a:1,b:2`, \
         `redis+sentinel://a:1,b:2/master`; in a user or password `#` is `%23`, `?` is `%3F`, \
         `@` is `%40`, `/` is `%2F`",
    ),
    setting("redis.key_prefix", "what names of keys begin with"),
    setting(
        "redis.timeout",
        "the longest that one question to Redis may take",
    ),
    setting(
        "redis.replicas",
        "how many replicas you run: each that does not reach Redis has an equal part of the \
         quota, and the others leave it. If it is not set, the start warns",
    ),
    in_words(
        "redis.encryption_key_file",
        "none",
        "keys that seal stored answers, `ID:KEY` a line; see [PRIVACY.md](PRIVACY.md)",
    ),
    in_words(
        "redis.key_secret_file",
        "none",
        "a secret for the hashes in names of keys",
    ),
    in_words(
        "redis.ca_file",
        "none",
        "certificates to trust for `rediss://`",
    ),
    in_words(
        "tracing.otlp_endpoint",
        "none; required in section `tracing`",
        "the collector that gets traces, OTLP over gRPC: `http://host:4317`; without this \
         section nothing is traced",
    ),
    setting(
        "tracing.sample",
        "the part of the requests that are traced if the caller has not decided",
    ),
    setting(
        "lookup.soft_deadline",
        "how long a manual refresh, or a look-up under a credential that is no longer \
         trusted, waits for the CRM if something is stored. Then the stored answer is served, \
         labelled stale",
    ),
    setting(
        "lookup.details_timeout",
        "how long a ringing phone waits for the details of contacts that are found, or twice \
         as long as the search took if that is more",
    ),
    setting(
        "lookup.timeout",
        "time for one look-up in a CRM that a phone rings for; behind the scenes it may wait \
         for the quota as long as it takes",
    ),
    setting("lookup.call_timeout", "time for one HTTP call"),
    setting(
        "lookup.max_reply",
        "largest reply that is read, after decompression",
    ),
    setting("lookup.max_pages", "pages read of one list"),
    setting("lookup.max_contacts", "contacts in one answer"),
    setting(
        "lookup.withheld",
        "a house's own texts for \"no number came with the call\"",
    ),
    setting(
        "lookup.max_concurrent_calls",
        "HTTP calls of one look-up at once",
    ),
    in_words(
        "connectors.NAME.kind",
        "required",
        "what the CRM is, see [below](#what-each-kind-brings); `NAME` is what `user.platform` \
         says",
    ),
    in_words(
        "connectors.NAME.base_url",
        "none",
        "where the CRM is, instead of `https://{user.hostname}`",
    ),
    in_words(
        "connectors.NAME.allowed_hosts",
        "by kind",
        "what `user.hostname` may be; `*.` stands for any name below",
    ),
    in_words(
        "connectors.NAME.quota",
        "by kind",
        "`{ rate, per, burst, scope, prefetch_share }`: see [What is spent on a \
         CRM](#what-is-spent-on-a-crm)",
    ),
    in_words(
        "connectors.NAME.quota.search",
        "by kind",
        "the same without `scope`, for searches only, if the CRM counts them apart",
    ),
    in_words(
        "connectors.NAME.quota.other",
        "by kind",
        "the same without `scope`, for all other calls",
    ),
    setting(
        "connectors.NAME.create_option",
        "whether answers end with \"Create new contact...\"",
    ),
    setting(
        "connectors.NAME.identity",
        "who says whose a credential is: `\"crm\"` asks the CRM; `\"caller\"` believes the \
         user id that the caller names, under any credential that the CRM accepts",
    ),
    setting(
        "connectors.NAME.region",
        "where phone fields were typed: one ISO 3166 code or a list; without it `user.region`",
    ),
];
