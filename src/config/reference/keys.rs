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
pub(super) const SETTINGS: [Setting; 54] = [
    setting(
        "grpc.listen",
        "where clients connect, over gRPC or HTTP. Port 0 picks a free port; the log says which",
    ),
    in_words(
        "grpc.tls",
        "none",
        "`{ cert, key, client_ca }`: paths of PEM files, read again when they change. With \
         `client_ca`, clients need a certificate from that authority",
    ),
    in_words(
        "grpc.tokens",
        "none",
        "who may call: a list of `{ name, sha256 or certificate, platforms, accounts, rate, \
         max_in_flight }`",
    ),
    setting(
        "grpc.hostnames",
        "further host names under which clients on this machine call the daemon. If `tokens` is empty and `listen` is \
         a loopback address, a request with any other `Host` (except `localhost` and loopback addresses) may not use \
         the daemon's own credentials and may not invalidate answers",
    ),
    setting(
        "grpc.insecure",
        "allows an address that other machines can reach even if neither `client_ca` nor `tokens` \
         is set",
    ),
    setting(
        "grpc.max_in_flight",
        "how many calls of one CRM user may wait for the CRM, and how many CRM look-ups of one \
         user may be under way. If the quota counts by account, this is for the account. Further \
         ones are refused immediately. All users together may have twice as many; one CRM gets at \
         most three quarters of them if there are other connectors",
    ),
    setting(
        "grpc.max_prefetch_jobs",
        "batches at once. One user (or one account, if the quota counts by account) gets at most \
         half of them, even if nobody else has a batch. One CRM gets at most three quarters if \
         there are other connectors",
    ),
    in_words(
        "grpc.threads",
        "one for each core",
        "threads that serve connections. A connection stays on one thread; a new one goes to the \
         thread with the fewest active ones",
    ),
    setting(
        "grpc.max_connections",
        "connections at once. If all are in use, a connection from an address with few \
         connections replaces one from the address with the most. Connections that known clients \
         use are closed last",
    ),
    setting(
        "grpc.max_connection_age",
        "when the daemon asks a client to close its connection, so that clients spread over \
         replicas",
    ),
    setting(
        "grpc.max_connection_age_grace",
        "how long calls on such a connection may take after that",
    ),
    setting(
        "grpc.drain_delay",
        "how long the daemon keeps taking calls after it has announced its stop",
    ),
    setting(
        "grpc.drain_timeout",
        "how long running calls may take after that",
    ),
    setting("ops.listen", "status page, metrics and probes"),
    setting("log.level", "what is logged: a level or directives"),
    setting("log.format", "how lines look: `auto`, `human` or `json`"),
    setting(
        "log.lookups",
        "whether each look-up is logged, with a hash instead of its number, at every `log.level`. \
         See [OPERATIONS.md](OPERATIONS.md#the-log-of-look-ups)",
    ),
    setting(
        "cache.memory",
        "memory for stored answers, bookkeeping included. One answer takes about 0.35 to 0.7 KiB, \
         more with many contacts",
    ),
    setting("cache.found.fresh", "how long a found contact is fresh"),
    setting(
        "cache.found.stale",
        "how long it may be served, fresh or stale",
    ),
    setting(
        "cache.absent.fresh",
        "how long \"nobody\" and partial answers are fresh. If the refresh of a stale \"nobody\" \
         finds nobody again, the new one is fresh for twice as long, up to `cache.absent.stale`",
    ),
    setting(
        "cache.absent.stale",
        "how long \"nobody\" and partial answers may be served, fresh or stale",
    ),
    setting(
        "cache.admitted",
        "how long a credential stays verified after the CRM accepted it. After that, contactd \
         asks the CRM before it serves a stored answer; if the CRM cannot be reached, or does not \
         reply within `lookup.soft_deadline`, it serves the stored answer. A hit in the last fifth \
         of this time verifies the credential again in the background. [Example](SECURITY.md#whose-answer-it-is)",
    ),
    in_words(
        "redis.url",
        "none; required in section `redis`",
        "the Redis that replicas share: `redis://`, `rediss://`, `redis+cluster://a:1,b:2`, \
         `redis+sentinel://a:1,b:2/master`; in a user or password `#` is `%23`, `?` is `%3F`, \
         `@` is `%40`, `/` is `%2F`",
    ),
    setting("redis.key_prefix", "the prefix of all key names"),
    setting(
        "redis.timeout",
        "the longest that one command to Redis may take",
    ),
    setting(
        "redis.replicas",
        "how many replicas you run. A replica that cannot reach Redis uses an equal share of the \
         quota, and the others leave that share unused. contactd warns at the start if this is not \
         set",
    ),
    in_words(
        "redis.encryption_key_file",
        "none",
        "keys that encrypt stored answers, one `ID:KEY` per line; see [PRIVACY.md](PRIVACY.md)",
    ),
    in_words(
        "redis.key_secret_file",
        "none",
        "a secret for the hashes in key names",
    ),
    in_words(
        "redis.ca_file",
        "none",
        "certificates to trust for `rediss://`",
    ),
    in_words(
        "tracing.otlp_endpoint",
        "none; required in section `tracing`",
        "the collector that gets traces, OTLP over gRPC: `http://host:4317`. Without this section \
         there are no traces",
    ),
    setting(
        "tracing.sample",
        "the share of requests that are traced if the client has not decided",
    ),
    setting(
        "lookup.soft_deadline",
        "how long contactd waits for the CRM before it serves a stored answer, labelled stale. This \
         applies in two cases: the call is a manual refresh, or its credential is no longer verified",
    ),
    setting(
        "lookup.details_timeout",
        "how long a ringing phone waits for the details of the contacts found, or twice as long as \
         the search took if that is longer",
    ),
    setting(
        "lookup.timeout",
        "time for one look-up in a CRM while a phone rings or somebody refreshes. Prefetch and \
         background refreshes may wait for the quota as long as it takes",
    ),
    setting("lookup.call_timeout", "time for one HTTP call"),
    setting(
        "lookup.max_reply",
        "largest reply that is read, after decompression",
    ),
    setting("lookup.max_pages", "pages read per list"),
    setting("lookup.max_contacts", "contacts per answer"),
    setting(
        "lookup.withheld",
        "further texts that stand for a withheld number",
    ),
    setting(
        "lookup.max_concurrent_calls",
        "HTTP calls of one look-up at the same time",
    ),
    in_words(
        "connectors.NAME.kind",
        "required",
        "which CRM it is, see [below](#defaults-of-each-kind). `NAME` is the value of \
         `user.platform`",
    ),
    in_words(
        "connectors.NAME.spec",
        "required for the kinds `file` and `proxy`",
        "the path of a connector file, see [connectors](connectors/README.md), relative to \
         contactd's working directory. It is read at start",
    ),
    in_words(
        "connectors.NAME.secrets.KEY.file",
        "none",
        "the file of a secret that the connector file names, as `secret.KEY`",
    ),
    in_words(
        "connectors.NAME.secrets.KEY.env",
        "none",
        "the variable of the environment with that secret, instead of a file",
    ),
    in_words(
        "connectors.NAME.credential",
        "none",
        "`{ file = \"…\" }` or `{ env = \"…\" }`: the `Authorization` header that requests without `auth_header` \
         use, such as `Bearer` and a token: [one shared login](SECURITY.md#one-shared-login)",
    ),
    in_words(
        "connectors.NAME.base_url",
        "none",
        "the address of the CRM, instead of the one that its connector file states",
    ),
    in_words(
        "connectors.NAME.allowed_hosts",
        "by kind",
        "which values `user.hostname` may have; `*.` stands for any subdomain",
    ),
    in_words(
        "connectors.NAME.quota",
        "by kind",
        "`{ rate, per, burst, scope, prefetch_share, concurrent, per_day }`: see [CRM \
         quotas](#crm-quotas)",
    ),
    in_words(
        "connectors.NAME.quota.search",
        "by kind",
        "`{ rate, per, burst, prefetch_share }` for searches only, if the CRM counts searches separately. If you set \
         `quota.rate` or `quota.per`, the defaults of `quota.search` and `quota.other` no longer apply: set them too",
    ),
    in_words(
        "connectors.NAME.quota.other",
        "by kind",
        "the same keys as `quota.search`, for all other calls",
    ),
    setting(
        "connectors.NAME.create_option",
        "whether answers end with the entry \"Create new contact...\"",
    ),
    setting(
        "connectors.NAME.identity",
        "how contactd learns to which user a credential belongs: with `\"crm\"`, it asks the CRM; \
         with `\"caller\"`, it believes the user id that the client sends, under any credential \
         that the CRM accepts",
    ),
    setting(
        "connectors.NAME.region",
        "the country in which phone fields were typed: one ISO 3166 code or a list. If it is \
         empty, `user.region` is used",
    ),
];
