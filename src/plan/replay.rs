//! The steps of every look-up of a log, in the order in which the daemon takes them
//! (`resolver::walk`, `resolver::trust`), with time that passes between them.

use super::crm::{CallEnd, Crms, Spender, micros};
use super::figures::{ConnectorFigures, Ended, Figures};
use super::fleet::Fleet;
use super::loads::{Load, LoadKey, Loads, LoggedLookup, Purpose, Waiter};
use super::log::CallLog;
use super::terms::{PlannedConnector, Terms};
use crate::admission::{Credential, Trust};
use crate::budget::CallKind;
use crate::domain::{Lane, Source, Timestamp};
use crate::resolver::{
    BackgroundLimit, Decision, NEWS, OF_A_SCOPE, StoredFacts, Trigger, Wish, decide,
};

/// A ringing phone.
const RINGS: Wish = Wish {
    trigger: Trigger::IncomingCall,
    only_if_cached: false,
};

/// The key is a question at a replica, or a user's credential at a replica. The scope is a scope at
/// a replica.
type Refreshes = BackgroundLimit<(u32, u32), (u32, u32)>;

mod ends;

use ends::Outcome;

struct Replay<'a> {
    terms: &'a Terms,
    first: u64,
    fleet: Fleet,
    crms: Crms,
    loads: Loads,
    refreshing: Refreshes,
    renewing: Refreshes,
    figures: Figures,
    ends: Vec<(u32, CallEnd)>,
}

/// Replays a log under some terms.
#[must_use]
pub(crate) fn replay(log: &CallLog, terms: &Terms) -> Figures {
    let first = log.span().map_or(0, |(first, _)| first);
    let mut replay = Replay::new(log, terms, first);
    let mut replicas = fastrand::Rng::with_seed(terms.seed);
    for call in &log.calls {
        replay.pass((call.at - first) * 1000);
        let user = log.askers[call.question as usize];
        let lookup = LoggedLookup {
            at: call.at,
            question: call.question,
            user,
            connector: log.users[user as usize].connector,
            is_known: call.is_known,
        };
        replay.find(replicas.u32(..terms.replicas.get()), lookup);
    }
    while let Some(at) = replay.crms.next_at() {
        replay.pass(at);
    }
    replay.finish()
}

impl<'a> Replay<'a> {
    fn new(log: &CallLog, terms: &'a Terms, first: u64) -> Self {
        let mut figures = Figures::new(first);
        let connectors = terms.connectors.iter();
        figures.connectors = connectors
            .map(|connector| ConnectorFigures::new(&connector.name, &connector.quotas))
            .collect();
        Self {
            terms,
            first,
            fleet: Fleet::new(terms, log.users.len()),
            crms: Crms::new(terms, log),
            loads: Loads::default(),
            refreshing: BackgroundLimit::new(OF_A_SCOPE),
            renewing: BackgroundLimit::new(OF_A_SCOPE),
            figures,
            ends: Vec::new(),
        }
    }

    fn finish(mut self) -> Figures {
        let (memory, redis) = self.fleet.peaks();
        self.figures.evicted = memory.iter().map(|peak| peak.evicted).sum();
        self.figures.memory = memory
            .into_iter()
            .max_by_key(|peak| peak.bytes)
            .unwrap_or_default();
        self.figures.redis = redis;
        self.figures
    }

    /// Lets everything happen until then, in microseconds since the first call.
    fn pass(&mut self, until: u64) {
        while self.crms.next_at().is_some_and(|at| at <= until) {
            self.crms.happen(&mut self.figures, &mut self.ends);
            self.take_ends();
        }
        self.crms.pass(until);
    }

    /// Milliseconds since the Unix epoch.
    fn now(&self) -> u64 {
        self.first + self.crms.now() / 1000
    }

    fn connector(&self, lookup: &LoggedLookup) -> &'a PlannedConnector {
        &self.terms.connectors[usize::from(lookup.connector)]
    }

    /// A phone rings.
    fn find(&mut self, replica: u32, lookup: LoggedLookup) {
        let now = self.now();
        let known = self.fleet.known(replica, lookup.user, now);
        if let Some(credential) = known.filter(Credential::is_verified)
            && let Some(facts) = self.fleet.in_memory(replica, lookup.question, now)
        {
            self.keep_trust(replica, lookup, &credential);
            return self.serve(replica, lookup, (facts, Source::Memory));
        }
        let Some(credential) = self.fleet.credential(replica, lookup.user, now) else {
            return self.identify(replica, lookup);
        };
        let stored = self.fleet.pick(replica, lookup.question, now);
        let facts = stored.map(|(facts, _)| facts);
        match (decide(RINGS, Some(credential.trust), facts), stored) {
            (Decision::Renew, _) => self.renew(replica, lookup),
            (_, Some(stored)) => {
                self.keep_trust(replica, lookup, &credential);
                self.serve(replica, lookup, stored);
            }
            (_, None) => self.load(replica, lookup),
        }
    }

    /// Serves a stored answer under a verified credential.
    fn serve(&mut self, replica: u32, lookup: LoggedLookup, stored: (StoredFacts, Source)) {
        let (facts, source) = stored;
        match decide(RINGS, Some(Trust::Verified), Some(facts)) {
            Decision::Serve => self.end(&lookup, Ended::Stored(source, facts.freshness)),
            Decision::AwaitNews if !self.rests(replica, &lookup) => {
                let patience = self.terms.soft_deadline.min(NEWS);
                let until = self.crms.now() + micros(patience);
                let waiter = Waiter {
                    replica,
                    call: lookup,
                    shared: false,
                    purpose: Purpose::News { until, source },
                };
                self.search(waiter, (Lane::CallPop, Some(until)), false);
            }
            _ => {
                self.end(&lookup, Ended::Stored(source, facts.freshness));
                self.revalidate(replica, lookup);
            }
        }
    }

    fn rests(&self, replica: u32, lookup: &LoggedLookup) -> bool {
        let key = (replica, lookup.question);
        self.refreshing.rests(&key, Timestamp(self.now()))
    }

    /// Refreshes a stale answer in the background, unless that is done already.
    fn revalidate(&mut self, replica: u32, lookup: LoggedLookup) {
        let scope = (replica, self.crms.scope(lookup.user));
        let (key, now) = ((replica, lookup.question), Timestamp(self.now()));
        if self.refreshing.take(key, scope, now) {
            let waiter = behind(replica, lookup, Purpose::Refresh);
            self.search(waiter, (Lane::Revalidate, None), false);
        }
    }

    /// Nothing is stored: the CRM is asked.
    fn load(&mut self, replica: u32, lookup: LoggedLookup) {
        let waiter = behind(replica, lookup, Purpose::Caller);
        let deadline = Some(self.crms.now() + micros(self.terms.timeout));
        self.search(waiter, (Lane::CallPop, deadline), false);
    }

    /// The credential is unknown, and so nothing is stored for it: the CRM is searched, and asked
    /// whose it is, at the same time.
    fn identify(&mut self, replica: u32, lookup: LoggedLookup) {
        let connector = self.connector(&lookup);
        if connector.names_users && !connector.is_identity_given {
            self.who(behind(replica, lookup, Purpose::Nothing), Lane::CallPop);
        }
        self.load(replica, lookup);
    }

    /// Something is stored, but the credential was accepted too long ago.
    fn renew(&mut self, replica: u32, lookup: LoggedLookup) {
        let waiter = behind(replica, lookup, Purpose::Lapsed);
        if self.connector(&lookup).names_users {
            self.who(waiter, Lane::CallPop);
        } else {
            let deadline = Some(self.crms.now() + micros(self.terms.timeout));
            let waiter = behind(replica, lookup, Purpose::Caller);
            self.search(waiter, (Lane::CallPop, deadline), true);
        }
    }

    /// After a hit: renews trust that ends soon.
    fn keep_trust(&mut self, replica: u32, lookup: LoggedLookup, credential: &Credential) {
        let key = (replica, lookup.user);
        let scope = (replica, self.crms.scope(lookup.user));
        if !credential.due || !self.renewing.take(key, scope, Timestamp(self.now())) {
            return;
        }
        let waiter = behind(replica, lookup, Purpose::Renewal);
        if self.connector(&lookup).names_users {
            self.who(waiter, Lane::Revalidate);
        } else {
            self.search(waiter, (Lane::Revalidate, None), true);
        }
    }

    /// Searches the CRM, or joins a load that already does. A fresh answer that another replica has
    /// stored meanwhile is good enough unless it is asked for `anew`.
    fn search(&mut self, waiter: Waiter, (lane, deadline): (Lane, Option<u64>), anew: bool) {
        let lookup = waiter.call;
        let group = if self.terms.has_redis {
            0
        } else {
            waiter.replica
        };
        let key = LoadKey::Search {
            group,
            question: lookup.question,
            anew,
        };
        if self.loads.join(key, waiter) {
            return;
        }
        let now = self.now();
        let known = self.fleet.known(waiter.replica, lookup.user, now);
        if !anew && known.is_some_and(|known| known.is_verified()) {
            let stored = self.fleet.good_enough(waiter.replica, lookup.question, now);
            if let Some(source) = stored {
                return self.settle(&waiter, Outcome::Stored(source));
            }
        }
        let calls = self.connector(&lookup).calls;
        let (searches, details) = if lookup.is_known {
            (calls.found, calls.details)
        } else {
            (calls.nobody, 0)
        };
        self.begin(key, waiter, (lane, deadline), (searches, details));
    }

    /// Asks the CRM whose a credential is, or joins a load that already does.
    fn who(&mut self, waiter: Waiter, lane: Lane) {
        let (replica, user) = (waiter.replica, waiter.call.user);
        let key = LoadKey::WhoAmI { replica, user };
        if self.loads.join(key, waiter) {
            return;
        }
        let timeout = micros(self.terms.timeout);
        let deadline = (lane == Lane::CallPop).then_some(self.crms.now() + timeout);
        self.begin(key, waiter, (lane, deadline), (0, 1));
    }

    fn begin(
        &mut self,
        key: LoadKey,
        waiter: Waiter,
        (lane, deadline): (Lane, Option<u64>),
        (searches, details): (u32, u32),
    ) {
        let (lookup, asked) = (waiter.call, self.now());
        let known = self.fleet.known(waiter.replica, lookup.user, asked);
        let spender = Spender {
            connector: lookup.connector,
            replica: waiter.replica,
            user: lookup.user,
            lane,
            is_verified: known.is_some(),
            began: self.crms.now(),
            deadline,
        };
        let load = self.loads.begin(Load {
            key,
            spender,
            asked,
            is_found: lookup.is_known,
            searches,
            details,
            is_searched: false,
            open: 0,
            waiters: vec![waiter],
        });
        self.ask_more(load);
        self.take_ends();
    }

    /// Asks for the next search of a load, or for all its details.
    fn ask_more(&mut self, number: u32) {
        let Some(load) = self.loads.get(number) else {
            return;
        };
        let (kind, calls) = if load.searches > 0 {
            load.searches -= 1;
            (CallKind::Search, 1)
        } else {
            load.is_searched = true;
            (CallKind::Other, std::mem::take(&mut load.details))
        };
        load.open = calls;
        let spender = load.spender;
        for _ in 0..calls {
            self.crms
                .ask(number, (spender, kind), &mut self.figures, &mut self.ends);
        }
    }
}

fn behind(replica: u32, call: LoggedLookup, purpose: Purpose) -> Waiter {
    Waiter {
        replica,
        call,
        shared: false,
        purpose,
    }
}
