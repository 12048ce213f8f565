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
    about: "How many subscriptions and watches this replica serves at once. A further one is \
            refused with RESOURCE_EXHAUSTED and sent to another replica.",
    reason: "Each may stop reading at any time, and then keeps what it was sent last.",
    example: "limits.subscriptions = 5000",
};

pub(in crate::config) const CLIENT_SUBSCRIPTIONS: Key = Key {
    path: "limits.client_subscriptions",
    kind: MANY,
    unit: "streams",
    absent: Absent::Value("250"),
    flag: Some("client-subscriptions"),
    variable: Some("QUORUMWATCH_CLIENT_SUBSCRIPTIONS"),
    about: "How many of them may come from one address. Make it larger where many clients come \
            through one proxy.",
    reason: "One client that goes wrong leaves three quarters to the others.",
    example: "limits.client_subscriptions = 1000",
};

pub(in crate::config) const CONNECTIONS: Key = Key {
    path: "limits.connections",
    kind: MANY,
    unit: "connections",
    absent: Absent::Value("1000"),
    flag: Some("connections"),
    variable: Some("QUORUMWATCH_CONNECTIONS"),
    about: "How many connections of clients there may be at once. A further one is closed.",
    reason: "One for each subscription, for clients that do not share any.",
    example: "limits.connections = 5000",
};

pub(in crate::config) const CLIENT_CONNECTIONS: Key = Key {
    path: "limits.client_connections",
    kind: MANY,
    unit: "connections",
    absent: Absent::Value("250"),
    flag: Some("client-connections"),
    variable: Some("QUORUMWATCH_CLIENT_CONNECTIONS"),
    about: "How many of them may come from one address.",
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
    about: "How many calls may be under way on one connection. The client's library keeps further \
            ones waiting.",
    reason: "More than limits.client_subscriptions, so that who has too many of them is told so \
             and not kept waiting.",
    example: "limits.connection_streams = 1200",
};

pub(in crate::config) const UNREAD_MS: Key = Key {
    path: "limits.unread_ms",
    kind: Kind::Number(100, 240_000),
    unit: "milliseconds",
    absent: Absent::Value("30000"),
    flag: Some("unread-ms"),
    variable: Some("QUORUMWATCH_UNREAD_MS"),
    about: "How long a subscription that has ended may keep its last frames in the transport \
            unread. Then its connection is closed.",
    reason: "Long enough for a client that pauses to find out why it was ended; what the transport \
             holds is free only then.",
    example: "limits.unread_ms = 10000",
};
