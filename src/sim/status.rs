//! `Status` objects: an API server's errors.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};

/// Seconds after which the server asks to be tried again.
const RETRY_AFTER_SECONDS: u64 = 1;

/// A refusal, to be sent as an answer or as the last line of a watch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Status {
    code: StatusCode,
    json: Value,
}

impl Status {
    fn new(code: StatusCode, reason: &str, message: &str) -> Self {
        let json = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code.as_u16(),
        });
        Self { code, json }
    }

    /// The resource version of a watch or a list is gone.
    pub(super) fn expired(message: &str) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// A continue token has expired; `token` continues without consistency.
    pub(super) fn continue_expired(token: &str) -> Self {
        let mut status = Self::expired(
            "The provided continue parameter is too old to display a consistent list result. You \
             can start a new list without the continue parameter, or use the continue token in \
             this response to retrieve the remainder of the results. Continuing with the provided \
             token results in an inconsistent list - objects that were created, modified, or \
             deleted between the time the first chunk was returned and now may show up in the \
             list.",
        );
        status.json["metadata"] = json!({ "continue": token });
        status
    }

    /// A revision that the server has not reached.
    pub(super) fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Too large resource version: {asked}, current: {current}");
        let mut status = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", &message);
        let cause = json!({
            "reason": "ResourceVersionTooLarge",
            "message": "Too large resource version",
        });
        status.json["details"] = json!({
            "causes": [cause],
            "retryAfterSeconds": RETRY_AFTER_SECONDS,
        });
        status
    }

    pub(super) fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    /// Options that contradict each other.
    pub(super) fn invalid(message: &str) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message)
    }

    pub(super) fn not_found(message: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the simulated server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    }

    pub(super) fn unauthorised() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized")
    }

    pub(super) fn forbidden(path: &str) -> Self {
        let message = format!("forbidden: User \"system:anonymous\" cannot get path \"{path}\"");
        Self::new(StatusCode::FORBIDDEN, "Forbidden", &message)
    }

    pub(super) fn too_many_requests() -> Self {
        let message = "Too many requests, please try again later.";
        let mut status = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        status.json["details"] = json!({ "retryAfterSeconds": RETRY_AFTER_SECONDS });
        status
    }

    pub(super) fn unavailable() -> Self {
        let message = "the server is currently unable to handle the request";
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "ServiceUnavailable",
            message,
        )
    }

    /// The error of a watch when etcd reports a deletion without the object (watch trap T12).
    pub(super) fn internal_error() -> Self {
        let message = "Internal error occurred: etcd event received with PrevKv=nil";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", message)
    }

    /// The `ERROR` line of a watch.
    pub(super) fn line(&self) -> Vec<u8> {
        let mut line = json!({ "type": "ERROR", "object": self.json }).to_string();
        line.push('\n');
        line.into_bytes()
    }

    /// The answer to a request.
    pub(super) fn response(&self) -> Response {
        let mut response = json_response(self.json.to_string());
        *response.status_mut() = self.code;
        if matches!(
            self.code,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::GATEWAY_TIMEOUT
        ) {
            let seconds = HeaderValue::from(RETRY_AFTER_SECONDS);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// A successful answer in JSON.
pub(super) fn json_response(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::{Status, header};

    #[test]
    fn an_error_is_one_line_with_a_code() {
        let line = String::from_utf8(Status::expired("too old").line()).unwrap();
        assert_eq!(line.lines().count(), 1);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&value["type"], &value["object"]["code"]),
            (&"ERROR".into(), &410.into())
        );
        assert_eq!(value["object"]["reason"], "Expired");
    }

    #[test]
    fn a_client_that_is_too_fast_learns_when_to_come_back() {
        let response = Status::too_many_requests().response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
    }
}
