//! `quorumwatch check`, met as people meet it: a file, an exit code, and what is printed.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use quorumwatch::sim::{Fault, Fleet, FleetOptions};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Group, Replica, free_ports};

fn quorumwatch(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorumwatch"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("QUORUMWATCH_") {
            command.env_remove(name);
        }
    }
    let command = command.args(arguments).env("QUORUMWATCH_RING_BYTE", "1");
    command.stdin(Stdio::null()).output().unwrap()
}

/// Checks everything that a file names, and returns the exit code and the document.
fn connect(toml: &str, folder: &Path) -> (i32, Value) {
    let path = folder.join("quorumwatch.toml");
    fs::write(&path, toml).unwrap();
    let path = path.to_string_lossy();
    let output = quorumwatch(&["check", "--connect", "-o", "json", "--config", &path]);
    let document = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), document.unwrap())
}

/// The findings about a subject, each in one line.
fn found(document: &Value, subject: &str) -> Vec<String> {
    let findings = document["findings"].as_array().unwrap().iter();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    findings
        .filter(|finding| finding["subject"] == subject)
        .map(|finding| {
            let parts = ["check", "result", "detail", "advice"];
            parts.map(|key| text(finding, key)).join(" | ")
        })
        .collect()
}

#[track_caller]
fn expect(document: &Value, subject: &str, parts: &[&str]) {
    let found = found(document, subject);
    let has = |line: &&String| parts.iter().all(|part| line.contains(part));
    assert!(
        found.iter().any(|line| has(&line)),
        "{subject} {parts:?}: {found:#?}"
    );
}

/// A file of a replica of this name that listens on these ports.
fn file(name: &str, folder: &Path, ports: [u16; 2], more: &str) -> String {
    file_with(name, &folder.join("data"), ports, more)
}

fn file_with(name: &str, data: &Path, [client, peer]: [u16; 2], more: &str) -> String {
    format!(
        "name = '{name}'\ndata_dir = '{}'\nclient_listen = '127.0.0.1:{client}'\n\
         peer_listen = '127.0.0.1:{peer}'\n{more}",
        data.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_and_check_refuse_the_same_for_the_same_reasons() {
    let folder = TempDir::with_prefix("quorumwatch-it-").unwrap();
    let path = folder.path().join("quorumwatch.toml");
    fs::write(
        &path,
        "nmae = 'a'\n[sources.s]\nkubeconfig = 'hunter2'\ncontext = 1\n",
    )
    .unwrap();
    let path = path.to_string_lossy();
    let told = ["serve", "check"].map(|command| {
        let output = quorumwatch(&[command, "--config", &path, "--ring-bytes", "1"]);
        assert_eq!(output.status.code(), Some(2));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!told.contains("hunter2"), "{told}");
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(shown.contains("(hidden)"), command == "check", "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
        let problems = told.lines().filter(|line| line.starts_with("  - "));
        problems.map(str::to_owned).collect::<Vec<_>>()
    });
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0].len(), 3, "{told:#?}");
    assert!(
        told[0][0].contains("quorumwatch.toml:1: nmae: "),
        "{told:#?}"
    );
    assert!(told[0][2].contains("flag --ring-bytes: "), "{told:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fine_configuration_is_shown_with_its_origins() {
    let folder = TempDir::with_prefix("quorumwatch-it-").unwrap();
    let ports = free_ports();
    let (code, document) = connect(&file("a", folder.path(), ports, ""), folder.path());
    assert_eq!(code, 0, "{document:#}");
    expect(&document, "listeners", &["peer_listen | ok", "is free"]);
    expect(
        &document,
        "data",
        &["ok", "does not exist and can be created"],
    );
    expect(&document, "peer a", &["ok", "it is not running"]);
    assert!(
        !folder.path().join("data").exists(),
        "a check makes nothing"
    );
    let warning = document["warnings"][0]["message"].as_str().unwrap();
    assert!(
        warning.contains("did you mean QUORUMWATCH_RING_BYTES?"),
        "{warning}"
    );
    let keys = document["keys"].as_array().unwrap();
    let name = keys.iter().find(|row| row["key"] == "name").unwrap();
    assert!(
        name["origin"]
            .as_str()
            .unwrap()
            .ends_with("quorumwatch.toml:1"),
        "{name}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_on_this_machine_is_reported() {
    let folder = TempDir::with_prefix("quorumwatch-it-").unwrap();
    let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let [client, _] = free_ports();
    let ports = [client, stranger.local_addr().unwrap().port()];
    fs::write(folder.path().join("data"), "a file").unwrap();
    let toml = file(
        "a",
        folder.path(),
        ports,
        "advertise_peer = 'a.invalid:7401'",
    );
    let hangs_up = tokio::spawn(async move { while stranger.accept().await.is_ok() {} });
    let (code, document) = connect(&toml, folder.path());
    hangs_up.abort();
    assert_eq!(code, 1, "{document:#}");
    expect(
        &document,
        "listeners",
        &["peer_listen | FAILED", "in use by another process"],
    );
    expect(&document, "data", &["FAILED", "is not a directory"]);
    expect(&document, "peer a", &["FAILED", "cannot be resolved"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_peer_is_reached_and_distinguished_from_others() {
    let group = Group::start(1).await;
    let running: &Replica = &group.replicas[0];
    let folder = TempDir::with_prefix("quorumwatch-it-").unwrap();
    let [nobody, own] = free_ports();
    let (client, peer) = (running.client_port, running.peer_port);
    let peers = format!(
        "[peers]\na = '127.0.0.1:{peer}'\nx = 'localhost:{peer}'\nc = '127.0.0.1:{client}'\n\
         n = '127.0.0.1:{nobody}'\nz = '127.0.0.1:{own}'"
    );
    let data = running.data_dir();
    let toml = file_with("z", &data, [client, own], &peers);
    let (code, document) = connect(&toml, folder.path());
    assert_eq!(code, 1, "{document:#}");
    let id = running.client().group().await.unwrap().group_id;
    expect(
        &document,
        "peer a",
        &["ok", &format!("replica a answers, of group {id}")],
    );
    expect(
        &document,
        "peer x",
        &["FAILED", "replica \"a\" answers there"],
    );
    expect(
        &document,
        "peer c",
        &["FAILED", "the client listener of replica \"a\""],
    );
    expect(
        &document,
        "peer n",
        &["FAILED", "nothing listens there", "start that replica"],
    );
    expect(&document, "peer z", &["ok", "it is not running"]);
    expect(
        &document,
        "listeners",
        &["client_listen | FAILED", "in use by replica \"a\""],
    );
    expect(&document, "data", &["FAILED", "in use by another process"]);

    // The same machine, checked with the configuration that runs there.
    let toml = file_with("a", &data, [client, peer], "");
    let (code, document) = connect(&toml, folder.path());
    assert_eq!(code, 0, "{document:#}");
    expect(
        &document,
        "listeners",
        &["client_listen | ok", "in use by this replica"],
    );
    expect(
        &document,
        "listeners",
        &["peer_listen | ok", "in use by this replica"],
    );
    expect(&document, "data", &["ok", "in use by this replica"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cluster_is_asked_what_may_be_done_there() {
    let options = FleetOptions {
        clusters: ["good", "bad"].map(str::to_owned).to_vec(),
        ..FleetOptions::default()
    };
    let fleet = Fleet::start(options).await.unwrap();
    let folder = TempDir::with_prefix("quorumwatch-it-").unwrap();
    let bad = fleet.cluster("bad").unwrap();
    bad.faults().set(Fault::ForbidWatch);
    let source = |name: &str| {
        let kubeconfig = fleet.kubeconfig(name);
        format!("[sources.{name}]\ncontext = '{name}'\nkubeconfig = '''\n{kubeconfig}'''\n")
    };
    let clusters = format!(
        "{}{}[sources.broken]\nkubeconfig = 'hunter2'\n\
         [[clusters]]\nname = 'shop'\nsource = 'bad'\n\
         resources = ['v1/events', 'v1/podz', 'e.com/v7/widgets']\n",
        source("good"),
        source("bad"),
    );
    let toml = file("a", folder.path(), free_ports(), &clusters);
    let (code, document) = connect(&toml, folder.path());
    assert_eq!(code, 1, "{document:#}");
    expect(
        &document,
        "source good",
        &["API server | ok", "Kubernetes v1."],
    );
    expect(
        &document,
        "source good",
        &["get namespace kube-system | ok", "UID "],
    );
    expect(
        &document,
        "source good",
        &["v1/events | ok", "may list, watch"],
    );
    expect(
        &document,
        "source broken",
        &["credentials | FAILED", "is not YAML of kind Config"],
    );
    assert!(!document.to_string().contains("hunter2"), "{document:#}");
    let rule = "grant {apiGroups: [\"\"], resources: [\"events\"], verbs: [\"watch\"]}";
    expect(
        &document,
        "cluster shop",
        &["v1/events | FAILED", "may not watch", rule],
    );
    expect(
        &document,
        "cluster shop",
        &["v1/podz | FAILED", "did you mean v1/pods?"],
    );
    expect(
        &document,
        "cluster shop",
        &["FAILED", "does not serve e.com/v7"],
    );
    let manifest = document["manifests"]["cluster shop"].as_str().unwrap();
    assert!(manifest.contains("kind: ClusterRoleBinding"), "{manifest}");
    assert!(manifest.contains("name: \"simulated\""), "{manifest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_can_be_tried_before_its_cluster_is_added() {
    let options = FleetOptions {
        clusters: ["good", "bad"].map(str::to_owned).to_vec(),
        ..FleetOptions::default()
    };
    let fleet = Fleet::start(options).await.unwrap();
    let folder = TempDir::with_prefix("quorumwatch-it-").unwrap();
    fleet
        .cluster("bad")
        .unwrap()
        .faults()
        .set(Fault::Unauthorised);
    let check = |name: &str, more: &[&str]| {
        let flags = [&["--kube-context", name], more].concat();
        try_kubeconfig(folder.path(), &fleet.kubeconfig(name), &flags)
    };
    let (code, shown) = check("bad", &[]);
    assert_eq!(code, 1, "{shown}");
    assert!(
        shown.contains("FAILED") && shown.contains(" 401 "),
        "{shown}"
    );
    assert!(shown.contains("renew them"), "{shown}");
    // Another cluster's address, where nothing listens.
    let [nobody] = free_ports();
    let gone = fleet
        .kubeconfig("good")
        .replace(&fleet.address().to_string(), &format!("127.0.0.1:{nobody}"));
    let (code, shown) = try_kubeconfig(folder.path(), &gone, &["--kube-context", "good"]);
    assert_eq!(code, 1, "{shown}");
    assert!(
        shown.contains("refused") && shown.contains("What to change"),
        "{shown}"
    );
    let (code, shown) = check("good", &["--resource", "v1/pods"]);
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("v1/pods") && !shown.contains("What to change"),
        "{shown}"
    );
}

/// The exit code, and what is shown.
fn try_kubeconfig(folder: &Path, kubeconfig: &str, flags: &[&str]) -> (i32, String) {
    let path = folder.join("kubeconfig");
    fs::write(&path, kubeconfig).unwrap();
    let path = path.to_string_lossy();
    let output = quorumwatch(&[&["check", "--kubeconfig", &path], flags].concat());
    let shown = String::from_utf8(output.stdout).unwrap();
    (output.status.code().unwrap(), shown)
}
