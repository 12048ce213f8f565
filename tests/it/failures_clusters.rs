//! Clusters that cannot be watched say why, and what to do about it, in `ListClusters` and in the
//! log; none disturbs another, and no credential is ever shown.

use std::{
    collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use quorumwatch::{
    proto::v1::{
        Cluster, ClusterCondition, ClusterSource, KubeconfigFile, ResourceSelector,
        cluster_source::Source,
    },
    sim::{Fault, Fleet, FleetOptions},
};
use tempfile::TempDir;

use crate::harness::{
    ApiServer, Authority, EMPTY_LIST, Group, Options, Reply, Script, empty_cluster, free_ports,
    holds,
};

/// What must never be seen: it stands in every kubeconfig, and in what plugins print.
const SECRET: &str = "s3cret-t0ken";

/// How long health may take on a machine that is busy: the first failure is reported at once.
const DIAGNOSIS: Duration = Duration::from_secs(30);

/// One replica, a directory of kubeconfigs, and what each cluster's reason must say.
struct Ward {
    group: Group,
    folder: TempDir,
    expected: BTreeMap<String, (ClusterCondition, Vec<String>)>,
    servers: Vec<ApiServer>,
    /// What clusters that are served by one server are registrations of.
    duplicate_of: &'static str,
}

impl Ward {
    /// `policy` is TOML; `DIRECTORY` in it becomes the directory's path.
    async fn open(policy: &str) -> Self {
        let folder = TempDir::with_prefix("quorumwatch-it-").unwrap();
        let path = folder.path().display().to_string();
        let config = format!(
            "kubeconfig_dirs = [{path:?}]\n{}",
            policy.replace("DIRECTORY", &path)
        );
        Self {
            group: Group::start_with(1, &Options { config }).await,
            folder,
            expected: BTreeMap::new(),
            servers: Vec::new(),
            duplicate_of: "",
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    async fn serve(&mut self, script: Script) -> u16 {
        let server = ApiServer::start(script, None).await;
        let port = server.port;
        self.servers.push(server);
        port
    }

    /// Has a kubeconfig watched, and notes what shall come of it.
    async fn admit(&mut self, name: &str, yaml: &str, condition: ClusterCondition, says: &[&str]) {
        fs::write(self.path(name), yaml).unwrap();
        let path = self.path(name);
        self.admit_file(name, &path, "v1/events", "", condition, says)
            .await;
    }

    async fn admit_file(
        &mut self,
        name: &str,
        path: &str,
        resource: &str,
        context: &str,
        condition: ClusterCondition,
        says: &[&str],
    ) {
        let file = KubeconfigFile {
            path: path.to_owned(),
            context: context.to_owned(),
        };
        let cluster = Cluster {
            name: name.to_owned(),
            source: Some(ClusterSource {
                source: Some(Source::KubeconfigFile(file)),
            }),
            resources: vec![ResourceSelector {
                resource: resource.to_owned(),
                ..ResourceSelector::default()
            }],
            duplicate_of: self.duplicate_of.to_owned(),
            ..Cluster::default()
        };
        self.group.client().create(cluster).await.unwrap();
        let says = says.iter().map(|text| (*text).to_owned()).collect();
        self.expected.insert(name.to_owned(), (condition, says));
    }

    /// Waits until each cluster says what it shall, and looks for what nobody may see.
    async fn judge(&self) {
        let client = self.group.client();
        for (name, (condition, says)) in &self.expected {
            let shown = async || {
                let health = client.cluster(name).await.unwrap().health.unwrap();
                (health.condition(), health.reason)
            };
            let what = format!("{name} is {condition:?} and says {says:?}");
            let told = async || {
                let (is, reason) = shown().await;
                is == *condition && says.iter().all(|text| reason.contains(text))
            };
            if tokio::time::timeout(DIAGNOSIS, holds(&what, DIAGNOSIS * 2, told))
                .await
                .is_err()
            {
                panic!("not so: {what}; but {:?}", shown().await);
            }
            eprintln!("{name}: {}", shown().await.1);
        }
        let everything = format!("{:?}", client.clusters().await.unwrap());
        let log = self.group.replicas[0].log();
        assert!(
            !everything.contains(SECRET) && !log.contains(SECRET),
            "{log}"
        );
        for (name, (condition, _)) in &self.expected {
            let about = format!("cluster={name} ");
            let lines = log
                .lines()
                .filter(|line| line.contains(" WARN ") && line.contains(&about));
            let count = lines.count();
            // Each cause once: two where the first answer was another one.
            let most = if *condition == ClusterCondition::Connected {
                0
            } else {
                2
            };
            assert!(count <= most, "{name}: {count} lines\n{log}");
        }
    }
}

/// A kubeconfig of one context with this cluster and this user; both are inner fields of flow maps.
fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
         contexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
         clusters: [{{name: k, cluster: {{{cluster}}}}}]\n\
         users: [{{name: u, user: {{{user}}}}}]\n"
    )
}

/// One that carries a token to a server.
fn at(server: &str) -> String {
    kubeconfig(&format!("server: '{server}'"), &format!("token: {SECRET}"))
}

fn trusting(server: &str, authority: &str, user: &str) -> String {
    let authority = STANDARD.encode(authority);
    let cluster = format!("server: '{server}', certificate-authority-data: {authority}");
    kubeconfig(&cluster, user)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubeconfig_that_cannot_be_used_says_why() {
    use ClusterCondition::Unauthenticated;
    let mut ward = Ward::open("").await;
    let gone = ward.path("gone");
    let says = [
        "cannot be read on this replica",
        "mount it, or correct the path",
    ];
    ward.admit_file("missing", &gone, "v1/events", "", Unauthenticated, &says)
        .await;
    let elsewhere = TempDir::new().unwrap();
    let outside = elsewhere.path().join("config");
    fs::write(&outside, at("http://127.0.0.1:1")).unwrap();
    let outside = outside.display().to_string();
    let says = ["is outside the allowed directories", "kubeconfig_dirs"];
    ward.admit_file("outside", &outside, "v1/events", "", Unauthenticated, &says)
        .await;
    let torn = format!("apiVersion: v1\nusers:\n- name: u\n  user: {{token: {SECRET}\n");
    let says = ["is not YAML of kind Config: look at line", "/malformed"];
    ward.admit("malformed", &torn, Unauthenticated, &says).await;
    let whole = at("http://127.0.0.1:1");
    fs::write(ward.path("whole"), &whole).unwrap();
    let path = ward.path("whole");
    let says = ["has no context \"x\"; name one of its contexts: c"];
    ward.admit_file(
        "context-unknown",
        &path,
        "v1/events",
        "x",
        Unauthenticated,
        &says,
    )
    .await;
    let undecided = whole.replace("current-context: c\n", "");
    let says = ["has no current-context; name one of its contexts: c"];
    ward.admit("context-not-chosen", &undecided, Unauthenticated, &says)
        .await;
    let userless = whole.replace("[{name: u, ", "[{name: other, ");
    let says = ["names user \"u\", which is not there"];
    ward.admit("user-missing", &userless, Unauthenticated, &says)
        .await;
    let server = "server: 'http://127.0.0.1:1'";
    let exec = kubeconfig(
        server,
        &format!("exec: {{command: /bin/aws, args: [{SECRET}]}}"),
    );
    let says = ["runs the credential command \"/bin/aws\"", "allow_exec"];
    ward.admit("exec-refused", &exec, Unauthenticated, &says)
        .await;
    let file = kubeconfig(server, "tokenFile: /run/token");
    let says = ["refers to a file (tokenFile)", "allow_file_references"];
    ward.admit("file-refused", &file, Unauthenticated, &says)
        .await;
    let base64 = kubeconfig(
        &format!("{server}, certificate-authority-data: '{SECRET}'"),
        "",
    );
    let says = ["certificate authority is not valid base64"];
    ward.admit("authority-garbled", &base64, Unauthenticated, &says)
        .await;
    ward.judge().await;
}

/// Lists are answered, a watch is not allowed.
fn forbids_watch(head: &str) -> Reply {
    if head.contains("watch=true") {
        let message = r#"{"kind":"Status","code":403,"message":"deployments.apps is forbidden: User \"qw\" cannot watch resource \"deployments\""}"#;
        return Reply::json("403 Forbidden", message);
    }
    empty_cluster(head)
}

/// As an API server answers for a resource that can only be listed.
fn cannot_watch(head: &str) -> Reply {
    if head.contains("watch=true") {
        let message = r#"{"kind":"Status","code":405,"message":"watch is not supported on resources of kind \"componentstatuses\""}"#;
        return Reply::json("405 Method Not Allowed", message);
    }
    empty_cluster(head)
}

fn login_page(_: &str) -> Reply {
    Reply::with("text/html", "200 OK", "", "<html>Please log in</html>")
}

fn redirects(_: &str) -> Reply {
    Reply::with(
        "text/html",
        "302 Found",
        "location: https://login.example\r\n",
        "<html/>",
    )
}

fn ends_in_mid_answer(_: &str) -> Reply {
    Reply::Raw(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n{EMPTY_LIST}"
    ))
}

fn is_not_ready(_: &str) -> Reply {
    let body = r#"{"kind":"Status","code":503,"message":"apiserver is shutting down"}"#;
    Reply::with(
        "application/json",
        "503 Service Unavailable",
        "retry-after: 7\r\n",
        body,
    )
}

/// Name, script, resource, and what shall come of it.
type Scripted = (
    &'static str,
    Script,
    &'static str,
    ClusterCondition,
    &'static [&'static str],
);

const SCRIPTED: [Scripted; 6] = [
    (
        "forbidden",
        forbids_watch,
        "apps/v1/deployments",
        ClusterCondition::PermissionDenied,
        &[
            "apps/v1/deployments: the API server answers 403 to a watch",
            "ClusterRole: {apiGroups: [\"apps\"], resources: [\"deployments\"], verbs: \
                 [\"list\", \"watch\"]}",
        ],
    ),
    (
        "unwatchable",
        cannot_watch,
        "v1/componentstatuses",
        ClusterCondition::Degraded,
        &[
            "answers 405 to a watch",
            "take it out of the cluster's resources",
        ],
    ),
    (
        "login",
        login_page,
        "v1/events",
        ClusterCondition::Degraded,
        &["JSON that is not a list", "and not to a proxy?"],
    ),
    (
        "redirect",
        redirects,
        "v1/events",
        ClusterCondition::Degraded,
        &[
            "answers 302",
            "something in front of the API server redirects",
        ],
    ),
    (
        "torn",
        ends_in_mid_answer,
        "v1/events",
        ClusterCondition::Unreachable,
        &["cannot be reached", "closed the connection"],
    ),
    (
        "not-ready",
        is_not_ready,
        "v1/events",
        ClusterCondition::Degraded,
        &[
            "answers 503 to a list: apiserver is shutting down",
            "asks to retry after 7 s",
        ],
    ),
];

/// Simulated clusters with their own faults.
async fn admit_simulated(ward: &mut Ward) -> Fleet {
    use ClusterCondition::{Degraded, Unauthenticated};
    let fleet = Fleet::start(FleetOptions {
        clusters: ["expired", "busy", "unknown"].map(str::to_owned).to_vec(),
        ..FleetOptions::default()
    });
    let fleet = fleet.await.unwrap();
    fleet
        .cluster("expired")
        .unwrap()
        .faults()
        .set(Fault::Unauthorised);
    fleet
        .cluster("busy")
        .unwrap()
        .faults()
        .set(Fault::TooManyRequests);
    let path = ward.path("expired");
    let renew = format!("renew them in {path} on every replica; it is reread automatically");
    let simulated: [(&str, &str, ClusterCondition, Vec<&str>); 3] = [
        (
            "expired",
            "v1/events",
            Unauthenticated,
            vec!["answers 401 to a list", &renew],
        ),
        (
            "busy",
            "v1/events",
            Degraded,
            vec!["answers 429 to a list", "asks to retry after 1 s"],
        ),
        (
            "unknown",
            "example.com/v1/widgets",
            Degraded,
            vec![
                "this cluster does not serve example.com/v1/widgets",
                "kubectl api-resources",
            ],
        ),
    ];
    for (name, resource, condition, says) in simulated {
        let yaml = fleet.kubeconfig(name);
        let yaml = yaml.replace("user: {}", &format!("user: {{token: {SECRET}}}"));
        assert!(yaml.contains(SECRET));
        fs::write(ward.path(name), yaml).unwrap();
        let path = ward.path(name);
        ward.admit_file(name, &path, resource, "", condition, &says)
            .await;
    }
    fleet
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_refuses_or_talks_nonsense_is_quoted_with_what_to_do() {
    let mut ward = Ward::open("").await;
    for (name, script, resource, condition, says) in SCRIPTED {
        let port = ward.serve(script).await;
        fs::write(ward.path(name), at(&format!("http://127.0.0.1:{port}"))).unwrap();
        let path = ward.path(name);
        ward.admit_file(name, &path, resource, "", condition, says)
            .await;
    }
    let fleet = admit_simulated(&mut ward).await;
    ward.judge().await;
    // Renewed credentials need nobody's help.
    fleet.cluster("expired").unwrap().faults().clear_all();
    let connected = ClusterCondition::Connected;
    ward.expected = [("expired".to_owned(), (connected, Vec::new()))].into();
    let client = ward.group.client();
    let well = async || {
        let health = client.cluster("expired").await.unwrap().health.unwrap();
        health.condition() == connected
    };
    holds("it is well again", DIAGNOSIS * 2, well).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_reached_or_trusted_says_what_is_wrong_with_it() {
    use ClusterCondition::Unreachable;
    let mut ward = Ward::open("").await;
    let token = format!("token: {SECRET}");
    let [refusing] = free_ports();
    let yaml = at(&format!("http://127.0.0.1:{refusing}"));
    let place = format!("the API server at 127.0.0.1:{refusing} cannot be reached");
    let says = [place.as_str(), "refused", "nothing listens there"];
    ward.admit("refused", &yaml, Unreachable, &says).await;
    let says = [
        "at no-such-host.invalid:6443 cannot be reached",
        "does not resolve on this replica",
    ];
    ward.admit(
        "nameless",
        &at("https://no-such-host.invalid:6443"),
        Unreachable,
        &says,
    )
    .await;
    let plain = ward.serve(empty_cluster).await;
    let says = ["does not speak TLS", "the scheme of `server`"];
    ward.admit(
        "plain",
        &at(&format!("https://127.0.0.1:{plain}")),
        Unreachable,
        &says,
    )
    .await;

    let (ours, theirs) = (Authority::new(), Authority::new());
    let good = ours.sign("127.0.0.1", 4000);
    let cases = [
        (
            "wrong-authority",
            theirs.sign("127.0.0.1", 4000).server(None),
            [
                "not signed by an authority",
                "correct certificate-authority-data",
            ],
        ),
        (
            "wrong-name",
            ours.sign("other.example", 4000).server(None),
            ["for other host names", "set tls-server-name"],
        ),
        (
            "out-of-date",
            ours.sign("127.0.0.1", 2001).server(None),
            ["its certificate has expired", "check the clock here"],
        ),
        (
            "client-unknown",
            good.server(Some(&ours)),
            ["CertificateRequired", "a client certificate is missing"],
        ),
    ];
    for (name, tls, says) in cases {
        let server = ApiServer::start(empty_cluster, Some(tls)).await;
        let yaml = trusting(
            &format!("https://127.0.0.1:{}", server.port),
            &ours.pem,
            &token,
        );
        ward.servers.push(server);
        ward.admit(name, &yaml, Unreachable, &says).await;
    }
    ward.judge().await;
}

/// Writes a command that kubeconfigs may run.
fn command(folder: &Path, name: &str, script: &str) {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
}

/// Kubeconfigs that refer to files.
async fn admit_files(ward: &mut Ward, server: &str) {
    use ClusterCondition::{Connected, Unauthenticated};
    let folder = ward.folder.path().to_owned();
    let absent = kubeconfig(server, "tokenFile: /nowhere/token");
    let says = ["the token file /nowhere/token cannot be read"];
    ward.admit("token-file-gone", &absent, Unauthenticated, &says)
        .await;
    let absent = kubeconfig(&format!("{server}, certificate-authority: /nowhere/ca"), "");
    let says = ["names /nowhere/ca as certificate authority, which cannot be read"];
    ward.admit("authority-gone", &absent, Unauthenticated, &says)
        .await;
    fs::write(folder.join("token"), SECRET).unwrap();
    let token = folder.join("token").display().to_string();
    let by_file = kubeconfig(server, &format!("tokenFile: '{token}'"));
    ward.admit("token-file", &by_file, Connected, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_files_and_client_certificates_work_where_they_are_allowed() {
    use ClusterCondition::{Connected, Unauthenticated};
    let policy = "allow_file_references = true\n\
                  allow_exec = [\"DIRECTORY/good\", \"DIRECTORY/fails\", \"DIRECTORY/garbage\", \"DIRECTORY/gone\"]";
    let mut ward = Ward::open(policy).await;
    let folder = ward.folder.path().to_owned();
    let credential = format!(
        r#"{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"{SECRET}"}}}}"#
    );
    command(&folder, "good", &format!("echo '{credential}'"));
    command(
        &folder,
        "fails",
        &format!("echo {SECRET}; echo {SECRET} >&2; exit 3"),
    );
    command(&folder, "garbage", &format!("echo '{{{SECRET}'"));
    let port = ward.serve(empty_cluster).await;
    let server = format!("server: 'http://127.0.0.1:{port}'");
    let run = |name: &str| {
        let command = folder.join(name).display().to_string();
        let exec = format!(
            "exec: {{apiVersion: client.authentication.k8s.io/v1, command: '{command}', \
             interactiveMode: IfAvailable}}"
        );
        kubeconfig(&server, &exec)
    };
    ward.admit("plugin", &run("good"), Connected, &[]).await;
    ward.duplicate_of = "plugin";
    let says = [
        "the credential command failed (exit status: 3)",
        "run it by hand",
    ];
    ward.admit("plugin-fails", &run("fails"), Unauthenticated, &says)
        .await;
    let says = ["the credential command did not print an ExecCredential"];
    ward.admit("plugin-garbage", &run("garbage"), Unauthenticated, &says)
        .await;
    let says = [
        "the credential command cannot be started",
        "install it on every replica",
    ];
    ward.admit("plugin-gone", &run("gone"), Unauthenticated, &says)
        .await;

    admit_files(&mut ward, &server).await;
    let authority = Authority::new();
    let tls = authority.sign("127.0.0.1", 4000).server(Some(&authority));
    let secured = ApiServer::start(empty_cluster, Some(tls)).await;
    let us = authority.sign("qw", 4000);
    let user = format!(
        "client-certificate-data: {}, client-key-data: {}",
        STANDARD.encode(&us.certificate),
        STANDARD.encode(&us.key)
    );
    let yaml = trusting(
        &format!("https://127.0.0.1:{}", secured.port),
        &authority.pem,
        &user,
    );
    ward.servers.push(secured);
    ward.admit("client-certificate", &yaml, Connected, &[])
        .await;
    ward.judge().await;

    let bearer = format!("Bearer {SECRET}");
    let heads = ward.servers[0].heads();
    let sent = heads.iter().filter(|head| head.contains(&bearer)).count();
    assert_eq!(sent, heads.len(), "{heads:?}");
    assert!(sent >= 4, "two clusters list and watch: {sent}");
}
