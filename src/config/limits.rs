//! The limits of a configuration.

use super::{Limits, keys, value::Layer};

impl Limits {
    pub(super) fn of(layer: &Layer) -> Self {
        let number = |key| usize::try_from(layer.number(key)).unwrap_or(usize::MAX);
        let streams = layer.number(&keys::CONNECTION_STREAMS);
        Self {
            ring_bytes: number(&keys::RING_BYTES_MAX),
            slow_subscriber_ms: layer.number(&keys::SLOW_SUBSCRIBER_MS),
            unread_ms: layer.number(&keys::UNREAD_MS),
            subscriptions: number(&keys::SUBSCRIPTIONS),
            client_subscriptions: number(&keys::CLIENT_SUBSCRIPTIONS),
            connections: number(&keys::CONNECTIONS),
            client_connections: number(&keys::CLIENT_CONNECTIONS),
            connection_streams: u32::try_from(streams).unwrap_or(u32::MAX),
        }
    }
}

impl Default for Limits {
    /// The values of an empty configuration.
    fn default() -> Self {
        Self::of(&Layer::defaults())
    }
}
