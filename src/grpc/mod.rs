//! tonic in, tonic out: requests are parsed into questions, answers and errors written as the
//! public contract says.

mod admit;
mod arrivals;
mod batch;
pub mod codec;
mod convert;
mod messages;
mod pages;
mod platform_replies;
mod request;
mod service;
mod status;

pub(crate) use admit::CallGate;
pub use admit::REFLECTIONS;
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
