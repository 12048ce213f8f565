//! An open connection to one replica.

use tonic::transport::Channel;

use crate::proto::v1::{
    cluster_service_client::ClusterServiceClient, event_service_client::EventServiceClient,
    group_service_client::GroupServiceClient, shard_service_client::ShardServiceClient,
};

/// The largest message that is accepted: above the largest object that etcd stores and the largest
/// page that a replica sends. The library's own limit of 4 MiB is below both.
pub const MESSAGE_BYTES_MAX: usize = 32 * 1024 * 1024;

/// An open connection to one replica. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connection(Channel);

impl Connection {
    pub(super) fn new(channel: Channel) -> Self {
        Self(channel)
    }

    /// The channel itself, for services that have no method here.
    pub fn channel(&self) -> Channel {
        self.0.clone()
    }

    /// A client of `EventService`.
    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A client of `ShardService`.
    pub fn shards(&self) -> ShardServiceClient<Channel> {
        ShardServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// A client of `ClusterService`.
    pub fn clusters(&self) -> ClusterServiceClient<Channel> {
        ClusterServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// The group and its members.
    pub fn group(&self) -> GroupServiceClient<Channel> {
        GroupServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}
