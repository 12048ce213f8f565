use std::{env, ffi::OsString, fs, os::unix::ffi::OsStringExt as _, path::Path};

use super::{Absent, Environment, Given, KEYS, Key, Loaded, Origin, Peer, Serve, load, reference};

mod tables;

/// The file of every test.
const FILE: &str = "quorumwatch.toml";
/// Set it to write the reference instead of comparing it.
const WRITE: &str = "QUORUMWATCH_TEST_WRITE_REFERENCE";

/// The three places.
#[derive(Default)]
struct Written<'a> {
    file: Option<&'a [u8]>,
    environment: &'a [(&'a str, &'a str)],
    flags: &'a [(&'a str, &'a str)],
}

fn key(path: &str) -> &'static Key {
    let found = KEYS.iter().find(|key| key.path == path);
    found.expect("a key of the table")
}

fn read(written: &Written<'_>) -> Loaded {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    let file = written.file.map(|text| {
        fs::write(&path, text).unwrap();
        path.clone()
    });
    let flag = |(path, value): &(&str, &str)| (key(path), vec![OsString::from(*value)]);
    let pair = |(name, value): &(&str, &str)| (name.into(), value.into());
    load(&Given {
        file,
        environment: Environment {
            variables: written.environment.iter().map(pair).collect(),
            others: Vec::new(),
        },
        flags: written.flags.iter().map(flag).collect(),
    })
}

fn file(toml: &str) -> Loaded {
    read(&Written {
        file: Some(toml.as_bytes()),
        ..Written::default()
    })
}

fn serve(toml: &str) -> Serve {
    file(toml).serve.unwrap()
}

/// Every problem as it is printed, without the directory of the test.
fn told(loaded: Loaded) -> Vec<String> {
    let problems = loaded.serve.unwrap_err().problems.into_iter();
    let short = |text: String| match text.find(FILE) {
        Some(at) if text.starts_with('/') => text[at..].to_owned(),
        _ => text,
    };
    problems.map(|problem| short(problem.to_string())).collect()
}

fn problems(toml: &str) -> Vec<String> {
    told(file(toml))
}

/// One problem that begins like this and contains that.
#[track_caller]
fn expect_one(found: &[String], begins: &str, contains: &str) {
    assert_eq!(found.len(), 1, "{found:#?}");
    assert!(found[0].starts_with(begins), "{found:#?}");
    assert!(found[0].contains(contains), "{found:#?}");
}

#[test]
fn nothing_written_is_a_replica_alone_on_loopback() {
    let serve = serve("name = 'a'");
    assert_eq!(serve.client_listen.to_string(), "127.0.0.1:7400");
    assert_eq!(serve.advertise_client, "127.0.0.1:7400");
    let alone = Peer {
        name: "a".into(),
        address: "127.0.0.1:7401".into(),
    };
    assert_eq!(serve.peers, [alone]);
    assert_eq!(serve.limits.ring_bytes, 4 * 1024 * 1024);
    assert_eq!(serve.data_dir, Path::new("quorumwatch-data"));
    assert!(read(&Written::default()).serve.is_ok());
}

#[test]
fn a_flag_goes_over_the_environment_and_that_over_the_file() {
    let toml = b"name = 'file'\ndata_dir = '/file'\nallow_exec = ['a', 'b']\n[log]\nlevel = 'warn'";
    let loaded = read(&Written {
        file: Some(toml),
        environment: &[
            ("QUORUMWATCH_NAME", "variable"),
            ("QUORUMWATCH_LOG_LEVEL", "error"),
        ],
        flags: &[("name", "flag"), ("allow_exec", "c")],
    });
    let origin = |key: &str| {
        let row = loaded.in_force.iter().find(|row| row.key == key).unwrap();
        (row.value.clone(), row.origin.to_string())
    };
    assert_eq!(origin("name"), ("\"flag\"".into(), "flag --name".into()));
    assert_eq!(origin("allow_exec").0, "[\"c\"]", "lists are replaced");
    assert_eq!(origin("log.level").1, "environment QUORUMWATCH_LOG_LEVEL");
    assert!(origin("data_dir").1.ends_with("quorumwatch.toml:2"));
    assert_eq!(origin("log.format").1, "default");
    assert_eq!(origin("advertise_client").1, "client_listen");
    let serve = loaded.serve.unwrap();
    assert_eq!(
        (serve.name.as_str(), serve.log.level.as_str()),
        ("flag", "error")
    );
    assert_eq!(serve.allow_exec, ["c"]);
}

#[test]
fn every_key_of_the_table_changes_the_configuration_from_each_of_its_places() {
    let base = ("name", "quorumwatch-0");
    let plain = format!(
        "{:?}",
        read(&Written {
            flags: &[base],
            ..Written::default()
        })
        .serve
    );
    for key in KEYS.iter().filter(|key| key.flag.is_some()) {
        let value = key.example.split_once(" = ").unwrap().1;
        let from_file = file(&format!("{}\n", key.example));
        // What a variable says is what stands in TOML, without its quotes and brackets.
        let bare = value.trim_matches(['"', '[', ']', '{', '}', ' ']);
        let bare = bare.replace(" = ", "=").replace('"', "");
        let needed = [("name", "quorumwatch-0")];
        let variables = [
            ("QUORUMWATCH_NAME", "quorumwatch-0"),
            (key.variable.unwrap(), &bare),
        ];
        let from_variable = read(&Written {
            environment: &variables,
            ..Written::default()
        });
        let flags = [needed[0], (key.path, &bare)];
        let from_flag = read(&Written {
            flags: &flags,
            ..Written::default()
        });
        for (place, loaded) in [("variable", from_variable), ("flag", from_flag)] {
            let serve = format!("{:?}", Ok::<_, super::Invalid>(loaded.serve.unwrap()));
            // The address that is given is the default's.
            let same = ["name", "peers"].contains(&key.path);
            assert!(same || serve != plain, "{place} of {}", key.path);
        }
        let row = from_file
            .in_force
            .iter()
            .find(|row| row.key == key.path)
            .unwrap();
        assert!(matches!(row.origin, Origin::File(_, 1)), "{row:?}");
        assert!(!row.value.is_empty(), "{row:?}");
    }
}

#[test]
fn every_default_of_the_table_keeps_its_own_rules() {
    let loaded = read(&Written::default());
    for key in KEYS.iter().filter(|key| key.flag.is_some()) {
        let row = loaded
            .in_force
            .iter()
            .find(|row| row.key == key.path)
            .unwrap();
        match key.absent {
            Absent::Value(value) => assert_eq!(row.value.trim_matches('"'), value, "{row:?}"),
            Absent::Derived(_) => assert!(matches!(row.origin, Origin::Derived(_)), "{row:?}"),
            Absent::Nothing => assert_eq!(row.value, "[]", "{row:?}"),
            Absent::Required => panic!("a key with a flag is never required: {row:?}"),
        }
    }
}

#[test]
fn the_reference_is_that_of_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/docs/configuration.md");
    let wanted = reference::reference();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == wanted,
        "src/docs/configuration.md is not that of the table of keys; write it with\n  \
         {WRITE}=1 cargo test --lib the_reference_is_that_of_the_table"
    );
}

#[test]
fn all_problems_are_reported_at_once_each_with_its_place() {
    let toml = b"name = 'a b'\nclient_listen = 'here'\nnmae = 'x'\n[limits]\nring_bytes = 1\n\
                 [log]\nlevel = 3\nformat = 'loud'\n[[clusters]]\nname = 'c'\n";
    let found = told(read(&Written {
        file: Some(toml),
        environment: &[("QUORUMWATCH_RING_BYTES", "many")],
        flags: &[("peers", "a"), ("limits.slow_subscriber_ms", "1")],
    }));
    let places: Vec<_> = found
        .iter()
        .map(|text| text.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "quorumwatch.toml:1",
            "quorumwatch.toml:2",
            "quorumwatch.toml:3",
            "quorumwatch.toml:5",
            "quorumwatch.toml:7",
            "quorumwatch.toml:8",
            "quorumwatch.toml:9",
            "environment QUORUMWATCH_RING_BYTES",
            "flag --peers",
            "flag --slow-subscriber-ms",
        ],
        "{found:#?}"
    );
}

#[test]
fn malformed_toml_is_reported_with_its_line() {
    for toml in [
        "name = 'a'\nname 'b'",
        "[limits]\nring_bytes = ",
        "name = 'a'\npeers = { a = 'h:1'",
        "[limits\n",
    ] {
        let found = problems(toml);
        expect_one(&found, "quorumwatch.toml:", ": this is not TOML: ");
    }
}

#[test]
fn an_unknown_key_is_reported_with_the_nearest_name() {
    for (toml, begins, meant) in [
        (
            "nmae = 'a'",
            "quorumwatch.toml:1: nmae: ",
            "did you mean name?",
        ),
        (
            "\nclient-listen = 'a'",
            "quorumwatch.toml:2: client-listen: ",
            "client_listen?",
        ),
        (
            "[limits]\nring_byte = 1",
            "quorumwatch.toml:2: limits.ring_byte: ",
            "limits.ring_bytes?",
        ),
        (
            "ring_bytes = 1",
            "quorumwatch.toml:1: ring_bytes: ",
            "limits.ring_bytes?",
        ),
        (
            "[limit]",
            "quorumwatch.toml:1: limit: ",
            "did you mean limits?",
        ),
        (
            "[log]\nlevle = 'info'",
            "quorumwatch.toml:2: log.levle: ",
            "log.level?",
        ),
        (
            "[sources.p]\nkubeconfig = ''\ncontxt = ''",
            "quorumwatch.toml:3: sources.p.contxt: ",
            "sources.p.context?",
        ),
        (
            "[[clusters]]\nname = 'c'\nin_cluster = true\nurl = ''",
            "quorumwatch.toml:4: clusters[c].url: ",
            "known keys are name, labels, description, duplicate_of, kubeconfig",
        ),
        (
            "[[clusters]]\nname = 'c'\nin_cluster = true\n\
             resources = [{ resource = 'v1/pods', namespace = 'a' }]",
            "quorumwatch.toml:4: clusters[c].resources[v1/pods].namespace: ",
            "namespaces?",
        ),
    ] {
        let found = problems(toml);
        expect_one(&found, begins, "unknown key");
        expect_one(&found, begins, meant);
    }
}

#[test]
fn a_value_of_the_wrong_kind_is_reported_and_not_repeated() {
    for (toml, begins) in [
        ("name = 1", "quorumwatch.toml:1: name: must be a string"),
        (
            "peers = ['a=h:1']",
            "quorumwatch.toml:1: peers: must be a table",
        ),
        (
            "[peers]\na = 1",
            "quorumwatch.toml:2: peers.a: must be a string",
        ),
        ("limits = 1", "quorumwatch.toml:1: limits: must be a table"),
        (
            "limits.ring_bytes = '1'",
            "quorumwatch.toml:1: limits.ring_bytes: must be an integer",
        ),
        (
            "limits.ring_bytes = 1.5",
            "quorumwatch.toml:1: limits.ring_bytes: must be an integer",
        ),
        (
            "insecure_plaintext = 'yes'",
            "quorumwatch.toml:1: insecure_plaintext: must be true",
        ),
        (
            "allow_exec = 'aws'",
            "quorumwatch.toml:1: allow_exec: must be a list",
        ),
        (
            "allow_exec = [\n'aws',\n2]",
            "quorumwatch.toml:3: allow_exec: must be a string",
        ),
        (
            "sources = 'hunter2'",
            "quorumwatch.toml:1: sources: must be a table of tables",
        ),
        (
            "sources.p = 'hunter2'",
            "quorumwatch.toml:1: sources.p: must be a table",
        ),
        (
            "sources.p.kubeconfig = ['hunter2']",
            "quorumwatch.toml:1: sources.p.kubeconfig: must be a string",
        ),
        (
            "clusters = 1",
            "quorumwatch.toml:1: clusters: must be a list of tables",
        ),
        (
            "clusters = [1]",
            "quorumwatch.toml:1: clusters[1]: must be a table",
        ),
    ] {
        let found = problems(toml);
        expect_one(&found, begins, "; this is ");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn a_number_out_of_range_is_reported_with_the_range_wherever_it_stands() {
    let limits = "is not an integer from 65536 to 1073741824";
    for number in ["1", "-1", "99999999999999999999999999", "0x10"] {
        let found = problems(&format!("limits.ring_bytes = {number}"));
        expect_one(&found, "quorumwatch.toml:1: limits.ring_bytes: ", limits);
    }
    let environment = [("QUORUMWATCH_RING_BYTES", "4 MiB")];
    let found = told(read(&Written {
        environment: &environment,
        ..Written::default()
    }));
    expect_one(&found, "environment QUORUMWATCH_RING_BYTES: 4 MiB", limits);
    let flags = [("limits.ring_bytes", "18446744073709551616")];
    let found = told(read(&Written {
        flags: &flags,
        ..Written::default()
    }));
    expect_one(&found, "flag --ring-bytes: ", limits);
}

#[test]
fn a_problem_names_the_place_that_counts() {
    let toml = b"client_listen = '127.0.0.1:7400'";
    let environment = [("QUORUMWATCH_CLIENT_LISTEN", "here")];
    let flags = [("client_listen", "there")];
    let wrong = "is not an address with a port";
    let found = told(read(&Written {
        file: Some(toml),
        environment: &environment,
        ..Written::default()
    }));
    expect_one(
        &found,
        "environment QUORUMWATCH_CLIENT_LISTEN: \"here\"",
        wrong,
    );
    let found = told(read(&Written {
        file: Some(toml),
        environment: &environment,
        flags: &flags,
    }));
    expect_one(&found, "flag --client-listen: \"there\"", wrong);
    let found = problems("client_listen = 'localhost'");
    expect_one(
        &found,
        "quorumwatch.toml:1: client_listen: \"localhost\"",
        wrong,
    );
}

#[test]
fn a_file_that_cannot_be_read_is_reported_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let with = |path: &Path| {
        let loaded = load(&Given {
            file: Some(path.to_owned()),
            ..Given::default()
        });
        loaded.serve.unwrap_err().problems[0].to_string()
    };
    let missing = with(&folder.path().join("none.toml"));
    assert!(
        missing.contains("none.toml: the configuration file cannot be read: "),
        "{missing}"
    );
    assert!(missing.contains("correct --config"), "{missing}");
    let is_folder = with(folder.path());
    assert!(
        is_folder.contains("name a file, not a directory"),
        "{is_folder}"
    );
    let endless = with(Path::new("/dev/zero"));
    assert!(endless.contains("the file is longer than"), "{endless}");
    let found = told(read(&Written {
        file: Some(b"name = 'a'\ndata_dir = '\xff'"),
        ..Written::default()
    }));
    expect_one(&found, "quorumwatch.toml:2: ", "is not UTF-8 from here on");
}

#[test]
fn a_value_that_is_not_utf8_is_reported_without_it() {
    let bad = OsString::from_vec(vec![b'a', 0xff]);
    let loaded = load(&Given {
        file: None,
        environment: Environment {
            variables: vec![("QUORUMWATCH_DATA_DIR".into(), bad.clone())],
            others: Vec::new(),
        },
        flags: vec![(key("name"), vec![bad])],
    });
    let found = told(loaded);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("environment QUORUMWATCH_DATA_DIR: the value is not UTF-8"));
    assert!(
        found[1].starts_with("flag --name: the value is not UTF-8"),
        "{found:?}"
    );
}

#[test]
fn a_listener_beyond_loopback_needs_the_flag_that_names_the_danger() {
    let open = "name = 'a'\nclient_listen = '10.0.0.1:7400'";
    let found = problems(open);
    expect_one(
        &found,
        "quorumwatch.toml:2: client_listen: 10.0.0.1:7400 can be reached",
        "",
    );
    assert!(found[0].contains("pass --insecure-plaintext"), "{found:?}");
    assert!(
        file(&format!("insecure_plaintext = true\n{open}"))
            .serve
            .is_ok()
    );
    assert!(
        file("name = 'a'\nclient_listen = '[::1]:7400'")
            .serve
            .is_ok()
    );
}

#[test]
fn an_address_that_nobody_can_connect_to_is_not_advertised() {
    let found = problems("name = 'a'\ninsecure_plaintext = true\npeer_listen = '0.0.0.0:7401'");
    expect_one(
        &found,
        "quorumwatch.toml:3: peer_listen: nothing can connect",
        "advertise_peer",
    );
}

#[test]
fn the_two_listeners_need_two_addresses() {
    let found = problems("name = 'a'\npeer_listen = '127.0.0.1:7400'");
    expect_one(
        &found,
        "quorumwatch.toml:2: peer_listen: ",
        "the same address; use two",
    );
}

#[test]
fn the_own_peer_says_what_is_advertised() {
    let own = serve("name = 'b'\n[peers]\na = '127.0.0.1:7401'\nb = 'localhost:7501'");
    assert_eq!(own.advertise_peer, "localhost:7501");
    assert_eq!(own.peers.len(), 2);
    let found = problems("name = 'b'\nadvertise_peer = 'h:1'\n[peers]\nb = 'localhost:7501'");
    expect_one(
        &found,
        "quorumwatch.toml:4: peers: ",
        "but advertise_peer is \"h:1\"",
    );
}

#[test]
fn peers_that_lack_this_replica_are_refused() {
    let found = problems("name = 'c'\n[peers]\na = '127.0.0.1:7401'");
    expect_one(
        &found,
        "quorumwatch.toml:2: peers: this replica, \"c\", is not in the list",
        "",
    );
}

#[test]
fn a_peer_is_named_once_and_lives_alone() {
    let toml = "name = 'a'\n[peers]\na = 'h:1'\na = 'h:2'\nb = 'h:1'\nc = 'nowhere'";
    let found = problems(toml);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found[0].starts_with("quorumwatch.toml:4: a: duplicate key"),
        "{found:#?}"
    );
    assert!(found[1].contains("toml:5: peers: \"a\" and \"b\" have the same address"));
    assert!(found[2].contains("toml:6: peers: the address of c, \"nowhere\", is not of the form"));
    let flags = [("name", "a"), ("peers", "a=h:1,b=h:2,b=h:3")];
    let found = told(read(&Written {
        flags: &flags,
        ..Written::default()
    }));
    expect_one(&found, "flag --peers: \"b\" is named twice", "");
}

#[test]
fn memory_follows_from_its_total_and_what_is_set_of_it_must_fit() {
    let memory = serve("name = 'a'\nmemory.total = 268435456\nmemory.rings = 67108864").memory;
    assert_eq!((memory.total, memory.rings), (256 << 20, 64 << 20));
    let others = memory.snapshots + memory.pages + memory.queues;
    let others = others + memory.responses + memory.subscriptions;
    assert!(others <= 56 << 20, "{memory:?}");
    let found = problems("name = 'a'\nmemory.total = 268435456\nmemory.rings = 134217728");
    expect_one(&found, "quorumwatch.toml:2: memory.total: ", "memory.rings");
}
