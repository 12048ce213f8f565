//! The group as it is shown.

use std::collections::BTreeMap;

use crate::{
    api::{
        convert::{duration, replica_name, timestamp},
        observed::Observation,
    },
    domain::{
        id::ReplicaId,
        member::{Availability, Member},
        state::State,
    },
    proto::v1::{self, MemberHealth, MemberRole},
    raft::{RaftStatus, Role},
};

/// The group, its members by name.
pub(super) fn group(
    state: &State,
    status: &RaftStatus,
    observation: &Observation,
    problem: String,
) -> v1::Group {
    let mut shards: BTreeMap<ReplicaId, u32> = BTreeMap::new();
    for owner in state.assignments.values().filter_map(|shard| shard.owner()) {
        let owned = shards.entry(owner).or_default();
        *owned = owned.saturating_add(1);
    }
    let members = state.members.values().map(|registered| {
        let shards = shards.get(&registered.id).copied().unwrap_or_default();
        member(registered, status, observation, shards)
    });
    let mut members: Vec<_> = members.collect();
    members.sort_by(|a, b| a.name.cmp(&b.name));
    v1::Group {
        group_id: state
            .group
            .map(|group| group.to_string())
            .unwrap_or_default(),
        leader: replica_name(state, status.leader),
        term: status.term,
        members,
        has_quorum: observation.has_quorum,
        problem,
    }
}

fn member(
    member: &Member,
    status: &RaftStatus,
    observation: &Observation,
    shards: u32,
) -> v1::Member {
    let role = match status.roles.get(&member.id) {
        _ if status.leader == Some(member.id) => MemberRole::Leader,
        Some(Role::Voter) => MemberRole::Voter,
        Some(Role::Learner) => MemberRole::Learner,
        None => MemberRole::Registered,
    };
    let observed = observation.replicas.get(&member.id);
    let health = match observed.map(|observed| observed.availability) {
        Some(Availability::Active) => MemberHealth::Active,
        Some(Availability::Suspect) => MemberHealth::Suspect,
        Some(Availability::Unavailable) => MemberHealth::Unavailable,
        None => MemberHealth::Unknown,
    };
    let silence_ms = observed.and_then(|observed| observed.silence_ms);
    let clock_offset_ms = observed.and_then(|observed| observed.clock_offset_ms);
    v1::Member {
        name: member.name.clone(),
        replica_id: member.id.to_string(),
        role: role.into(),
        peer_address: member.peer_address.clone(),
        client_address: member.client_address.clone(),
        health: health.into(),
        start_time: Some(timestamp(member.started)),
        shards,
        silence: silence_ms.map(|silence| duration(i64::try_from(silence).unwrap_or(i64::MAX))),
        version: observed.map_or_else(String::new, |observed| observed.version.clone()),
        clock_offset: clock_offset_ms.map(duration),
        draining: member.drained,
    }
}

/// Whether nothing but the passing of time makes two of them differ.
pub(super) fn is_same(one: &v1::Group, other: &v1::Group) -> bool {
    let timeless = |group: &v1::Group| {
        let mut group = group.clone();
        for member in &mut group.members {
            member.silence = None;
            member.clock_offset = None;
        }
        group
    };
    timeless(one) == timeless(other)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{MemberHealth, MemberRole, Observation, RaftStatus, Role, State, group, is_same};
    use crate::{
        api::observed::ObservedReplica,
        domain::{
            command::Command,
            id::{ReplicaId, Revision, UnixMillis},
            member::Availability,
        },
    };

    fn state() -> State {
        let mut state = State::default();
        for (id, name) in [(1, "b"), (2, "a"), (3, "c")] {
            let command = Command::RegisterMember {
                replica: ReplicaId(id),
                name: name.into(),
                peer_address: "h:1".into(),
                client_address: "h:2".into(),
                at: UnixMillis(5),
            };
            state.apply(Revision(id), &command);
        }
        state
    }

    fn status() -> RaftStatus {
        RaftStatus {
            term: 4,
            applied: Revision(3),
            purged: Revision(0),
            leader: Some(ReplicaId(1)),
            roles: BTreeMap::from([(ReplicaId(1), Role::Voter), (ReplicaId(2), Role::Learner)]),
        }
    }

    fn observation(silence_ms: u64, availability: Availability) -> Observation {
        let observed = ObservedReplica {
            availability,
            silence_ms: Some(silence_ms),
            version: "1".into(),
            clock_offset_ms: Some(-1_500),
        };
        Observation {
            replicas: [(ReplicaId(2), observed)].into(),
            has_quorum: true,
            ..Observation::default()
        }
    }

    #[test]
    fn members_are_shown_by_name_with_what_is_known() {
        let observation = observation(20, Availability::Active);
        let group = group(&state(), &status(), &observation, String::new());
        assert_eq!(group.leader, "b");
        let shown = group.members.iter().map(|member| {
            let name = member.name.as_str();
            (name, member.role(), member.health())
        });
        let expected = [
            ("a", MemberRole::Learner, MemberHealth::Active),
            ("b", MemberRole::Leader, MemberHealth::Unknown),
            ("c", MemberRole::Registered, MemberHealth::Unknown),
        ];
        assert!(shown.eq(expected), "{group:?}");
        let offset = group.members[0].clock_offset.unwrap();
        assert_eq!((offset.seconds, offset.nanos), (-1, -500_000_000));
        assert_eq!(group.members[1].silence, None);
    }

    #[test]
    fn the_passing_of_time_is_no_change() {
        let shown =
            |observation: &Observation| group(&state(), &status(), observation, String::new());
        let before = shown(&observation(20, Availability::Active));
        assert!(is_same(
            &before,
            &shown(&observation(30, Availability::Active))
        ));
        assert!(!is_same(
            &before,
            &shown(&observation(30, Availability::Suspect))
        ));
    }
}
