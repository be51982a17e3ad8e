//! Turns every [`ApiError`] into a gRPC status.

use prost::{Message as _, Name as _};
use prost_types::Any;
use tonic::{Code, Status};
use tonic_types::pb::{
    BadRequest, ErrorInfo, RetryInfo, Status as RpcStatus, bad_request::FieldViolation,
};

use crate::api::{ApiError, ErrorCode, Violation};
use crate::pb::v1 as pb;

impl From<ApiError> for Status {
    fn from(error: ApiError) -> Self {
        let (code, message) = (code(error.code()), error.to_string());
        let rpc = RpcStatus {
            code: code.into(),
            message: message.clone(),
            details: details(&error),
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

fn details(error: &ApiError) -> Vec<Any> {
    let details = error.details();
    let info = ErrorInfo {
        reason: details.reason.to_owned(),
        domain: details.domain.to_owned(),
        ..Default::default()
    };
    let retry = details.retry_delay.map(|delay| RetryInfo {
        retry_delay: prost_types::Duration::try_from(delay).ok(),
    });
    let mut all = vec![any("google.rpc.ErrorInfo", &info)];
    all.extend(details.violation.map(bad_request));
    all.extend(retry.map(|retry| any("google.rpc.RetryInfo", &retry)));
    all.push(any(&pb::ReturnMessage::full_name(), &details.person));
    all
}

fn bad_request(violation: &Violation) -> Any {
    let violation = FieldViolation {
        field: violation.field.clone(),
        description: violation.description.clone(),
        ..Default::default()
    };
    let request = BadRequest {
        field_violations: vec![violation],
    };
    any("google.rpc.BadRequest", &request)
}

fn any(name: &str, message: &impl prost::Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}
