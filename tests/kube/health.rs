//! The condition of clusters that cannot be watched.

use std::{fs, path::PathBuf};

use quorumwatch::proto::v1::ClusterCondition;

use crate::{control_plane::Options, kind::Kind, world::World};

const WRONG_TOKEN: &str = "not-the-token-of-anybody";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn a_cluster_that_refuses_or_is_down_says_why_and_disturbs_nobody() {
    let mut world = World::start(vec![Options::default()], &[Kind::Event], &[]).await;
    let mut subscriber = world.subscriber("a").await;
    let refused = refused_kubeconfig(&world);
    world.create("refused", &refused, &[Kind::Event]).await;
    let refusal = world
        .wait_health("refused", ClusterCondition::Unauthenticated)
        .await;
    assert!(refusal.contains("401"), "{refusal}");
    assert!(!refusal.contains(WRONG_TOKEN), "{refusal}");
    // Under another name the cluster is not watched a second time.
    let kubeconfig = world.clusters[0].control_plane.kubeconfig_path();
    world.create("again", &kubeconfig, &[Kind::Event]).await;
    let duplicate = world
        .wait_health("again", ClusterCondition::Duplicate)
        .await;
    assert!(duplicate.contains("k0"), "{duplicate}");
    world.mark(&mut subscriber, "beside").await;
    world.wait_health("k0", ClusterCondition::Connected).await;

    world.clusters[0].control_plane.kill_api_server();
    let silence = world.wait_health("k0", ClusterCondition::Unreachable).await;
    assert!(!silence.is_empty());
    let restarted = world.clusters[0].control_plane.start_api_server().await;
    restarted.unwrap();
    world.wait_health("k0", ClusterCondition::Connected).await;
    world.mark(&mut subscriber, "back").await;
    let record = subscriber.record();
    for name in ["refused", "again"] {
        let stream = (name.to_owned(), Kind::Event);
        assert_eq!(record.events(&stream), 0, "{}", record.summary());
    }
    eprintln!(
        "refused: {refusal:?}; registered twice: {duplicate:?}; down: {silence:?}; the other went \
         on, and is back"
    );
}

/// That of the cluster, with a token that it does not know.
fn refused_kubeconfig(world: &World) -> PathBuf {
    let text = fs::read(world.clusters[0].control_plane.kubeconfig_path()).unwrap();
    let mut kubeconfig: serde_json::Value = serde_json::from_slice(&text).unwrap();
    kubeconfig["users"][0]["user"]["token"] = WRONG_TOKEN.into();
    let path = world.folder.path().join("refused.kubeconfig");
    fs::write(&path, kubeconfig.to_string()).unwrap();
    path
}
