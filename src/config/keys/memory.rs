//! The keys of memory.

use super::{Absent, KEY, Key, Kind};

const MIB: u64 = 1024 * 1024;
const TIB: u64 = MIB * MIB;

/// Seven eighths of 1 GiB, the limit of the Kubernetes manifests.
pub(in crate::config) const MEMORY_TOTAL_DEFAULT: u64 = 896 * MIB;

const TOTAL: &str = "939524096";

/// A part that nobody sets.
const PART: Key = Key {
    unit: "bytes",
    reason: "What memory.total leaves when 96 MiB and a quarter of the rest are set aside for the \
             process itself is divided by weights: rings 40, snapshots 20, pages 13, responses \
             10, queues 9, subscriptions 8. Below the least, the part could not do its work; above \
             the most, there is a mistake.",
    ..KEY
};

pub(in crate::config) const MEMORY_TOTAL: Key = Key {
    path: "memory.total",
    kind: Kind::Number(160 * MIB, TIB),
    unit: "bytes",
    absent: Absent::Value(TOTAL),
    flag: Some("memory-total"),
    variable: Some("QUORUMWATCH_MEMORY_TOTAL"),
    about: "What the replica may take of the machine's memory, whatever its clients and clusters \
            do. The parts below are derived from it.",
    reason: "Seven eighths of 1 GiB, the limit of the Kubernetes manifests, so that the kernel has \
             no reason to end the process. Set it to seven eighths of another limit. Below the \
             least, the largest objects would not fit.",
    example: "memory.total = 1879048192",
};

pub(in crate::config) const MEMORY_RINGS: Key = Key {
    path: "memory.rings",
    kind: Kind::Number(MIB, TIB),
    absent: Absent::Derived("two fifths of what memory.total leaves"),
    flag: Some("memory-rings"),
    variable: Some("QUORUMWATCH_MEMORY_RINGS"),
    about: "Memory of all rings together, those of owned streams and those of served ones. While \
            there is enough, each holds what limits.ring_bytes says; \
            where it becomes scarce, rings that hold more than their part drop their oldest. A \
            reader who then lacks something catches up from the owner or the API server.",
    example: "memory.rings = 536870912",
    ..PART
};

pub(in crate::config) const MEMORY_QUEUES: Key = Key {
    path: "memory.queues",
    kind: Kind::Number(MIB, TIB),
    absent: Absent::Derived("about a tenth of what memory.total leaves"),
    flag: Some("memory-queues"),
    variable: Some("QUORUMWATCH_MEMORY_QUEUES"),
    about: "Memory of what all watches have read and their streams' owner has not taken. Where \
            there is none left, a watch reads no further, beyond 512 KiB for each stream; the API \
            server waits, and nothing is lost.",
    example: "memory.queues = 134217728",
    ..PART
};

pub(in crate::config) const MEMORY_PAGES: Key = Key {
    path: "memory.pages",
    kind: Kind::Number(24 * MIB, TIB),
    absent: Absent::Derived("about an eighth of what memory.total leaves"),
    flag: Some("memory-pages"),
    variable: Some("QUORUMWATCH_MEMORY_PAGES"),
    about: "Memory of all pages of lists while they are read and taken apart. Where there is none \
            left, lists wait in the order of asking; a page that does not fit is asked for again \
            with fewer objects.",
    example: "memory.pages = 134217728",
    ..PART
};

pub(in crate::config) const MEMORY_SNAPSHOTS: Key = Key {
    path: "memory.snapshots",
    kind: Kind::Number(2 * MIB, TIB),
    absent: Absent::Derived("a fifth of what memory.total leaves"),
    flag: Some("memory-snapshots"),
    variable: Some("QUORUMWATCH_MEMORY_SNAPSHOTS"),
    about: "Memory of all objects that were read for snapshots and catch-ups and that not all who \
            asked have taken: half of it for what was read here, half for what other replicas have \
            read for subscribers here. A list is read at the API server's speed as long as it \
            fits, and then as fast as it is taken: one that is larger than this and taken too \
            slowly expires at the API server.",
    example: "memory.snapshots = 268435456",
    ..PART
};

pub(in crate::config) const MEMORY_SUBSCRIPTIONS: Key = Key {
    path: "memory.subscriptions",
    kind: Kind::Number(MIB, TIB),
    absent: Absent::Derived("about a twelfth of what memory.total leaves"),
    flag: Some("memory-subscriptions"),
    variable: Some("QUORUMWATCH_MEMORY_SUBSCRIPTIONS"),
    about: "Memory of all subscriptions with their filters and cursors. Where there is none left, \
            a further one is refused with RESOURCE_EXHAUSTED.",
    example: "memory.subscriptions = 67108864",
    ..PART
};

pub(in crate::config) const MEMORY_RESPONSES: Key = Key {
    path: "memory.responses",
    kind: Kind::Number(2 * MIB, TIB),
    absent: Absent::Derived("a tenth of what memory.total leaves"),
    flag: Some("memory-responses"),
    variable: Some("QUORUMWATCH_MEMORY_RESPONSES"),
    about: "Memory of all responses that were made and that their subscribers have not taken. \
            Where there is none left, what follows waits in rings, beyond 32 KiB for each \
            subscriber.",
    example: "memory.responses = 134217728",
    ..PART
};
