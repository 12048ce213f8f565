//! Writes of users: [`Writer`] has them committed, once each, or checks what would come of them.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tonic::{Status, metadata::MetadataMap};

use super::mask;
use crate::{
    api::{
        convert,
        observed::LeaderView,
        reads::{APPLY_TIMEOUT, Read, Reads, timeout},
        status::{
            Kind, etag_mismatch, invalid, no_leader, not_found, outcome_unknown, propose_error,
            rejected,
        },
    },
    clock::unix_now,
    domain::{
        cluster::{Cluster, ClusterSpec},
        command::{Command, Outcome, Rejection},
        id::{ClusterId, Revision},
        request::RequestId,
        state::State,
    },
    proto::v1::{DeleteClusterRequest, UpdateClusterRequest},
    raft::{self, ProposeError, Raft},
};

/// How long a write may take where its caller sets no deadline.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a write is tried that others get in the way of. Of those who try at once one succeeds
/// each time, within milliseconds, so that even a dozen that never rest let each other through.
const TRIES_MAX: usize = 64;

/// Commits commands. A cheap clone.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) raft: Raft,
    pub(super) reads: Reads,
    pub(super) leader: LeaderView,
}

/// How a write is to be done.
pub(super) struct Write {
    request_id: Option<RequestId>,
    /// Check everything, and change nothing.
    pub(super) validate_only: bool,
    deadline: Instant,
}

impl Write {
    /// Checks `request_id`. The content is the method and the request, without what may differ when
    /// the same is asked for again.
    pub(super) fn new(
        metadata: &MetadataMap,
        request_id: &str,
        content: &[u8],
        validate_only: bool,
    ) -> Result<Self, Status> {
        let max = RequestId::BYTES_MAX;
        if request_id.len() > max {
            let text = format!("has {} bytes; the maximum is {max}", request_id.len());
            return Err(invalid("request_id", text));
        }
        Ok(Self {
            request_id: RequestId::new(request_id, content),
            validate_only,
            deadline: Instant::now() + timeout(metadata, WRITE_TIMEOUT),
        })
    }

    /// The time that is left.
    fn timeout(&self) -> Duration {
        self.deadline.duration_since(Instant::now())
    }

    /// What came of it, where it was done before.
    fn remembered(&self, state: &State) -> Option<Outcome> {
        state.requests.answer(self.request_id.as_ref()?)
    }
}

/// The cluster that a write was about, in a state that has the write.
pub(super) type Written = (ClusterId, Read);

impl Writer {
    pub(super) async fn create(&self, write: &Write, spec: ClusterSpec) -> Result<Written, Status> {
        let command = create(write, spec);
        let (outcome, read) = self.commit(write, command).await?;
        written(outcome, read)
    }

    /// The fields that the mask names are replaced in the cluster as it is. Where it changes in
    /// between, that is done again, unless the caller wants to know.
    pub(super) async fn update(
        &self,
        write: &Write,
        request: UpdateClusterRequest,
    ) -> Result<Written, Status> {
        let new = request
            .cluster
            .ok_or_else(|| invalid("cluster", "is missing"))?;
        let mut read = self.reads.now();
        let mut is_caught_up = false;
        for _ in 0..TRIES_MAX {
            if let Some(outcome) = write.remembered(&read.state) {
                return written(outcome, read);
            }
            let known = read.state.cluster_named(&new.name);
            let expected = known.map(|cluster| Expected::of(cluster, &new.etag));
            let command = match (known, expected) {
                (None, _) | (_, Some(Expected::Later)) if !is_caught_up => {
                    read = self.leader.catch_up(&self.reads, write.timeout()).await?;
                    is_caught_up = true;
                    continue;
                }
                (Some(cluster), Some(Expected::This)) => {
                    let current = convert::specified(&cluster.spec);
                    let merged = mask::merge(current, new.clone(), request.update_mask.clone())?;
                    let spec = convert::cluster_spec(merged)?;
                    update(write, cluster, spec)
                }
                (Some(cluster), _) => return Err(etag_mismatch(&cluster.revision.to_string())),
                (None, _) if request.allow_missing && new.etag.is_empty() => {
                    create(write, convert::cluster_spec(new.clone())?)
                }
                (None, _) => return Err(not_found(Kind::Cluster, &new.name)),
            };
            let (outcome, after) = self.commit(write, command).await?;
            match outcome {
                Outcome::Rejected(Rejection::RevisionMismatch(_)) if new.etag.is_empty() => {}
                Outcome::Rejected(Rejection::NoSuchCluster | Rejection::NameTaken(_)) => {}
                outcome => return written(outcome, after),
            }
            read = after;
        }
        let current = read.state.cluster_named(&new.name);
        Err(current.map_or_else(
            || not_found(Kind::Cluster, &new.name),
            |cluster| etag_mismatch(&cluster.revision.to_string()),
        ))
    }

    pub(super) async fn delete(
        &self,
        write: &Write,
        request: &DeleteClusterRequest,
    ) -> Result<Read, Status> {
        let mut read = self.reads.now();
        let mut is_caught_up = false;
        for _ in 0..TRIES_MAX {
            if let Some(outcome) = write.remembered(&read.state) {
                return deleted(outcome, read);
            }
            let Some(cluster) = read.state.cluster_named(&request.name) else {
                if !is_caught_up {
                    read = self.leader.catch_up(&self.reads, write.timeout()).await?;
                    is_caught_up = true;
                    continue;
                }
                if request.allow_missing {
                    return Ok(read);
                }
                break;
            };
            let current = cluster.revision.to_string();
            let command = Command::DeleteCluster {
                id: cluster.id,
                expected: match request.etag.as_str() {
                    "" => None,
                    etag => Some(revision_of(etag).ok_or_else(|| etag_mismatch(&current))?),
                },
                request_id: write.request_id.clone(),
                at: unix_now(),
            };
            let (outcome, after) = self.commit(write, command).await?;
            // It was deleted meanwhile; another one may have its name.
            if outcome != Outcome::Rejected(Rejection::NoSuchCluster) {
                return deleted(outcome, after);
            }
            read = after;
        }
        Err(not_found(Kind::Cluster, &request.name))
    }

    /// What comes of a command, and a state that has it.
    async fn commit(&self, write: &Write, command: Command) -> Result<(Outcome, Read), Status> {
        raft::check_size(&command).map_err(|error| propose_error(&error))?;
        if write.validate_only {
            return Ok(tried(&self.reads.now(), &command));
        }
        let proposed = self.raft.submit_within(command, write.timeout()).await;
        let proposed = match proposed {
            Err(ProposeError::NoLeader) => return Err(no_leader(&self.leader.problem().await)),
            proposed => proposed.map_err(|error| propose_error(&error))?,
        };
        let revision = proposed.revision.0;
        let timeout = write.timeout().max(APPLY_TIMEOUT);
        match self.reads.at_least(revision, timeout).await {
            Ok(read) => Ok((proposed.outcome, read)),
            Err(status) if matches!(proposed.outcome, Outcome::Rejected(_)) => Err(status),
            Err(_) => Err(outcome_unknown(format!(
                "the write took effect at revision {revision}, which this replica has not applied \
                 yet: read with that min_revision elsewhere"
            ))),
        }
    }
}

/// What would come of a command now, and what would be then. The state is the group's own code, so
/// that nothing is checked that would not be, and nothing is left out.
fn tried(read: &Read, command: &Command) -> (Outcome, Read) {
    let mut state = State::clone(&read.state);
    let applied = state.apply(Revision(read.revision.0 + 1), command);
    let read = Read {
        state: Arc::new(state),
        revision: read.revision,
    };
    (applied.outcome, read)
}

fn create(write: &Write, spec: ClusterSpec) -> Command {
    Command::CreateCluster {
        spec,
        request_id: write.request_id.clone(),
        at: unix_now(),
    }
}

/// What was just read must still hold.
fn update(write: &Write, cluster: &Cluster, spec: ClusterSpec) -> Command {
    Command::UpdateCluster {
        id: cluster.id,
        expected: Some(cluster.revision),
        spec,
        request_id: write.request_id.clone(),
        at: unix_now(),
    }
}

/// How a caller's etag compares with a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// It is that of the cluster, or there is none.
    This,
    /// It may be that of the cluster as other replicas have it already.
    Later,
    /// It is that of the cluster before another change, or none at all.
    Other,
}

impl Expected {
    fn of(cluster: &Cluster, etag: &str) -> Self {
        match revision_of(etag) {
            _ if etag.is_empty() => Self::This,
            Some(revision) if revision == cluster.revision => Self::This,
            Some(revision) if revision > cluster.revision => Self::Later,
            _ => Self::Other,
        }
    }
}

/// An etag is the revision of the last change by a user.
fn revision_of(etag: &str) -> Option<Revision> {
    let revision = etag.parse().ok().map(Revision)?;
    (revision.to_string() == etag).then_some(revision)
}

fn written(outcome: Outcome, read: Read) -> Result<Written, Status> {
    match outcome {
        Outcome::Cluster(id) => Ok((id, read)),
        Outcome::Rejected(rejection) => Err(rejected(&rejection)),
        // The text was used for a deletion.
        Outcome::Done | Outcome::Era(_) => Err(rejected(&Rejection::RequestIdReused)),
    }
}

fn deleted(outcome: Outcome, read: Read) -> Result<Read, Status> {
    match outcome {
        Outcome::Rejected(rejection) => Err(rejected(&rejection)),
        _ => Ok(read),
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataMap;

    use super::{
        Expected, Outcome, Read, Rejection, Revision, State, Write, create, tried, update,
    };
    use crate::{api::convert, domain::cluster::ClusterSpec, proto::v1};

    fn write(request_id: &str) -> Write {
        Write::new(&MetadataMap::new(), request_id, b"content", false).unwrap()
    }

    fn spec(name: &str) -> ClusterSpec {
        let source = v1::cluster_source::Source::InCluster(v1::InCluster {});
        let cluster = v1::Cluster {
            name: name.into(),
            source: Some(v1::ClusterSource {
                source: Some(source),
            }),
            ..v1::Cluster::default()
        };
        convert::cluster_spec(cluster).unwrap()
    }

    fn empty() -> Read {
        Read {
            state: State::default().into(),
            revision: Revision(5),
        }
    }

    #[test]
    fn a_trial_changes_nothing_and_shows_what_would_be() {
        let before = empty();
        let (outcome, after) = tried(&before, &create(&write(""), spec("c")));
        assert!(matches!(outcome, Outcome::Cluster(_)), "{outcome:?}");
        assert!(after.state.cluster_named("c").is_some());
        assert_eq!(after.revision, before.revision);
        assert!(before.state.clusters.is_empty());
        let (outcome, _) = tried(&after, &create(&write(""), spec("c")));
        let taken = Rejection::NameTaken("c".into());
        assert_eq!(outcome, Outcome::Rejected(taken));
    }

    #[test]
    fn a_write_is_remembered_by_its_text() {
        let (outcome, after) = tried(&empty(), &create(&write("a"), spec("c")));
        assert_eq!(write("a").remembered(&after.state), Some(outcome));
        assert_eq!(write("b").remembered(&after.state), None);
        assert_eq!(write("").remembered(&after.state), None);
        let other = Write::new(&MetadataMap::new(), "a", b"other", false).unwrap();
        let reused = Outcome::Rejected(Rejection::RequestIdReused);
        assert_eq!(other.remembered(&after.state), Some(reused));
        assert!(Write::new(&MetadataMap::new(), &"x".repeat(65), b"", false).is_err());
    }

    #[test]
    fn etags_compare_with_what_this_replica_knows() {
        let (_, mut after) = tried(&empty(), &create(&write(""), spec("c")));
        after.revision = Revision(6);
        let cluster = after.state.cluster_named("c").unwrap();
        assert_eq!(cluster.revision, Revision(6));
        let cases = [
            ("", Expected::This),
            ("6", Expected::This),
            ("7", Expected::Later),
            ("5", Expected::Other),
            ("06", Expected::Other),
            ("+6", Expected::Other),
            ("x", Expected::Other),
        ];
        for (etag, expected) in cases {
            assert_eq!(Expected::of(cluster, etag), expected, "{etag:?}");
        }
        let command = update(&write(""), cluster, spec("c"));
        let (outcome, later) = tried(&after, &command);
        assert_eq!(outcome, Outcome::Cluster(cluster.id));
        let (outcome, _) = tried(&later, &command);
        assert!(matches!(
            outcome,
            Outcome::Rejected(Rejection::RevisionMismatch(_))
        ));
    }
}
