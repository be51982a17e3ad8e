//! Calls to one CRM on behalf of one user, for one find.
//!
//! Holds what those calls share: the address, the credential, the user settings that the profile
//! names, and the number of running calls. A call only goes to the session's own scheme, host and
//! port. A POST is sent only if the profile declares it to be a read.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{CONTENT_TYPE, HeaderValue};
use secrecy::SecretString;
use tokio::sync::{Semaphore, SetOnce};
use url::Url;

use super::credential::{CredentialSource, RenderedCredential};
use super::crm_client::{CallLimits, CrmClient};
use super::group::Groups;
use super::http_client::HttpRequest;
use super::log_throttle::LogThrottle;
use super::part::DetailsPart;
use super::refusals::{RefusalKey, Refusals, is_for_all};
use super::request::Request;
use super::spelling_order::SpellingOrder;
use super::spent::SpentCalls;
use super::witness::{Event, Witness};
use crate::budget::Scopes;
use crate::domain::error::BadReply;
use crate::domain::user::{AdditionalInfo, Settings};
use crate::domain::{AuthHeader, Host, LookupError, ScopeTag, User};
use crate::trace::Span;
use crate::urgency::Urgency;

/// Longest URL that is called. A longer one comes from the CRM: a cursor, a link, an id.
const LONGEST_URL: usize = 8 * 1024;

/// Calls to one CRM on behalf of one user, for one find. Clones share everything.
#[derive(Clone)]
pub(crate) struct CrmSession {
    pub(super) find: Arc<Find>,
    pub(super) urgency: Arc<Urgency>,
    witness: Option<Arc<dyn Witness>>,
}

/// What all calls of one find share.
pub(super) struct Find {
    pub(super) client: CrmClient,
    pub(super) credential: RenderedCredential,
    pub(super) span: Span,
    pub(super) spent: Arc<SpentCalls>,
    /// One permit for each call that may run at once.
    pub(super) slots: Semaphore,
    /// A failure of a search that further searches would meet as well.
    pub(super) stopped: SetOnce<LookupError>,
    pub(super) base: Url,
    host: Option<Host>,
    user_id: String,
    settings: Settings,
    info: AdditionalInfo,
}

impl fmt::Debug for CrmSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CrmSession").finish_non_exhaustive()
    }
}

impl CrmSession {
    /// A session with the CRM at `base` on behalf of `user`. Its calls spend the quota of `scopes`,
    /// each with the `urgency` of that moment.
    ///
    /// # Errors
    /// [`LookupError::CrmUnauthenticated`] if the caller's input is not a valid credential for this
    /// CRM. If the CRM takes the `Authorization` header unchanged, any input is valid.
    pub(super) fn open(
        client: &CrmClient,
        base: Url,
        (user, auth): (&User, &AuthHeader),
        scopes: Scopes,
        urgency: Arc<Urgency>,
        span: Span,
    ) -> Result<Self, LookupError> {
        let profile = &client.profile;
        let credential = profile.credential.render(CredentialSource { auth, user });
        let find = Find {
            client: client.clone(),
            credential: credential.map_err(|_| LookupError::CrmUnauthenticated)?,
            span,
            spent: SpentCalls::new(Arc::clone(&client.budget), scopes),
            slots: Semaphore::new(client.limits.concurrent_calls),
            stopped: SetOnce::new(),
            base,
            host: user.host.clone(),
            user_id: user.id.clone(),
            settings: user.settings.only(&profile.inputs.settings),
            info: user.info.clone(),
        };
        Ok(Self {
            find: Arc::new(find),
            urgency,
            witness: None,
        })
    }

    /// The same session, watched by a witness.
    #[must_use]
    pub(crate) fn watched_by(self, witness: Arc<dyn Witness>) -> Self {
        Self {
            witness: Some(witness),
            ..self
        }
    }

    /// Shows something to the witness, if there is one.
    pub(super) fn show<'e>(&self, event: impl FnOnce() -> Event<'e>) {
        if let Some(witness) = &self.witness {
            witness.see(event());
        }
    }

    /// Whether requests are shown instead of sent.
    pub(super) fn is_dry(&self) -> bool {
        self.witness
            .as_ref()
            .is_some_and(|witness| witness.is_dry())
    }

    /// The user settings that the profile names.
    #[must_use]
    pub(crate) fn settings(&self) -> &Settings {
        &self.find.settings
    }

    /// The fields of `platform_additional_info` that the profile names.
    #[must_use]
    pub(super) fn info(&self) -> &AdditionalInfo {
        &self.find.info
    }

    /// The host that the user names.
    #[must_use]
    pub(super) fn host(&self) -> Option<&Host> {
        self.find.host.as_ref()
    }

    /// The caller's id of the user.
    #[must_use]
    pub(super) fn user_id(&self) -> &str {
        &self.find.user_id
    }

    /// The name of the connector in the settings.
    #[must_use]
    pub(super) fn platform(&self) -> &str {
        &self.find.client.name
    }

    /// The parts of the credential that requests may show outside of its headers.
    #[must_use]
    pub(super) fn shown_credential(&self) -> &[SecretString] {
        self.find.credential.shown()
    }

    /// A request with its address.
    ///
    /// # Errors
    /// [`BadReply::Segment`] if a path segment would not arrive unchanged: clients and servers drop
    /// empty ones, and resolve `.` and `..` however they are encoded. [`BadReply::NextLink`] if the
    /// URL is too long. [`LookupError::Internal`] for a POST that the profile does not declare.
    pub(super) fn outgoing(&self, request: &Request) -> Result<HttpRequest, LookupError> {
        if !self.find.client.profile.permits(request) {
            return Err(LookupError::Internal);
        }
        let mut headers = request.headers().clone();
        let body = request.body().map_or_else(Bytes::new, |body| {
            let media_type = HeaderValue::from_static(body.media_type());
            headers.entry(CONTENT_TYPE).or_insert(media_type);
            body.to_bytes()
        });
        Ok(HttpRequest {
            method: request.method(),
            url: self.address(request)?,
            headers,
            body,
            shown: self.witness.is_some().then(|| request.shown_path()),
        })
    }

    fn address(&self, request: &Request) -> Result<Url, LookupError> {
        let is_odd = |segment: &String| matches!(segment.as_str(), "" | "." | "..");
        if request.path().iter().any(is_odd) {
            return Err(LookupError::CrmBadReply(BadReply::Segment));
        }
        let mut url = self.find.base.clone();
        request.add_to(&mut url).ok_or(LookupError::Internal)?;
        if url.as_str().len() > LONGEST_URL {
            return Err(LookupError::CrmBadReply(BadReply::NextLink));
        }
        Ok(url)
    }

    /// A next-page link of the list that `request` asks for, if it leads to this session's host.
    /// Other links are not followed. A link is a GET with the headers of that request, also if the
    /// list was asked for by POST: no other path than a declared one gets a POST.
    ///
    /// # Errors
    /// [`BadReply::NextLink`] if it leads elsewhere.
    pub(super) fn next_page(
        &self,
        request: &Request,
        link: &str,
    ) -> Result<HttpRequest, LookupError> {
        let url = self.find.base.join(link).ok();
        let url = url
            .filter(|url| self.is_home(url) && url.as_str().len() <= LONGEST_URL)
            .ok_or(LookupError::CrmBadReply(BadReply::NextLink))?;
        Ok(HttpRequest {
            headers: request.headers().clone(),
            ..HttpRequest::get(url)
        })
    }

    /// Returns whether the credential may be sent there: same scheme, host and port, no user name.
    pub(super) fn is_home(&self, url: &Url) -> bool {
        url.origin() == self.find.base.origin()
            && url.username().is_empty()
            && url.password().is_none()
    }

    /// The key for remembering that a part of the details was refused, for this credential and
    /// address.
    pub(super) fn refusal_key(&self, part: &str, record: Option<&str>) -> RefusalKey {
        let credential = self.find.credential.bytes();
        self.refusals()
            .key((self.find.base.as_str(), credential, part, record))
    }

    pub(super) fn refusals(&self) -> &Refusals {
        &self.find.client.refusals
    }

    /// How this part was refused recently.
    pub(super) fn known_refusal(&self, part: DetailsPart<'_>) -> Option<LookupError> {
        [part.whole, part.record]
            .into_iter()
            .find_map(|refused| self.refusals().known(refused))
    }

    /// The logged failures of this connector.
    #[must_use]
    pub(crate) fn log_throttle(&self) -> &LogThrottle {
        &self.find.client.log_throttle
    }

    /// Whose quota its calls spend.
    pub(super) fn scope(&self) -> ScopeTag {
        self.find.spent.scope()
    }

    /// Which spellings found contacts so far.
    pub(super) fn spelling_order(&self) -> &SpellingOrder {
        &self.find.client.spelling_order
    }

    /// Counts which search of a look-up found contacts, from 1.
    pub(super) fn count_search_that_found(&self, search: usize) {
        self.find.client.call_metrics.found_by(search);
    }

    /// The results of searches that run in parallel, in their order. If one fails, the others still
    /// run to their end. So neither the number of calls nor the error depends on which reply comes
    /// first. There is one exception: after a failure that all of them would meet, none makes a new
    /// call.
    ///
    /// # Errors
    /// The first failure in that order.
    pub(super) async fn all<T>(
        &self,
        searches: impl IntoIterator<Item = impl Future<Output = Result<T, LookupError>>>,
    ) -> Result<Vec<T>, LookupError> {
        let searches = searches.into_iter().map(|search| async {
            let found = search.await;
            if let Some(failure) = found.as_ref().err().filter(|failure| is_for_all(failure)) {
                // Only the first such failure is kept.
                let _ = self.find.stopped.set(failure.clone());
            }
            found
        });
        join_all(searches).await.into_iter().collect()
    }

    /// The open groups of this connector's look-ups.
    pub(super) fn groups(&self) -> &Groups {
        &self.find.client.groups
    }

    /// The limits of this find.
    #[must_use]
    pub(crate) fn limits(&self) -> &CallLimits {
        &self.find.client.limits
    }

    /// HTTP calls made so far, failed ones included.
    #[must_use]
    pub(crate) fn requests(&self) -> u32 {
        self.find.spent.calls()
    }

    /// The same session, with another urgency.
    #[must_use]
    pub(crate) fn at(&self, urgency: &Arc<Urgency>) -> Self {
        Self {
            find: Arc::clone(&self.find),
            urgency: Arc::clone(urgency),
            witness: self.witness.clone(),
        }
    }

    /// The CRM has accepted the credential: reserves one call of each window of its account's quota
    /// for verified credentials, for a while.
    pub(crate) async fn prove(&self) {
        self.urgency.set_verified(true);
        self.find.spent.reserve_one().await;
    }

    /// The owner of the credential has become known: spends the owner's quota from now on. Earlier
    /// calls are counted there too; the future completes when all of them are.
    pub(crate) fn belongs_to(&self, scope: ScopeTag) -> impl Future<Output = ()> + use<> {
        self.find.spent.belongs_to(scope)
    }
}
