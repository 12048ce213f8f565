//! The image: what its Dockerfile says, and its file system run as the image runs, read-only and as
//! an unprivileged user.

use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    net::TcpListener,
    os::unix::fs::{PermissionsExt as _, chown},
    path::Path,
};

use tempfile::TempDir;

use crate::{
    PATIENCE, can_run,
    image::{Image, dockerfile, entrypoint, last, libraries},
    pod::{Container, Mount, Process},
    wait::holds,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DATA: &str = "/var/lib/quorumwatch";
/// What distroless/cc has, besides the loader.
const LIBRARIES: [&str; 4] = ["libc.so.6", "libm.so.6", "libgcc_s.so.1", "libstdc++.so.6"];

#[test]
fn the_dockerfile_copies_what_exists_and_runs_as_nobody() {
    let ignored = fs::read_to_string(Path::new(ROOT).join(".dockerignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "*"), "{ignored}");
    let mut sources = 0;
    for (name, rest) in dockerfile() {
        let words: Vec<_> = rest.split_whitespace().collect();
        if name == "FROM" {
            let (_, tag) = words[0].rsplit_once(':').expect("an image has a tag");
            assert_ne!(tag, "latest");
        }
        if name == "COPY" && !words[0].starts_with("--from") {
            for source in &words[..words.len() - 1] {
                assert!(Path::new(ROOT).join(source).exists(), "{source}");
                let let_through = format!("!{source}");
                assert!(ignored.lines().any(|line| line == let_through), "{source}");
                sources += 1;
            }
        }
    }
    assert!(sources > 0, "nothing is copied");
    assert_eq!(last("USER"), "65532:65532");
    assert_eq!(last("CMD"), r#"["serve"]"#);
    let copied = last("COPY");
    assert_eq!(copied.split_whitespace().last(), Some(&*entrypoint()));
    let built = dockerfile();
    let built = built.iter().find(|(_, rest)| rest.contains("cargo build"));
    assert!(built.unwrap().1.contains("--release --locked"));
}

#[test]
fn the_binary_needs_no_library_that_the_image_lacks() {
    for library in libraries() {
        let name = library.file_name().unwrap().to_str().unwrap();
        let has = LIBRARIES.contains(&name) || name.starts_with("ld-linux");
        assert!(has, "distroless/cc has no {name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_serves_with_a_read_only_root_and_no_privilege() {
    if !can_run("the image's file system") {
        return;
    }
    let folder = TempDir::with_prefix("quorumwatch-image-").unwrap();
    let user: u32 = last("USER").split(':').next().unwrap().parse().unwrap();
    let image = Image::make(&folder.path().join("root"), &[DATA]);
    let mut container = Container::of(&image, user);
    container.mounts = vec![volume(&folder.path().join("data"), user)];
    let listen = || {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        held.local_addr().unwrap().to_string()
    };
    let (client, peer) = (listen(), listen());
    container.environment = [
        ("QUORUMWATCH_NAME", "alone"),
        ("QUORUMWATCH_DATA_DIR", "/var/lib/quorumwatch/data"),
        ("QUORUMWATCH_CLIENT_LISTEN", &client),
        ("QUORUMWATCH_PEER_LISTEN", &peer),
        ("QUORUMWATCH_ENDPOINTS", &client),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let serve = Process::start(&container, &["serve".into()], &folder.path().join("log"));

    // The command line of the same image, as `kubectl exec` runs it.
    let run = |arguments: &[&str]| {
        let arguments: Vec<_> = arguments.iter().map(|&text| text.to_owned()).collect();
        container.command(&arguments).output().unwrap()
    };
    let leads = async || {
        let output = run(&["members"]);
        String::from_utf8_lossy(&output.stdout).contains("leader")
    };
    let took = holds("it serves and leads itself", PATIENCE, leads).await;
    for command in ["members", "shards", "clusters"] {
        let output = run(&[command]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}");
    }
    expect_no_privilege(serve.id(), user);
    expect_nothing_writable_but_data(serve.id());
    eprintln!(
        "the image serves after {took:?} as user {user}; log:\n{}",
        serve.log()
    );
}

/// A volume as the kubelet hands it out: owned by root, and by the group of the pod.
pub(crate) fn volume(from: &Path, group: u32) -> Mount {
    fs::create_dir_all(from).unwrap();
    chown(from, Some(0), Some(group)).unwrap();
    fs::set_permissions(from, Permissions::from_mode(0o2775)).unwrap();
    Mount {
        from: from.into(),
        to: DATA.into(),
        is_writable: true,
    }
}

/// What the kernel says of the process.
pub(crate) fn expect_no_privilege(process: u32, user: u32) {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    let all_four = [
        user.to_string(),
        user.to_string(),
        user.to_string(),
        user.to_string(),
    ];
    assert_eq!(field("Uid"), all_four.join("\t"));
    assert_eq!(field("Gid"), all_four.join("\t"));
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!(field("NoNewPrivs"), "1");
}

/// Not even root may write to its file system, but for the data.
fn expect_nothing_writable_but_data(process: u32) {
    let inside = format!("/proc/{process}/root");
    for place in ["tmp", "etc", "home/nonroot", ""] {
        let refused = fs::write(format!("{inside}/{place}/written"), "").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem, "{place}");
    }
    // As the process sees them: what lies outside of its root does not appear.
    let mounts = fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap();
    let writable = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(4);
        let (at, options) = (fields.next()?, fields.next()?);
        options
            .split(',')
            .any(|option| option == "rw")
            .then_some(at)
    });
    assert_eq!(writable.collect::<Vec<_>>(), [DATA]);
}
