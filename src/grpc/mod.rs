//! tonic in, tonic out: a thin front over [`crate::api`].
//!
//! Only what is specific to gRPC: reading complete bodies, the layers around calls, health and
//! reflection, statuses.

mod admit;
mod admitted;
mod body;
mod codec;
mod context;
mod find;
mod gate;
mod health;
mod hold;
mod service;
mod side;
mod status;
mod timed;

pub use crate::api::{FindReply, WatchReply};
#[cfg(any(test, fuzzing))]
pub(crate) use body::one_message;
pub use gate::REFLECTIONS;
pub(crate) use gate::{CallGate, is_grpc};
pub(crate) use health::HEALTH_STREAMS;
pub(crate) use service::ContactRpc;

/// The generated server.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated"
)]
pub mod server {
    include!(concat!(
        env!("OUT_DIR"),
        "/server/contactd.v1.ContactService.rs"
    ));
    pub use contact_service_server::*;
}

/// The generated client.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::restriction,
    reason = "generated"
)]
pub mod client {
    include!(concat!(
        env!("OUT_DIR"),
        "/client/contactd.v1.ContactService.rs"
    ));
    pub use contact_service_client::*;
}
