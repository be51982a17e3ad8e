//! On whose behalf a connector is tried: what a request of the service would say about the user.

use serde_json::{Map, Value};

use crate::connector::{BaseError, Platform};
use crate::domain::json::to_struct;
use crate::domain::user::{AdditionalInfo, Settings};
use crate::domain::{AuthHeader, NumberFormat, Region, User};

/// What a request would say about the user.
#[derive(Clone, Default)]
pub(crate) struct Caller {
    pub(crate) hostname: String,
    pub(crate) region: Option<Region>,
    pub(crate) formats: Vec<NumberFormat>,
    pub(crate) settings: Map<String, Value>,
    pub(crate) info: Map<String, Value>,
    /// The credential. A dry run needs none.
    pub(crate) auth_header: Option<String>,
}

/// What a request would be refused for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallerError {
    #[error("the CRM's host {0}")]
    Host(String),
    #[error("the credential is not a valid header value")]
    AuthHeader,
    #[error("{0} {1}")]
    Field(&'static str, String),
}

impl From<BaseError> for CallerError {
    fn from(error: BaseError) -> Self {
        Self::Field(error.field(), error.to_string())
    }
}

/// The user's id. Nothing depends on it.
const USER: &str = "trial";

/// Stands for the credential in a dry run.
const NO_CREDENTIAL: &str = "Bearer none";

impl Caller {
    /// The user as a request to this platform would name it, and the credential.
    ///
    /// # Errors
    /// What the request would be refused for.
    pub(super) fn user(&self, platform: &Platform) -> Result<(User, AuthHeader), CallerError> {
        let user = self.user_of(platform)?;
        let auth = self.auth_header.as_deref().unwrap_or(NO_CREDENTIAL);
        let auth = AuthHeader::parse(auth).ok_or(CallerError::AuthHeader)?;
        let sound = platform.check(&user, &auth);
        sound.map_err(|(field, reason)| CallerError::Field(field, reason))?;
        Ok((user, auth))
    }

    fn user_of(&self, platform: &Platform) -> Result<User, CallerError> {
        let host = platform.host(&self.hostname);
        let host = host.map_err(|error| CallerError::Host(error.to_string()))?;
        let info = to_struct(&self.info);
        Ok(User {
            id: USER.to_owned(),
            account: String::new(),
            host,
            region: self.region,
            settings: Settings::new(to_struct(&self.settings)),
            info: AdditionalInfo::only(&info, &platform.profile().inputs.info),
        })
    }
}
