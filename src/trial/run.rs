//! Runs look-ups of one connector.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use url::Url;

use super::caller::{Caller, CallerError};
use super::recorder::{Recorder, Seen};
use super::subject::Subject;
use crate::budget::{self, Budget, Quota, Quotas, Scope};
use crate::clock::SystemClock;
use crate::connector::{
    CallLimits, ConnectorConfig, CrmClient, CrmSession, Details, Dns, Found, HttpClients,
    IdentitySource, Platform, SearchPlan, search,
};
use crate::domain::error::BadReply;
use crate::domain::phone::{self, NumberError};
use crate::domain::{AuthHeader, AuthTag, E164, KeyMaker, Lane, LookupError, Party, User, WhoAmI};
use crate::metrics::Metrics;
use crate::trace::Span;
use crate::urgency::Urgency;

/// The limits of one look-up: the daemon's defaults.
const LIMITS: CallLimits = CallLimits {
    call_timeout: Duration::from_secs(5),
    reply_bytes: 4 << 20,
    pages: 5,
    contacts: 25,
    concurrent_calls: 6,
};

/// How many contacts get their details as for a ringing phone: all.
const URGENT: usize = LIMITS.contacts;

/// Who answers.
#[derive(Clone)]
pub(crate) enum OtherEnd {
    /// Nobody: requests are shown instead of sent.
    Nobody,
    /// The CRM, or what stands at this address in its place.
    Crm(Option<Url>),
    /// A server of this process, at this origin.
    Replay(Url),
}

/// A connector on behalf of a caller.
pub(crate) struct Trial {
    subject: Subject,
    caller: Caller,
    other_end: OtherEnd,
    clients: HttpClients,
}

/// What is wrong with the trial itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    #[error(transparent)]
    Caller(#[from] CallerError),
    #[error("\"{0}\": {1}")]
    Number(String, NumberError),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("{0}")]
    Lookup(LookupError),
}

impl TrialError {
    /// Whether the host that the caller names is missing or refused.
    pub(crate) fn is_about_host(&self) -> bool {
        matches!(self, Self::Caller(CallerError::Host(_)))
    }
}

/// One look-up.
pub(crate) struct LookUp {
    pub(crate) number: E164,
    pub(crate) found: Result<Found, LookupError>,
    /// Calls to the CRM.
    pub(crate) calls: u32,
    pub(crate) seen: Vec<Seen>,
}

impl LookUp {
    /// Whether the CRM returned any record, even that of somebody else.
    pub(super) fn has_records(&self) -> bool {
        let is_record = |seen: &Seen| matches!(seen, Seen::Judged(_));
        self.seen.iter().any(is_record)
    }

    /// Whether it failed because a reply has no list at the connector's path.
    pub(crate) fn lacks_list(&self) -> bool {
        matches!(
            self.found,
            Err(LookupError::CrmBadReply(BadReply::NoList(_)))
        )
    }

    /// Whether nothing was sent.
    pub(crate) fn is_dry(&self) -> bool {
        let is_dry = |seen: &Seen| matches!(seen, Seen::Call(call) if call.is_dry());
        self.seen.iter().any(is_dry)
    }
}

/// A platform and its user, with an empty memory.
struct TrialUser {
    platform: Platform,
    user: User,
    auth: AuthHeader,
    tag: AuthTag,
}

impl Trial {
    /// A trial of a connector.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub(crate) fn new(
        subject: Subject,
        caller: Caller,
        other_end: OtherEnd,
    ) -> Result<Self, TrialError> {
        phone::warm_up();
        let clients = HttpClients::new(&Dns::system());
        Ok(Self {
            subject,
            caller,
            other_end,
            clients: clients.map_err(|error| TrialError::Tls(error.to_string()))?,
        })
    }

    pub(super) fn subject(&self) -> &Subject {
        &self.subject
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The CRM's address, whoever answers there.
    ///
    /// # Errors
    /// What is missing for it.
    pub(crate) fn address(&self) -> Result<Url, TrialError> {
        let platform = self.platform(None);
        let (user, _) = self.caller.user(&platform)?;
        let profile = platform.profile();
        let address = profile.base.address(&user, &profile.hosts);
        Ok(address.map_err(CallerError::from)?)
    }

    /// Looks up one number, as for a ringing phone.
    ///
    /// # Errors
    /// If the number or the caller cannot be used. A failure of the CRM is a result.
    pub(crate) async fn look_up(&self, number: &str) -> Result<LookUp, TrialError> {
        let user = self.user()?;
        let number = self.number(number)?;
        self.look_up_as(&user, number, Lane::CallPop).await
    }

    /// Looks up many numbers as a prefetch does: in one call for several, if the connector can.
    ///
    /// # Errors
    /// As [`Self::look_up`].
    pub(crate) async fn look_up_many(&self, numbers: &[String]) -> Result<Vec<LookUp>, TrialError> {
        let user = self.user()?;
        let numbers = numbers.iter().map(|number| self.number(number));
        let numbers: Vec<E164> = numbers.collect::<Result<_, _>>()?;
        let all = numbers.into_iter();
        let all = all.map(|number| self.look_up_as(&user, number, Lane::Prefetch));
        join_all(all).await.into_iter().collect()
    }

    /// Whether the connector can ask whose a credential is.
    pub(crate) fn names_users(&self) -> bool {
        self.subject.connector.profile().names_users
    }

    /// Asks whose credential it is.
    ///
    /// # Errors
    /// If the caller cannot be used. A failure of the CRM is a result.
    pub(crate) async fn whoami(
        &self,
    ) -> Result<(Result<Option<WhoAmI>, LookupError>, Vec<Seen>), TrialError> {
        let user = self.user()?;
        let recorder = self.recorder();
        let session = user.session(Lane::CallPop, &recorder)?;
        let who = user.platform.connector().whoami(&session).await;
        Ok((who, recorder.take()))
    }

    async fn look_up_as(
        &self,
        user: &TrialUser,
        number: E164,
        lane: Lane,
    ) -> Result<LookUp, TrialError> {
        let recorder = self.recorder();
        let session = user.session(lane, &recorder)?;
        let found = self.find(user, &session, number, lane).await;
        Ok(LookUp {
            number,
            found,
            calls: session.requests(),
            seen: self.at_the_crm(recorder.take())?,
        })
    }

    async fn find(
        &self,
        user: &TrialUser,
        session: &CrmSession,
        number: E164,
        lane: Lane,
    ) -> Result<Found, LookupError> {
        let (platform, formats) = (&user.platform, &self.caller.formats);
        let keys = platform.keys();
        let prefix = keys.prefix(&platform.crm(), &user.user, formats);
        let plan = SearchPlan {
            party: Party::Number(number),
            formats,
            regions: platform.regions_for(&user.user),
            group: prefix.group(user.tag),
        };
        let connector = platform.connector();
        let found = search(connector.as_ref(), session, &plan).await?;
        let mut details = Details::begin(connector, session, found, (lane, URGENT), plan.group);
        details.load().await;
        Ok(details.found())
    }

    /// Calls to recordings, as if they had gone to the CRM.
    fn at_the_crm(&self, mut seen: Vec<Seen>) -> Result<Vec<Seen>, TrialError> {
        if matches!(self.other_end, OtherEnd::Replay(_)) {
            let crm = self.address()?;
            for seen in &mut seen {
                if let Seen::Call(call) = seen {
                    call.move_to(&crm);
                }
            }
        }
        Ok(seen)
    }

    fn number(&self, text: &str) -> Result<E164, TrialError> {
        E164::parse(text, self.caller.region)
            .map_err(|error| TrialError::Number(text.to_owned(), error))
    }

    fn recorder(&self) -> Arc<Recorder> {
        let is_dry = matches!(self.other_end, OtherEnd::Nobody);
        Arc::new(Recorder::new(is_dry))
    }

    fn user(&self) -> Result<TrialUser, TrialError> {
        let platform = self.platform(self.base_url()?);
        let (user, auth) = self.caller.user(&platform)?;
        let tag = platform.auth_tag(&user, &auth);
        Ok(TrialUser {
            platform,
            user,
            auth,
            tag,
        })
    }

    /// Where calls go, if not to the address that the connector makes.
    fn base_url(&self) -> Result<Option<Url>, TrialError> {
        Ok(match &self.other_end {
            OtherEnd::Nobody => None,
            OtherEnd::Crm(base) => base.clone(),
            OtherEnd::Replay(origin) => {
                let mut base = origin.clone();
                base.set_path(self.address()?.path());
                Some(base)
            }
        })
    }

    fn platform(&self, base_url: Option<Url>) -> Platform {
        let config = self.config(base_url);
        let metrics = Arc::new(Metrics::default());
        let budgets = budget::BudgetConfig::default();
        let budget = Budget::new(config.quotas, &budgets, &config.name, &metrics, None);
        let client = CrmClient::new(
            self.clients.egress(config.base_url.is_some()),
            LIMITS,
            Arc::new(budget),
            Arc::new(SystemClock::start()),
            &metrics,
            &config,
        );
        Platform::new(config, client, KeyMaker::new([0; 16]))
    }

    fn config(&self, base_url: Option<Url>) -> ConnectorConfig {
        let connector = Arc::clone(&self.subject.connector);
        let profile = connector.profile();
        ConnectorConfig {
            name: "trial".to_owned(),
            base_url,
            allowed_hosts: profile.hosts.clone(),
            create_option: false,
            identity: IdentitySource::Crm,
            shared_login: None,
            regions: Vec::new(),
            quotas: match self.other_end {
                OtherEnd::Crm(_) => profile.quotas,
                OtherEnd::Nobody | OtherEnd::Replay(_) => unlimited(profile.quotas),
            },
            connector,
        }
    }
}

impl TrialUser {
    fn session(&self, lane: Lane, recorder: &Arc<Recorder>) -> Result<CrmSession, TrialError> {
        let session = self.platform.session(
            &self.user,
            (&self.auth, self.tag),
            None,
            Arc::new(Urgency::new(lane, None)),
            Span::default(),
        );
        let session = session.map_err(TrialError::Lookup)?;
        Ok(session.watched_by(Arc::clone(recorder) as _))
    }
}

/// A quota that recordings never exhaust.
fn unlimited(documented: Quotas) -> Quotas {
    const SECOND: Duration = Duration::from_secs(1);
    let all = Quota::new(10_000, SECOND, 10_000, Scope::User, 1.0);
    all.map_or(documented, Quotas::from)
}
