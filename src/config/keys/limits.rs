//! The keys of what clients may ask for.

use super::{Absent, Key, Kind};

const MANY: Kind = Kind::Number(1, 1_000_000);

pub(in crate::config) const SUBSCRIPTIONS: Key = Key {
    path: "limits.subscriptions",
    kind: MANY,
    unit: "streams",
    absent: Absent::Value("1000"),
    flag: Some("subscriptions"),
    variable: Some("QUORUMWATCH_SUBSCRIPTIONS"),
    about: "The maximum number of subscriptions and watches that this replica serves at once. A \
            further one is rejected with RESOURCE_EXHAUSTED and continues at another replica.",
    reason: "Each may stop reading at any time, and then pins the memory of what it was sent last.",
    example: "limits.subscriptions = 5000",
};

pub(in crate::config) const CLIENT_SUBSCRIPTIONS: Key = Key {
    path: "limits.client_subscriptions",
    kind: MANY,
    unit: "streams",
    absent: Absent::Value("250"),
    flag: Some("client-subscriptions"),
    variable: Some("QUORUMWATCH_CLIENT_SUBSCRIPTIONS"),
    about: "The maximum from one address. Raise it if many clients connect through one proxy.",
    reason: "One misbehaving client leaves three quarters to the others.",
    example: "limits.client_subscriptions = 1000",
};

pub(in crate::config) const CONNECTIONS: Key = Key {
    path: "limits.connections",
    kind: MANY,
    unit: "connections",
    absent: Absent::Value("1000"),
    flag: Some("connections"),
    variable: Some("QUORUMWATCH_CONNECTIONS"),
    about: "The maximum number of client connections. A further one is closed.",
    reason: "One for each subscription, for clients that do not share connections.",
    example: "limits.connections = 5000",
};

pub(in crate::config) const CLIENT_CONNECTIONS: Key = Key {
    path: "limits.client_connections",
    kind: MANY,
    unit: "connections",
    absent: Absent::Value("250"),
    flag: Some("client-connections"),
    variable: Some("QUORUMWATCH_CLIENT_CONNECTIONS"),
    about: "The maximum from one address.",
    reason: "As for limits.client_subscriptions.",
    example: "limits.client_connections = 1000",
};

pub(in crate::config) const CONNECTION_STREAMS: Key = Key {
    path: "limits.connection_streams",
    kind: MANY,
    unit: "calls",
    absent: Absent::Value("300"),
    flag: Some("connection-streams"),
    variable: Some("QUORUMWATCH_CONNECTION_STREAMS"),
    about: "The maximum number of concurrent calls on one connection. The client's library queues \
            further ones.",
    reason: "More than limits.client_subscriptions, so that a client with too many subscriptions \
             gets an error instead of waiting.",
    example: "limits.connection_streams = 1200",
};

pub(in crate::config) const UNREAD_MS: Key = Key {
    path: "limits.unread_ms",
    kind: Kind::Number(100, 240_000),
    unit: "milliseconds",
    absent: Absent::Value("30000"),
    flag: Some("unread-ms"),
    variable: Some("QUORUMWATCH_UNREAD_MS"),
    about: "How long the last frames of an ended subscription may stay unread in the transport \
            before its connection is closed.",
    reason: "Long enough for a client that pauses to learn why its subscription ended; the \
             transport frees the memory only then.",
    example: "limits.unread_ms = 10000",
};
