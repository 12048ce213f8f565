//! What `deploy/docker/Dockerfile` says, and the file system of the image that it makes.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const BINARY: &str = env!("CARGO_BIN_EXE_quorumwatch");
/// Empty directories of a distroless image, and those that volumes are mounted on.
const FOLDERS: [&str; 6] = ["etc", "tmp", "home/nonroot", "proc", "dev", "etc/ssl/certs"];

/// One instruction: its name and the rest of its line.
pub(crate) type Instruction = (String, String);

/// The instructions of the Dockerfile, continued lines joined.
pub(crate) fn dockerfile() -> Vec<Instruction> {
    let text = fs::read_to_string(Path::new(ROOT).join("deploy/docker/Dockerfile")).unwrap();
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            (name.to_owned(), rest.trim().to_owned())
        })
        .collect()
}

/// The last instruction of that name: what the image keeps.
pub(crate) fn last(name: &str) -> String {
    let instructions = dockerfile().into_iter();
    let found = instructions.rev().find(|(other, _)| other == name);
    found.unwrap_or_else(|| panic!("no {name}")).1
}

/// The image's root as a directory.
pub(crate) struct Image {
    pub(crate) root: PathBuf,
}

impl Image {
    /// Makes it: the binary where the Dockerfile copies it, the libraries that distroless/cc has,
    /// and nothing else.
    pub(crate) fn make(root: &Path, mounted_on: &[&str]) -> Self {
        fs::create_dir(root).unwrap();
        fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
        let image = Self { root: root.into() };
        for folder in FOLDERS.into_iter().chain(mounted_on.iter().copied()) {
            fs::create_dir_all(image.path(folder)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/sbin/nologin\n\
                      nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n";
        fs::write(image.path("etc/passwd"), passwd).unwrap();
        fs::write(image.path("etc/group"), "root:x:0:\nnonroot:x:65532:\n").unwrap();
        fs::write(image.path("etc/nsswitch.conf"), "hosts: files dns\n").unwrap();
        // The container runtime puts its own there.
        fs::write(image.path("etc/hosts"), "127.0.0.1 localhost\n").unwrap();
        image.add(Path::new(BINARY), &entrypoint());
        for library in libraries() {
            image.add(&library, library.to_str().unwrap());
        }
        let authorities = Path::new("/etc/ssl/certs/ca-certificates.crt");
        if authorities.exists() {
            image.add(authorities, authorities.to_str().unwrap());
        }
        image
    }

    /// A path of the image, on this machine.
    pub(crate) fn path(&self, inside: &str) -> PathBuf {
        self.root.join(inside.trim_start_matches('/'))
    }

    fn add(&self, file: &Path, inside: &str) {
        let target = self.path(inside);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        // A debug build is large: a link where both are on one file system.
        let file = file.canonicalize().unwrap();
        if fs::hard_link(&file, &target).is_err() {
            fs::copy(&file, &target).unwrap();
        }
    }
}

/// The path of the image's one program.
pub(crate) fn entrypoint() -> String {
    let entrypoint: Vec<String> = serde_json::from_str(&last("ENTRYPOINT")).unwrap();
    let [program] = &entrypoint[..] else {
        panic!("one program: {entrypoint:?}");
    };
    program.clone()
}

/// What the binary is linked with, the loader included.
pub(crate) fn libraries() -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(BINARY).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).collect()
}
