//! The fleet's limiter: one hash in Redis for each scope, changed by scripts only.
//!
//! Owns the name of that hash and the scripts' arguments. Promises that all replicas together spend no more than the
//! quota while Redis keeps the hash, that an ask ends within the link's timeout, and that a hash which says nothing
//! any more expires. Time is Redis' own: the replicas' clocks need not agree.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::Script;

use super::hint::Rest;
use super::limiter::{Answer, Forecast, Outlook, micros};
use super::quota::Quota;
use crate::domain::ScopeTag;
use crate::domain::lane::Lane;
use crate::link::{Link, LinkError, hex};

/// How much later than its turn a call pop may come back and still find the background lanes standing aside. They
/// stand aside so long in vain only where it never comes back.
const LATENESS: Duration = Duration::from_millis(100);

/// One connector's quota, as all replicas share it.
#[derive(Clone)]
pub struct SharedQuota {
    link: Link,
    connector: String,
    scripts: Arc<Scripts>,
}

struct Scripts {
    ask: Script,
    pause: Script,
}

impl fmt::Debug for SharedQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedQuota").field("connector", &self.connector).finish_non_exhaustive()
    }
}

impl SharedQuota {
    /// The quota of the connector called `connector`, which must be called so on all replicas.
    #[must_use]
    pub fn new(link: Link, connector: &str) -> Self {
        // A hash, because a connector's name may hold what would move the key to another slot.
        let name = blake3::hash(connector.as_bytes());
        let scripts =
            Scripts { ask: Script::new(include_str!("ask.lua")), pause: Script::new(include_str!("pause.lua")) };
        Self { link, connector: hex(&name.as_bytes()[..8]), scripts: Arc::new(scripts) }
    }

    /// Spends a cell if there is one. A call pop that is denied and would wait (`patience`, `None` for however long)
    /// makes the background lanes of all replicas stand aside.
    ///
    /// # Errors
    /// [`LinkError`], within the link's timeout. The cell may have been spent all the same.
    pub(super) async fn ask(
        &self,
        quota: &Quota,
        scope: ScopeTag,
        lane: Lane,
        patience: Option<Duration>,
    ) -> Result<Answer, LinkError> {
        let (all, share) = (quota.all(), quota.background());
        let args = [
            i64::from(lane.is_background()),
            micros(all.interval),
            micros(all.tolerance()),
            micros(share.interval),
            micros(share.tolerance()),
            patience.map_or(-1, micros),
            micros(LATENESS),
        ];
        let (granted, next, share_next, rest, share_rest): (i64, i64, i64, i64, i64) =
            self.run(&self.scripts.ask, scope, &args).await?;
        let all = Forecast { next, interval: micros(all.interval) };
        let background = Forecast { next: share_next, interval: micros(share.interval) };
        let rest = Rest { all: duration(rest), background: duration(share_rest) };
        Ok(Answer { granted: granted == 1, outlook: Outlook::now(all, background), rest })
    }

    /// Lets the scope rest on all replicas. Best effort: where Redis is away, only this replica rests.
    pub(super) async fn pause(&self, scope: ScopeTag, rest: Rest) {
        let args = [micros(rest.all), micros(rest.background)];
        if let Err(error) = self.run::<i64>(&self.scripts.pause, scope, &args).await {
            tracing::debug!(%error, "the other replicas were not told to pause");
        }
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &Script,
        scope: ScopeTag,
        args: &[i64],
    ) -> Result<T, LinkError> {
        let key = self.link.key(&[&format!("{{q:{}:{}}}", self.connector, hex(&scope.to_bytes())), "q"]);
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        self.link.script(script, &[key], &args).await
    }
}

fn duration(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
