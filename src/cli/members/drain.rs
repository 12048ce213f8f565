//! `quorumwatch members drain`: drains a replica, and waits until it owns nothing.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    cli::{Error, attempts::Attempts, interrupt, output},
    client::{
        Client,
        watch::{GroupWatch, Update},
    },
    proto::v1::{Group, Member, WatchGroupRequest},
};

/// The shortest time between two notes about how far it is.
const NOTE_PAUSE: Duration = Duration::from_secs(1);

/// A drain in which nothing has moved for so long waits for something: longer than a replica takes to
/// open the watches of a shard.
const STUCK_AFTER: Duration = Duration::from_secs(10);

/// Drains a replica and, if asked to, waits until it owns nothing. The replica as it is then.
pub(super) async fn drain(client: &Client, name: &str, waits: bool) -> Result<Member, Error> {
    // Before the drain: Ctrl-C is to end with a word about it from then on.
    let shutdown = interrupt::token()?;
    let answer = client.drain_member(name).await?;
    let member = answer.member.unwrap_or_default();
    if !waits || member.shards == 0 {
        return Ok(member);
    }
    let mut progress = Progress::new(member, Instant::now());
    let mut attempts = Attempts::new(client.endpoints().clone());
    let request = WatchGroupRequest {
        min_revision: answer.revision,
    };
    let mut watch = GroupWatch::new(client.endpoints().clone(), request);
    loop {
        let update = tokio::select! {
            () = shutdown.cancelled() => return Err(Error::NotDrained(progress.left())),
            () = tokio::time::sleep_until(progress.stuck_at) => {
                progress.note_stuck();
                continue;
            }
            update = watch.next() => update?,
        };
        match update {
            Update::Connected(_) => attempts.serves(),
            Update::Interrupted { endpoint, why } => {
                attempts.note_failure(&endpoint, &why)?;
            }
            Update::Snapshot => {
                let group = watch.group().cloned().unwrap_or_default();
                if progress.take(&group, Instant::now())? {
                    return Ok(progress.member);
                }
            }
            Update::Change(never) => match never {},
        }
    }
}

/// What has come of it.
pub(super) fn outcome(member: &Member) -> String {
    let name = &member.name;
    match member.shards {
        0 => format!(
            "{name} is drained: it owns nothing, and takes nothing before `quorumwatch members \
             resume {name}`"
        ),
        _ => format!(
            "{name} is being drained: {} still to move",
            shards(member.shards)
        ),
    }
}

fn shards(count: u32) -> String {
    match count {
        1 => "1 shard".into(),
        count => format!("{count} shards"),
    }
}

/// How far it is.
struct Progress {
    member: Member,
    noted_at: Instant,
    /// When it is worth a word that nothing moves.
    stuck_at: Instant,
}

impl Progress {
    fn new(member: Member, now: Instant) -> Self {
        output::note(&outcome(&member));
        Self {
            member,
            noted_at: now,
            stuck_at: now + STUCK_AFTER,
        }
    }

    /// Takes in how the group is now; whether the replica owns nothing.
    fn take(&mut self, group: &Group, now: Instant) -> Result<bool, Error> {
        let name = self.member.name.clone();
        let member = group.members.iter().find(|member| member.name == name);
        let member = member.ok_or_else(|| {
            Error::NotDrained(format!("{name} was removed from the group meanwhile"))
        })?;
        if !member.draining {
            let text = format!("{name} was resumed before it was empty");
            return Err(Error::NotDrained(text));
        }
        let moved = member.shards != self.member.shards;
        self.member = member.clone();
        if moved {
            self.stuck_at = now + STUCK_AFTER;
        }
        if moved && member.shards > 0 && now >= self.noted_at + NOTE_PAUSE {
            self.noted_at = now;
            output::note(&outcome(member));
        }
        Ok(member.shards == 0)
    }

    fn note_stuck(&mut self) {
        self.stuck_at += 6 * STUCK_AFTER;
        let name = &self.member.name;
        output::note(&format!(
            "nothing has moved for {STUCK_AFTER:?}: most likely no other replica can watch what is \
             left. `quorumwatch shards --owner {name}` lists it, `quorumwatch shards move SHARD --to \
             REPLICA --validate-only` says why"
        ));
    }

    /// What is said where the waiting ends too early.
    fn left(&self) -> String {
        let Member {
            name, shards: left, ..
        } = &self.member;
        format!(
            "{name} still owns {}. The drain stays in force: they move as soon as others can watch \
             them, and it takes nothing before `quorumwatch members resume {name}`",
            shards(*left)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::{Duration, Error, Group, Instant, Member, Progress, outcome};

    fn group(draining: bool, shards: u32) -> Group {
        Group {
            members: vec![Member {
                name: "b".into(),
                draining,
                shards,
                ..Member::default()
            }],
            ..Group::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_when_nothing_is_owned_and_says_what_is_left_before() {
        let member = group(true, 2).members.remove(0);
        assert_eq!(
            outcome(&member),
            "b is being drained: 2 shards still to move"
        );
        let start = Instant::now();
        let mut progress = Progress::new(member, start);
        let later = start + Duration::from_secs(5);
        assert!(!progress.take(&group(true, 1), later).unwrap());
        assert_eq!(progress.stuck_at, later + super::STUCK_AFTER);
        assert!(
            progress
                .left()
                .starts_with("b still owns 1 shard. The drain stays")
        );
        assert!(progress.take(&group(true, 0), later).unwrap());
        assert!(outcome(&progress.member).starts_with("b is drained: it owns nothing"));
    }

    #[tokio::test(start_paused = true)]
    async fn it_fails_where_the_replica_is_resumed_or_removed() {
        let member = group(true, 2).members.remove(0);
        let mut progress = Progress::new(member, Instant::now());
        for now in [group(false, 2), Group::default()] {
            let failed = progress.take(&now, Instant::now());
            assert!(matches!(failed, Err(Error::NotDrained(_))), "{failed:?}");
        }
    }
}
