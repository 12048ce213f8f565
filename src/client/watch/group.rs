//! The watch of the group.

use std::{convert::Infallible, fmt};

use super::{SILENCE_MAX, Update};
use crate::{
    client::{
        Endpoints, Error,
        failover::{Failover, Step, by_call},
    },
    proto::v1::{
        Group, WatchGroupRequest, WatchGroupResponse, watch_group_response::Update as News,
    },
};

/// A watch of the group, with a copy of it.
pub struct GroupWatch {
    request: WatchGroupRequest,
    replicas: Failover<WatchGroupRequest, WatchGroupResponse>,
    group: Option<Group>,
    answered_by: String,
    revision: u64,
}

impl GroupWatch {
    /// Nothing is sent before the first call of [`Self::next`].
    pub fn new(endpoints: Endpoints, request: WatchGroupRequest) -> Self {
        let open =
            by_call(
                |connection, request| async move { connection.group().watch_group(request).await },
            );
        Self::through(Failover::new(endpoints, SILENCE_MAX, open), request)
    }

    fn through(
        replicas: Failover<WatchGroupRequest, WatchGroupResponse>,
        request: WatchGroupRequest,
    ) -> Self {
        Self {
            request,
            replicas,
            group: None,
            answered_by: String::new(),
            revision: 0,
        }
    }

    /// The group, after everything that [`Self::next`] has returned; `None` before the first.
    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// The name of the replica whose view of the group this is.
    pub fn answered_by(&self) -> &str {
        &self.answered_by
    }

    /// The revision at which the copy holds; 0 before the first.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Waits for what comes next: each message is the whole group, so that it returns
    /// [`Update::Snapshot`] for each, and never [`Update::Change`]. It may be dropped and called
    /// again at any time.
    ///
    /// It fails where the request itself is at fault: no other replica would accept it either.
    pub async fn next(&mut self) -> Result<Update<Infallible>, Error> {
        loop {
            // Not from the last revision on: without a majority the replicas that are left may never
            // reach it, and how they are is what one wants to see then.
            match self.replicas.step(|| self.request).await? {
                Step::Connected(endpoint) => return Ok(Update::Connected(endpoint)),
                Step::Interrupted(endpoint, why) => {
                    return Ok(Update::Interrupted { endpoint, why });
                }
                Step::Message(response) => {
                    self.revision = response.revision;
                    self.answered_by = response.answered_by;
                    if let Some(News::Group(group)) = response.update {
                        self.group = Some(group);
                        return Ok(Update::Snapshot);
                    }
                }
            }
        }
    }
}

impl fmt::Debug for GroupWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupWatch")
            .field("endpoint", &self.replicas.endpoint())
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Failover, Group, GroupWatch, News, SILENCE_MAX, Update, WatchGroupRequest,
        WatchGroupResponse,
    };
    use crate::{
        client::scripted::{Scripted, Then, replicas, sends},
        proto::v1::Heartbeat,
    };

    fn message(revision: u64, answered_by: &str, update: News) -> WatchGroupResponse {
        WatchGroupResponse {
            revision,
            answered_by: answered_by.into(),
            update: Some(update),
        }
    }

    fn group(term: u64) -> News {
        News::Group(Group {
            term,
            ..Group::default()
        })
    }

    #[tokio::test(start_paused = true)]
    async fn it_shows_the_group_as_the_replica_that_answers_sees_it_even_one_that_is_behind() {
        let first = [
            message(9, "a", group(1)),
            message(9, "a", News::Heartbeat(Heartbeat::default())),
            message(9, "a", group(2)),
        ];
        let scripts = [
            sends(first, Then::Silence),
            sends([message(8, "b", group(3))], Then::Silence),
        ];
        let scripted = Scripted::new(scripts);
        let failover = Failover::new(replicas(2), SILENCE_MAX, scripted.open());
        let mut watch = GroupWatch::through(failover, WatchGroupRequest { min_revision: 4 });
        let mut seen = Vec::new();
        while seen.len() < 3 {
            if let Update::Snapshot = watch.next().await.unwrap() {
                let term = watch.group().map_or(0, |group| group.term);
                seen.push((term, watch.answered_by().to_owned(), watch.revision()));
            }
        }
        let expected = [(1, "a", 9), (2, "a", 9), (3, "b", 8)];
        assert_eq!(
            seen,
            expected.map(|(term, by, at)| (term, by.to_owned(), at))
        );
        let attempts = scripted.attempts();
        assert!(attempts.iter().all(|a| a.request.min_revision == 4));
    }
}
