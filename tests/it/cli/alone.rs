//! What needs no group.

use std::{fs, net::TcpListener};

use tokio::io::AsyncWriteExt as _;

use super::Cli;
use crate::harness::{PATIENCE, eventually};

#[tokio::test]
async fn an_endpoint_where_nothing_listens_is_named() {
    let cli = Cli::alone();
    for line in [
        "status --endpoints 127.0.0.1:1",
        "events --endpoints 127.0.0.1:1,localhost:1",
        "clusters pause a --endpoints 127.0.0.1:1",
        "shards --watch --endpoints 127.0.0.1:1",
    ] {
        let ran = cli.run(line).await;
        ran.failed(1, "no replica answers");
        assert!(ran.stderr.contains("127.0.0.1:1: "), "{ran:?}");
        assert!(ran.stderr.contains("that --endpoints names"), "{ran:?}");
    }
}

#[tokio::test]
async fn an_endpoint_that_accepts_and_says_nothing_is_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("members --endpoints {}", silent.local_addr().unwrap());
    Cli::alone()
        .run(&line)
        .await
        .failed(1, "no replica answers");
}

#[tokio::test]
async fn an_endpoint_that_is_no_replica_is_reported_as_such() {
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = format!("members --endpoints {}", server.local_addr().unwrap());
    let serve = async {
        let mut connections = Vec::new();
        loop {
            let (mut connection, _) = server.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            connection.write_all(answer).await.unwrap();
            connections.push(connection);
        }
    };
    let cli = Cli::alone();
    // Whether the answer or the end of the connection is noticed first is a matter of luck.
    let asked = eventually("the answer is noticed", PATIENCE, async || {
        let ran = cli.run(&line).await;
        let said = "is not where a replica answers clients";
        (ran.code == 1 && ran.stderr.contains(said)).then_some(())
    });
    tokio::select! {
        () = serve => unreachable!("it never returns"),
        _ = asked => {}
    }
}

#[tokio::test]
async fn an_endpoint_that_cannot_be_one_is_wrong_usage() {
    let cli = Cli::alone();
    for (endpoint, said) in [
        ("https://127.0.0.1:7400", "asks for TLS"),
        ("127.0.0.1", "has no port"),
        ("http://127.0.0.1:7400/api", "is not of the form host:port"),
    ] {
        let ran = cli.run(&format!("status --endpoints {endpoint}")).await;
        ran.failed(2, said);
    }
}

#[tokio::test]
async fn an_output_that_is_not_known_names_those_that_are() {
    let cli = Cli::alone();
    let ran = cli.run("events -o xml").await;
    ran.failed(2, "possible values: table, wide, json, jsonl, yaml, cursor");
    let ran = cli.run("shards -o yaml").await;
    ran.failed(2, "possible values: table, json");
}

#[tokio::test]
async fn an_object_that_is_not_named_as_one_is_wrong_usage() {
    let ran = Cli::alone().run("events --for web-0").await;
    ran.failed(2, "use KIND/NAME, like pod/web-0");
}

#[tokio::test]
async fn contexts_are_set_chosen_listed_and_overruled() {
    let cli = Cli::alone();
    let ran = cli.run("contexts").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    assert!(ran.stderr.contains("no contexts yet"), "{ran:?}");
    for line in [
        "contexts set a --endpoints 127.0.0.1:1",
        "contexts set b --endpoints localhost:1,127.0.0.1:2",
        "contexts use b",
    ] {
        assert_eq!(cli.run(line).await.code, 0, "{line}");
    }
    let path = cli.home().join(".config/quorumwatch/config.toml");
    assert!(
        fs::read_to_string(path)
            .unwrap()
            .contains("current_context = \"b\"")
    );
    let listed: serde_json::Value =
        serde_json::from_str(&cli.run("contexts -o json").await.stdout).unwrap();
    assert_eq!(listed["currentContext"], "b");
    assert_eq!(listed["contexts"][1]["endpoints"][1], "127.0.0.1:2");
    // Who asks goes where the strongest says.
    cli.run("status").await.failed(1, "127.0.0.1:2: ");
    cli.run("status --context a")
        .await
        .failed(1, "of the context a, which --context names");
    let mut command = cli.command("status");
    command.env("QUORUMWATCH_CONTEXT", "a");
    super::ended(command)
        .await
        .failed(1, "which QUORUMWATCH_CONTEXT names");
    let mut command = cli.command("status --context b");
    command.env("QUORUMWATCH_ENDPOINTS", "127.0.0.1:3");
    super::ended(command).await.failed(1, "127.0.0.1:2: ");
    cli.run("status --context b --endpoints h:1")
        .await
        .failed(2, "cannot be used with");
}

#[tokio::test]
async fn a_context_that_is_not_there_and_a_file_that_is_none_are_wrong_usage() {
    let cli = Cli::alone();
    cli.run("status --context a")
        .await
        .failed(2, "there is no client configuration yet");
    let path = cli.home().join("client.toml");
    fs::write(&path, "[contexts.a]\nendpoints = [\"h:1\"]\n").unwrap();
    let ran = cli
        .run("status --context b --client-config client.toml")
        .await;
    ran.failed(2, "there is no context \"b\" in client.toml; it has: a");
    fs::write(&path, "[contexts.a]\nendpoint = \"h:1\"\n").unwrap();
    let ran = cli
        .run("status --context a --client-config client.toml")
        .await;
    ran.failed(2, "the client configuration client.toml cannot be read");
    assert!(ran.stderr.contains("unknown field `endpoint`"), "{ran:?}");
}

#[tokio::test]
async fn versions_completions_and_help_are_printed() {
    let cli = Cli::alone();
    let ran = cli.run("version -o json").await;
    let version: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(version["storageFormat"], 2);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = cli.run(&format!("completions {shell}")).await;
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains("cursor-file"), "{shell}");
    }
    cli.run("completions tcsh")
        .await
        .failed(2, "possible values: bash");
    let help = cli.run("--help").await;
    assert!(
        help.stdout.contains("Exit codes:") && help.code == 0,
        "{help:?}"
    );
    for command in [
        "serve",
        "demo",
        "sim",
        "events",
        "shards",
        "clusters",
        "members",
        "status",
        "contexts",
        "version",
        "completions",
    ] {
        assert!(help.stdout.contains(command), "{command}");
    }
}
