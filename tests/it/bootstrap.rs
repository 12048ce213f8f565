//! How replicas become a group, and how one that does not belong is rejected.

use std::{collections::BTreeSet, time::Duration};

use quorumwatch::proto::v1::MemberRole;
use tonic::Code;

use crate::{
    failures_data::in_cluster,
    harness::{Group, Options, PATIENCE, Replica, holds},
};

/// How long a replica may take to see that it does not belong, and to end.
const REFUSAL: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_found_one_group() {
    let group = Group::start(3).await;
    let mut ids = BTreeSet::new();
    for replica in &group.replicas {
        let told = replica.client().group().await.unwrap();
        assert!(!told.group_id.is_empty());
        let names: Vec<_> = told.members.iter().map(|member| &member.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        let leads = |member: &&_| role_of(member) == MemberRole::Leader;
        let leaders: Vec<_> = told.members.iter().filter(leads).collect();
        assert_eq!(leaders.len(), 1, "{told:?}");
        assert_eq!(leaders[0].name, told.leader);
        let votes = |member: &&_| role_of(member) == MemberRole::Voter;
        assert_eq!(told.members.iter().filter(votes).count(), 2, "{told:?}");
        ids.insert(told.group_id);
    }
    assert_eq!(ids.len(), 1);
}

fn role_of(member: &quorumwatch::proto::v1::Member) -> MemberRole {
    member.role()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_alone_founds_a_group_at_once() {
    let mut group = Group::prepare(1, &Options::default()).await;
    group.launch(0);
    let client = group.replicas[0].client();
    let founded = async || client.group().await.is_ok_and(|group| group.leader == "a");
    let took = holds("it leads itself", PATIENCE, founded).await;
    eprintln!("alone and leading after {took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_wait_and_say_for_whom() {
    let mut group = Group::prepare(3, &Options::default()).await;
    group.launch(0);
    group.launch(1);
    for index in [0, 1] {
        let says = async || {
            let log = group.replicas[index].log();
            log.lines()
                .any(|line| line.contains("waiting for peers") && line.contains("{\"c\"}"))
        };
        holds("it says whom it waits for", PATIENCE, says).await;
        let told = group.replicas[index].client().group().await;
        // It answers, and does not pretend to have a leader.
        assert!(told.is_ok_and(|told| told.leader.is_empty() && told.group_id.is_empty()));
    }
    group.launch(2);
    group.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_group_is_refused() {
    let mut group = Group::prepare(2, &Options::default()).await;
    // Each founds a group of its own.
    for index in [0, 1] {
        let alone = group.replicas[index].peer_flag();
        group.replicas[index].launch(&alone);
        let client = group.replicas[index].client();
        let founded = async || {
            client
                .group()
                .await
                .is_ok_and(|told| !told.group_id.is_empty())
        };
        holds("it founds a group", PATIENCE, founded).await;
    }
    assert!(group.replicas[1].terminate(PATIENCE).await.status.success());
    group.launch(1);
    let exit = group.replicas[1].exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    assert!(exit.log.contains("data of another group"), "{}", exit.log);
    assert!(exit.log.contains("correct `peers`"), "{}", exit.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_name_is_refused() {
    let mut group = Group::start(1).await;
    let exit = group.replicas[0].terminate(PATIENCE).await;
    assert!(exit.status.success(), "{}", exit.log);
    group.replicas[0].name = "z".into();
    group.launch(0);
    let exit = group.replicas[0].exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let says = "belongs to replica \"a\", this is \"z\"";
    assert!(exit.log.contains(says), "{}", exit.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn data_in_use_is_refused() {
    let mut group = Group::start(1).await;
    let first = group.replicas.remove(0);
    let folder = first.folder.parent().unwrap();
    // The same name and directory, but other ports.
    let second = Replica::new("a", folder, "");
    group.replicas.push(second);
    group.launch(0);
    let exit = group.replicas[0].exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let says = format!(
        "in use by another process, process {}",
        first.pid().unwrap()
    );
    assert!(exit.log.contains(&says), "{}", exit.log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_its_data_is_not_taken_for_itself() {
    let mut group = Group::start(3).await;
    let victim = (group.leader().await + 1) % 3;
    group.replicas[victim].kill();
    std::fs::remove_dir_all(group.replicas[victim].data_dir()).unwrap();
    group.launch(victim);
    let exit = group.replicas[victim].exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let says = "two replicas have the same name, or this one lost its data";
    assert!(exit.log.contains(says), "{}", exit.log);
    group.whole().await;

    // Only what is dead is removed; then the name is free for a replica without data.
    let client = group.client_besides(victim);
    let name = group.replicas[victim].name.clone();
    let alive = &group.replicas[(victim + 1) % 3].name;
    let refused = client.remove(alive).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    let removed = async || client.remove(&name).await.is_ok();
    holds("the dead one is removed", PATIENCE, removed).await;
    group.launch(victim);
    group.whole().await;
    let joined = async || {
        let told = group.client().group().await;
        told.is_ok_and(|told| {
            let member = told.members.iter().find(|member| member.name == name);
            member.is_some_and(|member| role_of(member) == MemberRole::Voter)
        })
    };
    holds("the new one votes", PATIENCE, joined).await;
}

/// The Raft role of a replica, as another one that is up reports it.
async fn role_in(group: &Group, index: usize) -> Option<MemberRole> {
    let name = &group.replicas[index].name;
    let reported = group.client().group().await.ok()?;
    let member = reported.members.iter().find(|it| it.name == *name)?;
    Some(role_of(member))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sixth_replica_votes_once_one_of_five_voters_is_removed() {
    let mut group = Group::start(5).await;
    let folder = group.replicas[0].folder.parent().unwrap().to_owned();
    let sixth = group.replicas.len();
    group.replicas.push(Replica::new("f", &folder, ""));
    group.launch(sixth);
    group.whole().await;
    assert_eq!(role_in(&group, sixth).await, Some(MemberRole::Learner));
    let leader = group.leader().await;
    let voters: Vec<_> = (0..sixth).filter(|index| *index != leader).collect();
    for voter in &voters {
        assert_eq!(role_in(&group, *voter).await, Some(MemberRole::Voter));
    }

    group.replicas[voters[0]].kill();
    let client = group.replicas[leader].client();
    let name = group.replicas[voters[0]].name.clone();
    let removed = async || client.remove(&name).await.is_ok();
    holds("the dead one is removed", PATIENCE, removed).await;
    let votes = async || role_in(&group, sixth).await == Some(MemberRole::Voter);
    holds("the learner has become a voter", PATIENCE, votes).await;

    // Of five voters three are left, its own vote counted; of four it would be two.
    for voter in &voters[1..3] {
        group.replicas[*voter].kill();
    }
    let written = async || match client.create(in_cluster("x")).await {
        Ok(_) => true,
        // It was written before, and its outcome was not known then.
        Err(status) => status.code() == Code::AlreadyExists,
    };
    holds("there is a majority with its vote", PATIENCE, written).await;
}
