//! Turns every [`ApiError`] into a gRPC status.

use prost::Message as _;
use tonic::{Code, Status};

use crate::api::{ApiError, ErrorCode};
use crate::pb::rpc::Status as RpcStatus;

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let (code, message) = (code(error.code()), error.to_string());
        let rpc = RpcStatus {
            code: code.into(),
            message: message.clone(),
            details: error.details(),
        };
        Self::with_details(code, message, rpc.encode_to_vec().into())
    }
}

fn code(code: ErrorCode) -> Code {
    match code {
        ErrorCode::InvalidArgument => Code::InvalidArgument,
        ErrorCode::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorCode::NotFound => Code::NotFound,
        ErrorCode::PermissionDenied => Code::PermissionDenied,
        ErrorCode::ResourceExhausted => Code::ResourceExhausted,
        ErrorCode::Aborted => Code::Aborted,
        ErrorCode::Internal => Code::Internal,
        ErrorCode::Unavailable => Code::Unavailable,
        ErrorCode::Unauthenticated => Code::Unauthenticated,
    }
}
