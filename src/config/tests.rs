use std::{fs, path::Path};

use crate::{
    config::{Invalid, Peer, Serve, Settings},
    domain::cluster::Source,
};

fn settings(toml: &str) -> Settings {
    Settings::parse(toml).unwrap()
}

fn problems(toml: &str) -> Vec<String> {
    let Invalid { problems } = Serve::new(settings(toml)).unwrap_err();
    problems
}

#[test]
fn nothing_written_is_a_replica_alone_on_loopback() {
    let serve = Serve::new(settings("name = 'a'")).unwrap();
    assert_eq!(serve.client_listen.to_string(), "127.0.0.1:7400");
    assert_eq!(serve.advertise_client, "127.0.0.1:7400");
    let alone = Peer {
        name: "a".into(),
        address: "127.0.0.1:7401".into(),
    };
    assert_eq!(serve.peers, [alone]);
    assert_eq!(serve.limits.ring_bytes, 4 * 1024 * 1024);
}

#[test]
fn all_problems_are_told_at_once() {
    let found = problems(
        "name = 'a b'\nclient_listen = 'here'\n[limits]\nring_bytes = 1\n[log]\nlevel = 'loud'\n\
         [[clusters]]\nname = 'c'",
    );
    assert_eq!(found.len(), 5, "{found:#?}");
}

#[test]
fn a_listener_beyond_loopback_needs_the_flag_that_names_the_danger() {
    let open = "name = 'a'\nclient_listen = '10.0.0.1:7400'";
    let found = problems(open);
    assert!(found[0].contains("--insecure-plaintext"), "{found:?}");
    assert!(Serve::new(settings(&format!("insecure_plaintext = true\n{open}"))).is_ok());
    assert!(Serve::new(settings("name = 'a'\nclient_listen = '[::1]:7400'")).is_ok());
}

#[test]
fn an_address_that_nobody_can_connect_to_is_not_advertised() {
    let found = problems("name = 'a'\ninsecure_plaintext = true\npeer_listen = '0.0.0.0:7401'");
    assert!(found[0].contains("advertise_peer"), "{found:?}");
}

#[test]
fn the_own_peer_says_what_is_advertised() {
    let serve = Serve::new(settings(
        "name = 'b'\n[peers]\na = '127.0.0.1:7401'\nb = 'localhost:7501'",
    ))
    .unwrap();
    assert_eq!(serve.advertise_peer, "localhost:7501");
    assert_eq!(serve.peers.len(), 2);
    let found = problems("name = 'c'\n[peers]\na = '127.0.0.1:7401'");
    assert!(found[0].contains("does not name this replica"), "{found:?}");
}

#[test]
fn peers_are_named_once_and_live_in_different_places() {
    let peer = |text: &str| text.parse::<Peer>().unwrap();
    let written = Settings {
        name: Some("a".into()),
        peers: Some(vec![peer("a=h:1"), peer("b=h:1"), peer("b=h:2")]),
        ..Settings::default()
    };
    let Invalid { problems } = Serve::new(written).unwrap_err();
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn flags_go_over_the_file() {
    let flags = Settings {
        name: Some("flag".into()),
        ..Settings::default()
    };
    let file = settings("name = 'file'\ndata_dir = '/data'");
    let serve = Serve::new(flags.over(file)).unwrap();
    assert_eq!(serve.name, "flag");
    assert_eq!(serve.data_dir, Path::new("/data"));
}

#[test]
fn a_secret_is_in_no_print_and_no_error() {
    let toml = "name = 'a'\n[sources.prod]\nkubeconfig = 'hunter2'\n";
    let serve = Serve::new(settings(toml)).unwrap();
    assert_eq!(serve.sources["prod"].kubeconfig.expose(), "hunter2");
    assert!(!format!("{serve:?}").contains("hunter2"));
    let (line, message) = Settings::parse("[sources.prod]\nkubeconfig = 'hunter2' x").unwrap_err();
    assert_eq!(line, 2);
    assert!(!message.contains("hunter2"), "{message}");
}

#[test]
fn what_does_not_exist_is_refused() {
    for toml in [
        "nmae = 'a'",
        "[limits]\nring = 1",
        "[sources.a]\nkubeconfig = ''\nfile = ''",
        "[[clusters]]\nurl = ''",
        "[[clusters]]\nresources = [{ resource = 'v1/pods', namespace = 'a' }]",
    ] {
        assert!(Settings::parse(toml).is_err(), "{toml}");
    }
}

#[test]
fn clusters_to_create_are_checked_like_those_of_the_api() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    fs::write(&path, "").unwrap();
    let (dir, file) = (folder.path().display(), path.display());
    let good = format!(
        "name = 'a'\nkubeconfig_dirs = ['{dir}']\n[sources.s]\nkubeconfig = ''\n\
         [[clusters]]\nname = 'c1'\nkubeconfig = '{file}'\ncontext = 'x'\n\
         resources = ['v1/pods', {{ resource = 'v1/secrets', namespaces = ['n', 'm'] }}]\n\
         [[clusters]]\nname = 'c2'\nsource = 's'\n[[clusters]]\nname = 'c3'\nin_cluster = true"
    );
    let serve = Serve::new(settings(&good)).unwrap();
    assert_eq!(serve.clusters.len(), 3);
    assert_eq!(serve.clusters[0].selectors.len(), 3);
    assert_eq!(
        serve.clusters[1].source,
        Source::Configured { name: "s".into() }
    );
    let elsewhere = "name = 'a'\n[[clusters]]\nname = 'c'\nkubeconfig = '/etc/passwd'";
    assert!(problems(elsewhere)[0].contains("kubeconfig_dirs"));
    let twice = "name = 'a'\n[[clusters]]\nname = 'c'\nin_cluster = true\n\
                 [[clusters]]\nname = 'c'\nsource = 'none'";
    assert_eq!(problems(twice).len(), 2);
}
