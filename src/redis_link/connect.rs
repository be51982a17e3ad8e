//! How a connection to Redis is made, for each topology.
//!
//! Uses the redis crate's clients with their options. Returns one multiplexed connection, or an
//! error. Knows nothing of when to connect.

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _,
    Pipeline, RedisConnectionInfo, RedisFuture, RedisResult, TlsCertificates, TlsMode, Value,
};
use secrecy::ExposeSecret as _;

use super::url::{RedisUrl, Topology};
use super::{CaCertificates, LinkConfig};

/// Commands that may queue on the connection before their senders wait. The crate's default of 50
/// is less than one burst of call pops.
const QUEUE: usize = 1024;

/// One connection that all callers share.
#[derive(Clone)]
pub(super) enum RedisConnection {
    /// To one server.
    Single(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for RedisConnection {
    fn req_packed_command<'a>(&'a mut self, cmd: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::Single(connection) => connection.req_packed_command(cmd),
            Self::Cluster(connection) => connection.req_packed_command(cmd),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::Single(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::Single(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Makes connections.
pub(super) enum RedisConnector {
    Single(Box<Client>),
    Cluster(Box<ClusterClient>),
    Sentinel(Box<SentinelClient>),
}

impl RedisConnector {
    /// Prepares the options, without using the network.
    pub(super) fn new(config: &LinkConfig) -> RedisResult<Self> {
        // Fails only if a provider is already installed, which is just as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = &config.url;
        let roots = config.ca.as_ref().filter(|_| url.tls).map(roots);
        match &url.topology {
            Topology::Single => single(url, roots).map(|client| Self::Single(Box::new(client))),
            Topology::Cluster => {
                cluster(config, roots).map(|client| Self::Cluster(Box::new(client)))
            }
            Topology::Sentinel { .. } => {
                sentinel(url, roots).map(|client| Self::Sentinel(Box::new(client)))
            }
        }
    }

    /// A new connection. The caller limits the time, and tests the connection before use.
    pub(super) async fn connect(&mut self) -> RedisResult<RedisConnection> {
        // No limits of the crate's own here: `Link` limits each call as a whole.
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE);
        Ok(match self {
            Self::Single(client) => RedisConnection::Single(
                client
                    .get_multiplexed_async_connection_with_config(&options)
                    .await?,
            ),
            Self::Cluster(client) => RedisConnection::Cluster(client.get_async_connection().await?),
            // Asks the sentinels each time, because the master may have changed.
            Self::Sentinel(client) => {
                RedisConnection::Single(client.get_async_connection_with_config(&options).await?)
            }
        })
    }

    /// Returns whether keys are spread over several servers.
    pub(super) fn shards(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

fn roots(ca: &CaCertificates) -> TlsCertificates {
    TlsCertificates {
        client_tls: None,
        root_cert: Some(ca.pem().to_owned()),
    }
}

fn infos(url: &RedisUrl) -> RedisResult<Vec<ConnectionInfo>> {
    let mut settings = RedisConnectionInfo::default().set_db(url.database);
    if let Some(user) = &url.user {
        settings = settings.set_username(user);
    }
    if let Some(password) = &url.password {
        settings = settings.set_password(password.expose_secret());
    }
    let info = |address: &ConnectionAddr| {
        let info = address.clone().into_connection_info()?;
        Ok(info
            .set_tcp_settings(tcp_settings())
            .set_redis_settings(settings.clone()))
    };
    url.addresses.iter().map(info).collect()
}

/// Without nodelay a pipelined reply waits for the acknowledgement of the previous one: 40 ms.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

fn single(url: &RedisUrl, roots: Option<TlsCertificates>) -> RedisResult<Client> {
    let infos = infos(url)?;
    let first = infos
        .into_iter()
        .next()
        .ok_or((redis::ErrorKind::InvalidClientConfig, "no address"))?;
    match roots {
        Some(roots) => Client::build_with_tls(first, roots),
        None => Client::open(first),
    }
}

fn cluster(config: &LinkConfig, roots: Option<TlsCertificates>) -> RedisResult<ClusterClient> {
    let mut builder = ClusterClient::builder(infos(&config.url)?)
        .tcp_settings(tcp_settings())
        .connection_timeout(super::CONNECT_LIMIT)
        // Frees the crate's own bookkeeping. Callers have left by then.
        .response_timeout(config.timeout)
        .retries(1)
        .min_retry_wait(1)
        .max_retry_wait(10);
    if config.url.tls {
        builder = builder.tls(TlsMode::Secure);
    }
    if let Some(roots) = roots {
        builder = builder.certs(roots);
    }
    builder.build()
}

fn sentinel(url: &RedisUrl, roots: Option<TlsCertificates>) -> RedisResult<SentinelClient> {
    let Topology::Sentinel { master, password } = &url.topology else {
        return Err((redis::ErrorKind::InvalidClientConfig, "no sentinels").into());
    };
    let mut builder =
        SentinelClientBuilder::new(url.addresses.clone(), master, SentinelServerType::Master)?
            .set_client_to_redis_db(url.database)
            .set_client_to_redis_tcp_settings(tcp_settings());
    if let Some(user) = &url.user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = &url.password {
        builder = builder.set_client_to_redis_password(password.expose_secret());
    }
    if let Some(password) = password {
        builder = builder.set_client_to_sentinel_password(password.expose_secret());
    }
    if url.tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
    }
    if let Some(roots) = roots {
        builder = builder
            .set_client_to_redis_certificates(roots.clone())
            .set_client_to_sentinel_certificates(roots);
    }
    builder.build()
}
