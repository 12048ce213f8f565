//! Feeds from the owner of a shard: this replica itself, or a peer.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::mpsc;

use super::{Channels, Concern, relay};
use crate::{
    domain::id::ReplicaId,
    pipeline::{
        feed::{self, FEED_MESSAGES_MAX, FeedError, FeedFrom, FeedMessage},
        hub::{SourceAddress, Sources},
        owned::Owned,
    },
    proto::internal::v1::{RelayRequest, peer_service_client::PeerServiceClient, relay_request},
};

/// How long an owner may take to begin publishing a shard it has been given; the asker tries again
/// afterwards.
pub const OWNER_READY_MAX: Duration = Duration::from_secs(5);

/// Largest message of a feed: a batch of frames of large objects.
pub const RELAY_MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Finds the address of a peer's listener.
pub type AddressBook = Arc<dyn Fn(ReplicaId) -> Option<String> + Send + Sync>;

/// Feeds from here or from a peer.
#[derive(Clone)]
pub struct PeerSources {
    /// This replica.
    pub replica: ReplicaId,
    /// What it publishes itself.
    pub owned: Owned,
    /// Connections to the others.
    pub channels: Channels,
    /// Where the others are.
    pub addresses: AddressBook,
}

impl Sources for PeerSources {
    fn open(
        &self,
        address: SourceAddress,
        from: FeedFrom,
        snapshot_on_gap: bool,
    ) -> BoxFuture<'static, Result<mpsc::Receiver<FeedMessage>, FeedError>> {
        let this = self.clone();
        if address.owner == self.replica {
            async move { open_local(&this.owned, &address, from, snapshot_on_gap).await }.boxed()
        } else {
            async move { this.open_remote(address, from, snapshot_on_gap).await }.boxed()
        }
    }
}

/// A feed of a stream that this replica publishes, or is about to.
pub async fn open_local(
    owned: &Owned,
    address: &SourceAddress,
    from: FeedFrom,
    snapshot_on_gap: bool,
) -> Result<mpsc::Receiver<FeedMessage>, FeedError> {
    let stream = owned.wait_for(address.stream, address.epoch);
    let stream = tokio::time::timeout(OWNER_READY_MAX, stream)
        .await
        .map_err(|_| FeedError::NotOwner)?;
    Ok(feed::open(stream, from, snapshot_on_gap))
}

impl PeerSources {
    async fn open_remote(
        &self,
        address: SourceAddress,
        from: FeedFrom,
        snapshot_on_gap: bool,
    ) -> Result<mpsc::Receiver<FeedMessage>, FeedError> {
        let unreachable = |reason: String| FeedError::Unreachable(reason);
        let peer = (self.addresses)(address.owner)
            .ok_or_else(|| unreachable("its address is not known".into()))?;
        // A feed that takes a snapshot over a gap is for one subscriber, any other for a hub.
        let concern = if snapshot_on_gap {
            Concern::CatchUps
        } else {
            Concern::Live
        };
        let channel = self
            .channels
            .channel_for(&peer, concern)
            .map_err(|error| unreachable(error.to_string()))?;
        let mut client =
            PeerServiceClient::new(channel).max_decoding_message_size(RELAY_MESSAGE_BYTES_MAX);
        let request = RelayRequest {
            stream_id: address.stream.0,
            revision: address.revision.0,
            epoch: address.epoch.0,
            snapshot_on_gap,
            from: Some(match from {
                FeedFrom::After(position) => relay_request::From::Position(position.to_string()),
                FeedFrom::Snapshot => relay_request::From::Snapshot(true),
            }),
        };
        let mut messages = client
            .relay(request)
            .await
            .map_err(|status| unreachable(status.message().to_owned()))?
            .into_inner();
        let (sender, receiver) = mpsc::channel(FEED_MESSAGES_MAX);
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = messages.message() => message,
                    () = sender.closed() => return,
                };
                let message = match message {
                    Ok(Some(message)) => relay::from_message(message)
                        .map_err(|error| FeedError::Unreachable(error.to_string())),
                    Ok(None) => Err(FeedError::NotOwner),
                    Err(status) => Err(FeedError::Unreachable(status.message().to_owned())),
                };
                let last = message.is_err();
                if sender.send(message).await.is_err() || last {
                    return;
                }
            }
        });
        Ok(receiver)
    }
}
