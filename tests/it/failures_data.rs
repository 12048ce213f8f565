//! What goes wrong with ports and data: the process ends with one message that says what to do, and
//! what was agreed on is never lost or forgotten.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use quorumwatch::proto::v1::{Cluster, ClusterSource, InCluster, cluster_source::Source};

use crate::harness::{Group, Options, PATIENCE, copy_folder, holds};

/// How long a replica may take to see that it cannot start, and to end.
const REFUSAL: Duration = Duration::from_secs(15);

/// Launches a replica that must end at once, with code 1 and one message of these parts.
async fn refuses(group: &mut Group, says: &[&str]) -> String {
    let before = group.replicas[0].log().len();
    group.launch(0);
    let exit = group.replicas[0].exit(REFUSAL).await;
    let said = exit.log[before..].to_owned();
    assert_eq!(exit.status.code(), Some(1), "{said}");
    for text in says {
        assert!(said.contains(text), "{text:?} is not in {said}");
    }
    assert!(
        !said.contains("panicked") && !said.contains("kind:"),
        "{said}"
    );
    eprintln!("{}", said.lines().last().unwrap_or_default());
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_its_flag() {
    let mut group = Group::prepare(1, &Options::default()).await;
    let ports = [
        (group.replicas[0].client_port, "clients", "--client-listen"),
        (group.replicas[0].peer_port, "peers", "--peer-listen"),
    ];
    for (port, who, flag) in ports {
        let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let place = format!("listen on 127.0.0.1:{port} for {who}");
        refuses(&mut group, &[&place, "another process listens there", flag]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_used_says_why() {
    let mut group = Group::prepare(1, &Options::default()).await;
    let data = group.replicas[0].data_dir();
    let named = format!("open the data directory {}", data.display());
    fs::write(&data, "a file").unwrap();
    let says = [
        &named,
        "A part of the path is a file: choose a directory with --data-dir",
    ];
    refuses(&mut group, &says).await;
    fs::remove_file(&data).unwrap();
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read_dir(&data).is_ok() {
        // Root may do anything, unless it has given up its privileges.
        let drop_all = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
        group.replicas[0].wrapper = drop_all.map(str::to_owned).to_vec();
    }
    refuses(
        &mut group,
        &[
            &named,
            "Permission denied",
            "may not write there: `chown -R`",
        ],
    )
    .await;
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).unwrap();
    let Some(disk) = SmallDisk::mount(&data, "size=1m,ro") else {
        return;
    };
    group.replicas[0].wrapper = disk.enter();
    refuses(
        &mut group,
        &[&named, "The file system is read-only: mount it writable"],
    )
    .await;
}

/// A small file system of its own for a directory, which only processes that enter it see.
struct SmallDisk {
    holder: Child,
    /// Where it is seen from outside.
    seen_at: PathBuf,
}

impl SmallDisk {
    /// `None`, with a printed reason, where this is not allowed.
    fn mount(directory: &Path, options: &str) -> Option<Self> {
        let script = "mount -t tmpfs -o \"$1\" none \"$0\" && echo ready && read _";
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", script])
            .arg(directory)
            .arg(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let told = holder.stdout.take().unwrap();
        BufReader::new(told).read_line(&mut line).unwrap();
        if line.trim() != "ready" {
            eprintln!("skipped: no file system can be mounted here (it takes CAP_SYS_ADMIN)");
            holder.wait().unwrap();
            return None;
        }
        let inside = directory.strip_prefix("/").unwrap();
        let seen_at = Path::new("/proc")
            .join(holder.id().to_string())
            .join("root")
            .join(inside);
        Some(Self { holder, seen_at })
    }

    /// What a command begins with that shall see it.
    fn enter(&self) -> Vec<String> {
        let space = format!("--mount=/proc/{}/ns/mnt", self.holder.id());
        vec!["nsenter".into(), space]
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut file = fs::File::create(self.seen_at.join("ballast")).unwrap();
        while file.write_all(&[7; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.seen_at.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_replica_and_room_brings_it_back() {
    let group = &mut Group::prepare(3, &Options::default()).await;
    let data = group.replicas[0].data_dir();
    fs::create_dir_all(&data).unwrap();
    let Some(disk) = SmallDisk::mount(&data, "size=2m") else {
        return;
    };
    group.replicas[0].wrapper = disk.enter();
    let make_room = ["The disk is full: make room", "do not remove it"];
    disk.fill();
    refuses(group, &make_room).await;
    disk.make_room();
    for index in 0..3 {
        group.launch(index);
    }
    group.whole().await;
    let client = group.replicas[1].client();
    let mut created = vec!["before".to_owned()];
    client.create(in_cluster("before")).await.unwrap();

    disk.fill();
    // What is agreed on meanwhile fills the last page; then its disk refuses.
    let started = Instant::now();
    let mut ended = false;
    while !ended && started.elapsed() < PATIENCE {
        let name = format!("meanwhile-{}", created.len());
        if client.create(in_cluster(&name)).await.is_ok() {
            created.push(name);
        }
        ended = group.replicas[0].has_ended();
    }
    let exit = group.replicas[0].exit(REFUSAL).await;
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    let last = exit.log.lines().last().unwrap_or_default().to_owned();
    eprintln!("{last}");
    assert!(
        last.contains("the data can no longer be written (no space left on device)"),
        "{last}"
    );
    assert!(
        last.contains("Nothing is acknowledged that is not on disk"),
        "{last}"
    );
    assert!(make_room.iter().all(|text| last.contains(text)), "{last}");
    client.create(in_cluster("after")).await.unwrap();
    created.push("after".to_owned());
    // One that was asked of a leader as it ended may be there too: its outcome was unknown.
    let names = |clusters: Vec<Cluster>| -> BTreeSet<_> {
        clusters.into_iter().map(|cluster| cluster.name).collect()
    };
    let agreed = names(client.clusters().await.unwrap());
    assert!(
        created.iter().all(|name| agreed.contains(name)),
        "{created:?} {agreed:?}"
    );
    group
        .owned_by_the_living(&client, agreed.len(), PATIENCE)
        .await;
    refuses(group, &make_room).await;

    disk.make_room();
    group.launch(0);
    group.whole().await;
    let client = group.replicas[0].client();
    let has_all = async || names(client.clusters().await.unwrap_or_default()) == agreed;
    holds("it has everything again", PATIENCE, has_all).await;
}

pub(crate) fn in_cluster(name: &str) -> Cluster {
    Cluster {
        name: name.to_owned(),
        source: Some(ClusterSource {
            source: Some(Source::InCluster(InCluster {})),
        }),
        ..Cluster::default()
    }
}

/// Damages the files in a replica's data directory.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 7] = [
    ("everything is overwritten", |raft| {
        overwrite(raft, 0, usize::MAX);
    }),
    ("the first bytes are overwritten", |raft| {
        overwrite(raft, 0, 512);
    }),
    ("the middle is overwritten", |raft| {
        overwrite(raft, 1024, 1024);
    }),
    ("half is cut off", |raft| {
        let db = fs::File::options()
            .write(true)
            .open(raft.join("log/db"))
            .unwrap();
        db.set_len(db.metadata().unwrap().len() / 2).unwrap();
    }),
    ("all is cut off", |raft| {
        fs::write(raft.join("log/db"), "").unwrap();
    }),
    ("the file is gone", |raft| {
        fs::remove_file(raft.join("log/db")).unwrap();
    }),
    ("the high-water mark is gone", |raft| {
        fs::remove_file(raft.join("fence")).unwrap();
    }),
];

fn overwrite(raft: &Path, from: usize, length: usize) {
    let db = raft.join("log/db");
    let mut bytes = fs::read(&db).unwrap();
    let to = from.saturating_add(length).min(bytes.len());
    for byte in &mut bytes[from..to] {
        *byte ^= 0x5a;
    }
    fs::write(db, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_data_is_refused_with_the_way_back() {
    let mut group = Group::start(1).await;
    group.client().create(in_cluster("x")).await.unwrap();
    assert!(group.replicas[0].terminate(PATIENCE).await.status.success());
    let data = group.replicas[0].data_dir();
    let kept = group.replicas[0].folder.join("kept");
    copy_folder(&data, &kept);
    let way_back = [
        format!("open the data directory {}", data.display()),
        "`quorumwatch members remove a --endpoints OTHER-REPLICA`".to_owned(),
        format!("`rm -r {}/raft`", data.display()),
    ];
    for (what, damage) in DAMAGES {
        eprintln!("{what}:");
        fs::remove_dir_all(&data).unwrap();
        copy_folder(&kept, &data);
        damage(&data.join("raft"));
        let says: Vec<_> = way_back.iter().map(String::as_str).collect();
        let said = refuses(&mut group, &says).await;
        assert!(
            said.contains("damaged") || said.contains("this replica acknowledged are missing"),
            "{said}"
        );
    }
    // What the message advises, in a group of one.
    fs::remove_dir_all(data.join("raft")).unwrap();
    group.launch(0);
    group.whole().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn data_of_another_format_is_refused_and_left_alone() {
    let mut group = Group::start(1).await;
    assert!(group.replicas[0].terminate(PATIENCE).await.status.success());
    let log = group.replicas[0].data_dir().join("raft").join("log");
    set_format(&log, 3);
    let newer = [
        "is of format 3, which is newer than format 2",
        "Start the newer version",
    ];
    refuses(&mut group, &newer).await;
    set_format(&log, 1);
    let older = [
        "is of format 1, which is not readable",
        "Upgrade through a version that reads",
    ];
    refuses(&mut group, &older).await;
    set_format(&log, 2);
    group.launch(0);
    group.whole().await;
}

/// Writes the header's format as a version that has this one would.
fn set_format(log: &Path, format: u32) {
    let key = b"Mformat";
    let payload = format.to_be_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(key), &payload);
    let sealed = [checksum.to_be_bytes(), payload].concat();
    // tidy: no version that exists writes another format
    let db: sled::Db = {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // tidy: as above; its lock is let go of a moment after a process has ended
            match sled::open(log) {
                Ok(db) => break db,
                Err(error) if Instant::now() > deadline => panic!("{error}"),
                Err(_) => std::thread::yield_now(),
            }
        }
    };
    db.open_tree(b"raft").unwrap().insert(key, sealed).unwrap();
    db.flush().unwrap();
}
