//! Feeds from the owner of a shard: this replica itself, or a peer.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::codec;
use crate::{
    domain::{
        delivery::{
            feed::FeedError,
            place::{Place, Reader},
        },
        id::ReplicaId,
    },
    memory::{Allowance, Budget},
    net::{Channels, Concern},
    pipeline::{
        feed::{self, FeedMessage, messages_max},
        hub::{Feeds, OwnerAddress},
        owned::Owned,
    },
    proto::internal::v1::{RelayRequest, RelayResponse, relay_service_client::RelayServiceClient},
};

/// How long an owner may take to begin publishing a shard that was assigned to it; the requester
/// retries afterwards.
pub const OWNER_READY_TIMEOUT: Duration = Duration::from_secs(5);

/// Largest message of a feed: a batch of events of large objects.
pub const RELAY_MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Finds the address of a peer's listener.
pub type AddressBook = Arc<dyn Fn(ReplicaId) -> Option<String> + Send + Sync>;

/// Feeds from here or from a peer.
#[derive(Clone)]
pub struct PeerFeeds {
    /// This replica.
    pub replica: ReplicaId,
    /// What it publishes itself.
    pub owned: Owned,
    /// Connections to the others.
    pub channels: Channels,
    /// Where the others are.
    pub addresses: AddressBook,
    /// Memory for what feeds for subscribers bring from them.
    pub relayed: Budget,
}

impl Feeds for PeerFeeds {
    fn open(
        &self,
        address: OwnerAddress,
        place: Place,
        reader: Reader,
    ) -> BoxFuture<'static, Result<mpsc::Receiver<FeedMessage>, FeedError>> {
        let this = self.clone();
        if address.owner == self.replica {
            async move { open_local(&this.owned, &address, place, reader).await }.boxed()
        } else {
            async move { this.open_remote(address, place, reader).await }.boxed()
        }
    }
}

/// A feed of a stream that this replica publishes, or is about to.
pub async fn open_local(
    owned: &Owned,
    address: &OwnerAddress,
    place: Place,
    reader: Reader,
) -> Result<mpsc::Receiver<FeedMessage>, FeedError> {
    let stream = owned.wait_for(address.stream, address.epoch);
    let stream = tokio::time::timeout(OWNER_READY_TIMEOUT, stream)
        .await
        .map_err(|_| FeedError::NotOwner)?;
    Ok(feed::open(stream, place, reader))
}

impl PeerFeeds {
    async fn open_remote(
        &self,
        address: OwnerAddress,
        place: Place,
        reader: Reader,
    ) -> Result<mpsc::Receiver<FeedMessage>, FeedError> {
        let unreachable = |reason: String| FeedError::Unreachable(reason);
        let peer = (self.addresses)(address.owner)
            .ok_or_else(|| unreachable("its address is not known".into()))?;
        let concern = match reader {
            Reader::Subscriber => Concern::CatchUps,
            Reader::Log => Concern::Live,
        };
        let channel = self
            .channels
            .channel_for(&peer, concern)
            .map_err(|error| unreachable(error.to_string()))?;
        let mut client =
            RelayServiceClient::new(channel).max_decoding_message_size(RELAY_MESSAGE_BYTES_MAX);
        let request = RelayRequest {
            stream_id: address.stream.0,
            revision: address.revision.0,
            epoch: address.epoch.0,
            place: place.to_string(),
            for_subscriber: reader == Reader::Subscriber,
        };
        let messages = client
            .relay(request)
            .await
            .map_err(|status| unreachable(status.message().to_owned()))?
            .into_inner();
        let (sender, receiver) = mpsc::channel(messages_max(reader));
        let hold = match reader {
            // Whatever its size: what has come is in memory already.
            Reader::Subscriber => Some(Allowance::new(&self.relayed, usize::MAX)),
            // It goes into a ring at once, which is counted.
            Reader::Log => None,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = pass_on(messages, hold, &sender) => {}
                () = sender.closed() => {}
            }
        });
        Ok(receiver)
    }
}

/// Passes on what comes, up to the end of the feed.
async fn pass_on(
    mut messages: Streaming<RelayResponse>,
    hold: Option<Allowance>,
    sender: &mpsc::Sender<FeedMessage>,
) {
    loop {
        let message = match messages.message().await {
            Ok(Some(message)) => received(message, hold.as_ref()).await,
            Ok(None) => Err(FeedError::NotOwner),
            Err(status) => Err(FeedError::Unreachable(status.message().to_owned())),
        };
        let last = message.is_err();
        if sender.send(message).await.is_err() || last {
            return;
        }
    }
}

/// The items of a message, once there is memory for them. Until then nothing more is read, and the
/// owner stops reading ahead.
async fn received(mut message: RelayResponse, allowance: Option<&Allowance>) -> FeedMessage {
    if let Some(allowance) = allowance {
        let hold = allowance.take(codec::cost_bytes(&message)).await;
        codec::hold_for(&mut message, hold);
    }
    codec::from_message(message).map_err(|error| FeedError::Unreachable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Allowance, Budget, FeedMessage, RelayResponse, received};
    use crate::{
        domain::{
            delivery::item::{Item, Part, Published},
            event::{Change, Event, ObjectKey},
            id::{Epoch, Era, UnixMillis},
            position::Position,
        },
        relay::codec,
    };

    const OBJECT_BYTES: usize = 10 * 1024;

    fn message(objects: u64) -> RelayResponse {
        let item = |rv: u64| {
            let event = Event {
                change: Change::Added,
                rv: rv.into(),
                key: ObjectKey::new("ns", "n", "u"),
                object: vec![b' '; OBJECT_BYTES].into(),
                metadata_only: false,
                seen: UnixMillis(0),
            };
            let at = Position::closed(Era(1), rv.into());
            Item::Event(Arc::new(Published::new(at, Epoch(1), Part::Live, event)))
        };
        codec::to_message((0..objects).map(item).collect())
    }

    fn objects(message: &FeedMessage) -> usize {
        message.as_ref().unwrap().len()
    }

    #[tokio::test]
    async fn what_came_of_a_peer_is_counted_until_it_is_dropped_and_then_more_is_taken() {
        let budget = Budget::new("memory.test", 8 * OBJECT_BYTES);
        let allowance = Allowance::new(&budget, usize::MAX);
        let own = received(message(100), Some(&allowance)).await;
        assert_eq!((objects(&own), budget.used()), (100, 0));
        let counted = received(message(5), Some(&allowance)).await;
        assert!(budget.used() > 5 * OBJECT_BYTES, "{budget:?}");
        let third = received(message(5), Some(&allowance));
        tokio::pin!(third);
        assert!(
            futures::poll!(third.as_mut()).is_pending(),
            "there is no memory"
        );
        // One object of it is enough to hold all of it: they lie in the same bytes.
        let mut items = counted.unwrap();
        let last = items.pop();
        drop(items);
        assert!(futures::poll!(third.as_mut()).is_pending());
        drop(last);
        assert_eq!(objects(&third.await), 5);
        assert_eq!(budget.used(), 0);
        // Whatever others hold, each feed has one message.
        let _all = budget.reserve(usize::MAX).await;
        drop(own);
        assert_eq!(objects(&received(message(3), Some(&allowance)).await), 3);
    }
}
