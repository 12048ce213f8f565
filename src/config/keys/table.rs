//! The table itself.

use super::{
    Absent, KEY, Key, Kind,
    limits::{
        CLIENT_CONNECTIONS, CLIENT_SUBSCRIPTIONS, CONNECTION_STREAMS, CONNECTIONS, SUBSCRIPTIONS,
        UNREAD_MS,
    },
    memory::{
        MEMORY_PAGES, MEMORY_QUEUES, MEMORY_RESPONSES, MEMORY_RINGS, MEMORY_SNAPSHOTS,
        MEMORY_SUBSCRIPTIONS, MEMORY_TOTAL,
    },
};

/// Below, one large object fills a ring; above, one ring fills a machine.
const RING_BYTES: Kind = Kind::Number(64 * 1024, 1024 * 1024 * 1024);

pub(in crate::config) const NAME: Key = Key {
    path: "name",
    absent: Absent::Derived("the host's name"),
    flag: Some("name"),
    variable: Some("QUORUMWATCH_NAME"),
    about: "This replica's stable name: up to 253 letters, digits, '-', '_' or '.'. It is stored \
            in the data directory and must not change across restarts.",
    reason: "A pod of a StatefulSet keeps its host name, so nothing has to be configured there.",
    example: "name = \"quorumwatch-0\"",
    ..KEY
};

pub(in crate::config) const DATA_DIR: Key = Key {
    path: "data_dir",
    kind: Kind::Path,
    unit: "a directory",
    absent: Absent::Value("quorumwatch-data"),
    flag: Some("data-dir"),
    variable: Some("QUORUMWATCH_DATA_DIR"),
    about: "Where this replica keeps its data. Created if it does not exist; must not be shared \
            between replicas.",
    reason: "In the working directory, so that a first try needs no privileges and leaves nothing \
             elsewhere.",
    example: "data_dir = \"/var/lib/quorumwatch\"",
};

pub(in crate::config) const CLIENT_LISTEN: Key = Key {
    path: "client_listen",
    unit: "address:port",
    absent: Absent::Value("127.0.0.1:7400"),
    flag: Some("client-listen"),
    variable: Some("QUORUMWATCH_CLIENT_LISTEN"),
    about: "The address on which clients are served.",
    reason: "Loopback, because nothing is encrypted or authenticated yet.",
    example: "client_listen = \"127.0.0.1:7500\"",
    ..KEY
};

pub(in crate::config) const PEER_LISTEN: Key = Key {
    path: "peer_listen",
    unit: "address:port",
    absent: Absent::Value("127.0.0.1:7401"),
    flag: Some("peer-listen"),
    variable: Some("QUORUMWATCH_PEER_LISTEN"),
    about: "The address on which other replicas are served.",
    reason: "Loopback, as for client_listen; a separate port, so that a network policy can \
             distinguish the two.",
    example: "peer_listen = \"127.0.0.1:7501\"",
    ..KEY
};

pub(in crate::config) const ADVERTISE_CLIENT: Key = Key {
    path: "advertise_client",
    unit: "host:port",
    absent: Absent::Derived("client_listen"),
    flag: Some("advertise-client"),
    variable: Some("QUORUMWATCH_ADVERTISE_CLIENT"),
    about: "The address at which clients reach this replica.",
    reason: "The listen address is right unless it is 0.0.0.0 or a proxy is in between.",
    example: "advertise_client = \"quorumwatch-0.example:7400\"",
    ..KEY
};

pub(in crate::config) const ADVERTISE_PEER: Key = Key {
    path: "advertise_peer",
    unit: "host:port",
    absent: Absent::Derived("this replica's entry in peers, else peer_listen"),
    flag: Some("advertise-peer"),
    variable: Some("QUORUMWATCH_ADVERTISE_PEER"),
    about: "The address at which other replicas reach this one.",
    reason: "peers has it already, so it need not be repeated.",
    example: "advertise_peer = \"quorumwatch-0.example:7401\"",
    ..KEY
};

pub(in crate::config) const PEERS: Key = Key {
    path: "peers",
    kind: Kind::Addresses,
    unit: "name = host:port",
    absent: Absent::Derived("this replica alone"),
    flag: Some("peers"),
    variable: Some("QUORUMWATCH_PEERS"),
    about: "The replicas that bootstrap the group, this one included, with the address of each \
            one's peer listener. All replicas must have the same list. It is used at the first \
            start only.",
    reason: "A group of one is enough for a first try; three tolerate one failure.",
    example: "peers = { quorumwatch-0 = \"127.0.0.1:7401\" }",
};

pub(in crate::config) const KUBECONFIG_DIRS: Key = Key {
    path: "kubeconfig_dirs",
    kind: Kind::Paths,
    unit: "directories",
    flag: Some("kubeconfig-dir"),
    variable: Some("QUORUMWATCH_KUBECONFIG_DIRS"),
    about: "Directories from which clusters may use kubeconfig files, at any depth. They must \
            exist.",
    reason: "None, because anyone allowed to add a cluster could otherwise have any file on this \
             machine read.",
    example: "kubeconfig_dirs = [\"/etc\"]",
    ..KEY
};

pub(in crate::config) const ALLOW_EXEC: Key = Key {
    path: "allow_exec",
    kind: Kind::Texts,
    unit: "commands",
    flag: Some("allow-exec"),
    variable: Some("QUORUMWATCH_ALLOW_EXEC"),
    about: "Commands that kubeconfigs may run for credentials, spelled as the kubeconfig spells \
            them.",
    reason: "None, because a kubeconfig could otherwise run any command here.",
    example: "allow_exec = [\"aws\"]",
    ..KEY
};

pub(in crate::config) const ALLOW_FILE_REFERENCES: Key = Key {
    path: "allow_file_references",
    kind: Kind::Switch,
    absent: Absent::Value("false"),
    flag: Some("allow-file-references"),
    variable: Some("QUORUMWATCH_ALLOW_FILE_REFERENCES"),
    about: "Whether kubeconfigs may refer to other files: tokens, certificates, keys.",
    reason: "Off, because a kubeconfig could otherwise send any file on this machine as a token.",
    example: "allow_file_references = true",
    ..KEY
};

pub(in crate::config) const INSECURE_PLAINTEXT: Key = Key {
    path: "insecure_plaintext",
    kind: Kind::Switch,
    absent: Absent::Value("false"),
    flag: Some("insecure-plaintext"),
    variable: Some("QUORUMWATCH_INSECURE_PLAINTEXT"),
    about: "Allow listening beyond this machine although nothing is encrypted or authenticated \
            yet: anyone who reaches a listener can read every event and change what is monitored.",
    reason: "Off, because this must be a decision: it is safe only where the network itself is \
             protected.",
    example: "insecure_plaintext = true",
    ..KEY
};

pub(in crate::config) const RING_BYTES_MAX: Key = Key {
    path: "limits.ring_bytes",
    kind: RING_BYTES,
    unit: "bytes per stream",
    absent: Absent::Value("4194304"),
    flag: Some("ring-bytes"),
    variable: Some("QUORUMWATCH_RING_BYTES"),
    about: "Memory for the newest part of each stream that a replica owns or serves.",
    reason: "A few thousand Events of 1 KB: seconds of a busy cluster, so that a reader that \
             pauses briefly is served from memory and not by the API server. Below the minimum, \
             one large object fills a ring; above the maximum, one ring fills a machine.",
    example: "limits.ring_bytes = 8388608",
};

pub(in crate::config) const SLOW_SUBSCRIBER_MS: Key = Key {
    path: "limits.slow_subscriber_ms",
    kind: Kind::Number(100, 240_000),
    unit: "milliseconds",
    absent: Absent::Value("30000"),
    flag: Some("slow-subscriber-ms"),
    variable: Some("QUORUMWATCH_SLOW_SUBSCRIBER_MS"),
    about: "How long a subscriber may read nothing before it is disconnected as too slow.",
    reason: "Longer than any pause of a healthy client, shorter than the five minutes of history \
             that its cursor can still be resumed from. Below the minimum, a network hiccup counts \
             as slow; above the maximum, the history expires before the subscriber is \
             disconnected.",
    example: "limits.slow_subscriber_ms = 10000",
};

/// Below, lists would burden an API server more than its other clients do.
const VERIFY_MS: Kind = Kind::Number(10_000, 86_400_000);

pub(in crate::config) const AUDIT: Key = Key {
    path: "watch.audit",
    kind: Kind::Switch,
    absent: Absent::Value("true"),
    flag: Some("watch-audit"),
    variable: Some("QUORUMWATCH_WATCH_AUDIT"),
    about: "Whether every stream is periodically compared with a list of its objects' metadata, so \
            that changes that the API server left out of a watch are detected.",
    reason: "API servers and etcd have left out events without an error. The cost of a list is in \
             [operations](operations.md#what-verification-costs).",
    example: "watch.audit = false",
    ..KEY
};

pub(in crate::config) const AUDIT_INTERVAL_MS: Key = Key {
    path: "watch.audit_interval_ms",
    kind: VERIFY_MS,
    unit: "milliseconds",
    absent: Absent::Value("300000"),
    flag: Some("watch-audit-interval-ms"),
    variable: Some("QUORUMWATCH_WATCH_AUDIT_INTERVAL_MS"),
    about: "How often each stream is compared. Up to a fifth is added at random, and each cluster \
            is listed one stream at a time.",
    reason: "As often as Kubernetes compares its own caches with etcd.",
    example: "watch.audit_interval_ms = 900000",
};

pub(in crate::config) const QUIET_INTERVAL_MS: Key = Key {
    path: "watch.quiet_interval_ms",
    kind: VERIFY_MS,
    unit: "milliseconds",
    absent: Absent::Value("120000"),
    flag: Some("watch-quiet-interval-ms"),
    variable: Some("QUORUMWATCH_WATCH_QUIET_INTERVAL_MS"),
    about: "How long a stream may go without an event and without a bookmark before it is \
            compared, because nothing else proves its position. It cannot be switched off.",
    reason: "Well below the five minutes after which an API server compacts its history: an older \
             position is lost. If it compacts sooner, use less than half of its interval.",
    example: "watch.quiet_interval_ms = 60000",
};

pub(in crate::config) const WARM_CLUSTERS: Key = Key {
    path: "watch.warm_clusters",
    kind: Kind::Number(0, 10_000),
    unit: "clusters",
    absent: Absent::Value("250"),
    flag: Some("watch-warm-clusters"),
    variable: Some("QUORUMWATCH_WATCH_WARM_CLUSTERS"),
    about: "For how many clusters of other replicas this replica keeps credentials and open \
            connections ready: those that it would take over next. Taking them over then needs no \
            TLS handshake and no credential command. 0 for none.",
    reason: "Each costs two connections for each stream, four at most, and a request to /readyz on \
             each of them every 30 seconds.",
    example: "watch.warm_clusters = 1000",
};

pub(in crate::config) const LOG_FORMAT: Key = Key {
    path: "log.format",
    kind: Kind::Choice(&["auto", "text", "json"]),
    absent: Absent::Value("auto"),
    flag: Some("log-format"),
    variable: Some("QUORUMWATCH_LOG_FORMAT"),
    about: "The format of log lines: auto is text on a terminal and JSON elsewhere.",
    reason: "People read terminals, machines read the rest.",
    example: "log.format = \"json\"",
    ..KEY
};

pub(in crate::config) const LOG_LEVEL: Key = Key {
    path: "log.level",
    absent: Absent::Value("info"),
    flag: Some("log-level"),
    variable: Some("QUORUMWATCH_LOG_LEVEL"),
    about: "Which lines are logged: off, error, warn, info, debug or trace, or target=level pairs, \
            separated by ','. openraft logs nothing unless it is named: info,openraft=warn.",
    reason: "info logs one line for each change of ownership, and nothing per event.",
    example: "log.level = \"debug\"",
    ..KEY
};

pub(in crate::config) const SOURCES: Key = Key {
    path: "sources",
    kind: Kind::Named,
    about: "Kubeconfigs with credentials, by the name under which clusters refer to them. They \
            stay in this replica's memory and never enter the replicated state; every replica \
            needs the same names.",
    reason: "Secrets do not belong on a command line or in the environment, where others can see \
             them; only the file can hold one.",
    example: "[sources.prod-eu]",
    ..KEY
};

pub(in crate::config) const CLUSTERS: Key = Key {
    path: "clusters",
    kind: Kind::Listed,
    about: "Clusters to create at startup if they do not exist. Existing ones are left unchanged: \
            use `quorumwatch clusters` to change them.",
    reason: "The group's state decides; a file changed on one replica must not change what all of \
             them watch.",
    example: "[[clusters]]",
    ..KEY
};

/// All keys, in the order of the reference.
pub const KEYS: &[Key] = &[
    NAME,
    DATA_DIR,
    CLIENT_LISTEN,
    PEER_LISTEN,
    ADVERTISE_CLIENT,
    ADVERTISE_PEER,
    PEERS,
    INSECURE_PLAINTEXT,
    KUBECONFIG_DIRS,
    ALLOW_EXEC,
    ALLOW_FILE_REFERENCES,
    RING_BYTES_MAX,
    SLOW_SUBSCRIBER_MS,
    UNREAD_MS,
    SUBSCRIPTIONS,
    CLIENT_SUBSCRIPTIONS,
    CONNECTIONS,
    CLIENT_CONNECTIONS,
    CONNECTION_STREAMS,
    AUDIT,
    AUDIT_INTERVAL_MS,
    QUIET_INTERVAL_MS,
    WARM_CLUSTERS,
    MEMORY_TOTAL,
    MEMORY_RINGS,
    MEMORY_QUEUES,
    MEMORY_PAGES,
    MEMORY_SNAPSHOTS,
    MEMORY_SUBSCRIPTIONS,
    MEMORY_RESPONSES,
    LOG_FORMAT,
    LOG_LEVEL,
    SOURCES,
    Key {
        path: "sources.*.kubeconfig",
        kind: Kind::Secret,
        unit: "a kubeconfig, YAML",
        absent: Absent::Required,
        about: "The kubeconfig itself, with its credentials. It is never shown: not in logs, not in \
                errors, not by `check`.",
        reason: "No default is possible.",
        example: "kubeconfig = '''...'''",
        ..KEY
    },
    Key {
        path: "sources.*.context",
        absent: Absent::Derived("the kubeconfig's current context"),
        about: "The context to use.",
        reason: "Most such kubeconfigs have only one context.",
        example: "context = \"admin\"",
        ..KEY
    },
    CLUSTERS,
    Key {
        path: "clusters[].name",
        absent: Absent::Required,
        about: "The name, unique in the group: 1 to 63 lowercase letters, digits, '-' or \
                '.', beginning and ending with a letter or digit.",
        reason: "No default is possible.",
        example: "name = \"prod-eu\"",
        ..KEY
    },
    Key {
        path: "clusters[].labels",
        kind: Kind::Labels,
        unit: "keys and values as in Kubernetes, at most 64",
        about: "Labels that subscribers select by.",
        reason: "None are needed.",
        example: "labels = { env = \"prod\" }",
        ..KEY
    },
    Key {
        path: "clusters[].description",
        unit: "at most 1,024 bytes",
        about: "A description, shown by `quorumwatch clusters get`.",
        reason: "None is needed.",
        example: "description = \"the shop's cluster in Europe\"",
        ..KEY
    },
    Key {
        path: "clusters[].duplicate_of",
        unit: "the name of a cluster",
        about: "The name of another registration of the same Kubernetes cluster. Without it, a \
                cluster that is already registered is not watched a second time: its condition is \
                `duplicate`.",
        reason: "Registering a cluster twice is usually a mistake, because every event is \
                 delivered twice.",
        example: "duplicate_of = \"prod-eu-all\"",
        ..KEY
    },
    Key {
        path: "clusters[].kubeconfig",
        kind: Kind::Path,
        unit: "a file on every replica, in a directory of kubeconfig_dirs",
        about: "The kubeconfig file with the credentials. Set exactly one of kubeconfig, source \
                and in_cluster.",
        reason: "Which of the three to use must be a decision.",
        example: "kubeconfig = \"/etc/kube/config\"",
        ..KEY
    },
    Key {
        path: "clusters[].context",
        absent: Absent::Derived("the file's current context"),
        about: "The context of the kubeconfig file to use. A source has its own.",
        reason: "Most kubeconfigs made for this have only one context.",
        example: "context = \"prod-eu\"",
        ..KEY
    },
    Key {
        path: "clusters[].source",
        unit: "the name of a table in `[sources]`",
        about: "The replicas' own kubeconfig to use, instead of a file.",
        reason: "See clusters[].kubeconfig.",
        example: "source = \"prod-eu\"",
        ..KEY
    },
    Key {
        path: "clusters[].in_cluster",
        kind: Kind::Switch,
        absent: Absent::Value("false"),
        about: "Use the service account of the replica's own pod.",
        reason: "See clusters[].kubeconfig.",
        example: "in_cluster = true",
        ..KEY
    },
    Key {
        path: "clusters[].resources",
        kind: Kind::Resources,
        unit: "version/plural or group/version/plural, or a table that narrows one; at most 64, \
               each namespace counted",
        absent: Absent::Value("v1/events"),
        about: "What to watch.",
        reason: "Kubernetes Events are what this service is for. Each resource costs a connection \
                 to the API server, hence the maximum.",
        example: "resources = [\"v1/events\", { resource = \"v1/configmaps\", namespaces = [\"shop\"] }]",
        ..KEY
    },
    Key {
        path: "clusters[].resources[].resource",
        absent: Absent::Required,
        unit: "version/plural or group/version/plural",
        about: "The resource.",
        reason: "No default is possible.",
        example: "resource = \"v1/configmaps\"",
        ..KEY
    },
    Key {
        path: "clusters[].resources[].namespaces",
        kind: Kind::Texts,
        absent: Absent::Derived("all namespaces"),
        about: "Only these namespaces; each is a stream of its own.",
        reason: "One watch over all namespaces is the cheapest for the API server.",
        example: "namespaces = [\"shop\"]",
        ..KEY
    },
    Key {
        path: "clusters[].resources[].label_selector",
        absent: Absent::Derived("all objects"),
        unit: "as kubectl's -l",
        about: "Only objects with these labels. The API server filters.",
        reason: "Everything is watched unless it is narrowed.",
        example: "label_selector = \"app=web\"",
        ..KEY
    },
    Key {
        path: "clusters[].resources[].field_selector",
        absent: Absent::Derived("all objects"),
        unit: "as kubectl's --field-selector",
        about: "Only objects with these fields. The API server filters.",
        reason: "Everything is watched unless it is narrowed.",
        example: "field_selector = \"type=Warning\"",
        ..KEY
    },
];
