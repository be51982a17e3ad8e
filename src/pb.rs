//! Generated code; the only place that includes it.

/// Messages of the public interface, package `contactd.v1`.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
pub mod v1 {
    use std::fmt;

    include!(concat!(env!("OUT_DIR"), "/contactd.v1.rs"));

    impl fmt::Debug for User {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("User")
                .field("platform", &self.platform)
                .finish_non_exhaustive()
        }
    }

    impl fmt::Debug for FindContactRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("FindContactRequest")
                .field("trigger", &self.trigger())
                .finish_non_exhaustive()
        }
    }

    impl fmt::Debug for PrefetchContactsRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("PrefetchContactsRequest")
                .finish_non_exhaustive()
        }
    }
}

/// Messages stored in Redis, package `contactd.store.v1`.
#[allow(missing_docs, unreachable_pub, clippy::pedantic, reason = "generated")]
pub(crate) mod store {
    include!(concat!(env!("OUT_DIR"), "/contactd.store.v1.rs"));
}

/// Details of failures, package `google.rpc`.
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::pedantic,
    reason = "generated"
)]
pub(crate) mod rpc {
    include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
}

/// The descriptors of all protos, for reflection and for proto3 JSON.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
