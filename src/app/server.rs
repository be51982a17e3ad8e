//! The server for HTTP/2: its limits, the gRPC services, and HTTP beside them.

use std::time::Duration;

use axum::extract::Request;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::server::{HealthReporter, health_reporter};

use super::fronts::{Fronts, elsewhere};
use crate::grpc::server::ContactServiceServer;
use crate::grpc::{CallGate, ContactRpc};
use crate::http::HttpFront;
use crate::pb;

/// Calls in progress on one connection: more than services multiplex in practice.
const STREAMS: u32 = 256;

/// Bytes of one request's headers: a token and trace context need less than one KiB.
const HEADERS: u32 = 16 << 10;

/// Unread bytes of one request: enough for a typical request.
const STREAM_WINDOW: u32 = 64 << 10;

/// The same for all requests of one connection.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Largest reflection request: the name of a symbol or file, with some room to spare.
const REFLECTION_BYTES: usize = 16 << 10;

/// When a silent client is sent a keepalive, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// The server with HTTP/2's limits. h2 itself ends a connection whose client opens streams and
/// resets them immediately (20 that were not accepted yet), or sends header blocks or empty frames
/// without end.
pub(super) fn server(age: Duration) -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS)
        .http2_max_header_list_size(HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        // Without tonic's grace period, which would skip the GOAWAY announcement. The connection
        // ends itself after the age and `grpc.max_connection_age_grace`.
        .max_connection_age(age)
}

/// The service with health and reflection (v1, and v1alpha for older clients). Whatever is not gRPC
/// goes to `http`.
///
/// # Errors
/// If the descriptors compiled into this program cannot be read.
pub(super) async fn routes(
    service: ContactRpc,
    gate: &CallGate,
    http: HttpFront,
    watch: Duration,
) -> anyhow::Result<(HealthReporter, Routes)> {
    let (health, health_service) = health_reporter();
    health
        .set_serving::<ContactServiceServer<ContactRpc>>()
        .await;
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = builder()
        .build_v1()?
        .max_decoding_message_size(REFLECTION_BYTES);
    let v1alpha = builder()
        .build_v1alpha()?
        .max_decoding_message_size(REFLECTION_BYTES);
    let calls = gate.before_calls(ContactServiceServer::new(service));
    let routes = Routes::new(Fronts::new(calls, http.clone()))
        // A watch ends shortly before its connection would. Its client begins again.
        .add_service(gate.before_health(health_service, watch))
        .add_service(gate.before_reflection(v1))
        .add_service(gate.before_reflection(v1alpha));
    let routes = routes
        .into_axum_router()
        .fallback(move |request: Request| elsewhere(http.clone(), request));
    Ok((health, routes.into()))
}
