//! The API's messages as JSON: protobuf's own, the same as `grpcurl` prints; and words for tables.

pub(super) use crate::proto::{Json, json};

/// The lowercase word of an enum value: `MOVE_REASON_TAKEOVER` without `MOVE_REASON_`. What was never
/// said is unknown.
pub(super) fn word(name: &str, prefix: &str) -> String {
    match name.strip_prefix(prefix).unwrap_or(name) {
        "UNSPECIFIED" => "unknown".to_owned(),
        word => word.to_ascii_lowercase(),
    }
}
