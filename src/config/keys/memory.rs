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
    reason: "96 MiB and a quarter of the rest of memory.total are reserved for the process itself; \
             what remains is divided by weight: rings 40, snapshots 20, pages 13, responses 10, \
             queues 9, subscriptions 8. Below the minimum, the part could not do its work; above \
             the maximum, it is a mistake.",
    ..KEY
};

pub(in crate::config) const MEMORY_TOTAL: Key = Key {
    path: "memory.total",
    kind: Kind::Number(160 * MIB, TIB),
    unit: "bytes",
    absent: Absent::Value(TOTAL),
    flag: Some("memory-total"),
    variable: Some("QUORUMWATCH_MEMORY_TOTAL"),
    about: "The most memory this replica uses, whatever its clients and clusters do. The parts \
            below are derived from it.",
    reason: "Seven eighths of 1 GiB, the limit of the Kubernetes manifests, so that the kernel has \
             no reason to end the process. For another limit, use seven eighths of it. Below the \
             minimum, the largest objects would not fit.",
    example: "memory.total = 1879048192",
};

pub(in crate::config) const MEMORY_RINGS: Key = Key {
    path: "memory.rings",
    kind: Kind::Number(MIB, TIB),
    absent: Absent::Derived("two fifths of what remains of memory.total"),
    flag: Some("memory-rings"),
    variable: Some("QUORUMWATCH_MEMORY_RINGS"),
    about: "Memory of all rings together, of owned and of served streams. While there is enough, \
            each holds up to limits.ring_bytes; when it is used up, rings above their share drop \
            their oldest items. A reader that misses those catches up from the owner or the API \
            server.",
    example: "memory.rings = 536870912",
    ..PART
};

pub(in crate::config) const MEMORY_QUEUES: Key = Key {
    path: "memory.queues",
    kind: Kind::Number(MIB, TIB),
    absent: Absent::Derived("about a tenth of what remains of memory.total"),
    flag: Some("memory-queues"),
    variable: Some("QUORUMWATCH_MEMORY_QUEUES"),
    about: "Memory of what watches have read and their owner has not consumed yet. When it is used \
            up, a watch stops reading beyond 512 KiB per stream; the API server waits, and nothing \
            is lost.",
    example: "memory.queues = 134217728",
    ..PART
};

pub(in crate::config) const MEMORY_PAGES: Key = Key {
    path: "memory.pages",
    kind: Kind::Number(24 * MIB, TIB),
    absent: Absent::Derived("about an eighth of what remains of memory.total"),
    flag: Some("memory-pages"),
    variable: Some("QUORUMWATCH_MEMORY_PAGES"),
    about: "Memory of list pages while they are read and parsed. When it is used up, lists wait in \
            order of arrival; a page that does not fit is requested again with fewer objects.",
    example: "memory.pages = 134217728",
    ..PART
};

pub(in crate::config) const MEMORY_SNAPSHOTS: Key = Key {
    path: "memory.snapshots",
    kind: Kind::Number(2 * MIB, TIB),
    absent: Absent::Derived("a fifth of what remains of memory.total"),
    flag: Some("memory-snapshots"),
    variable: Some("QUORUMWATCH_MEMORY_SNAPSHOTS"),
    about: "Memory of objects read for snapshots and catch-ups that not all readers have consumed \
            yet: half for what was read here, half for what other replicas have read for \
            subscribers here. A list is read at the API server's speed while it fits, and then as \
            fast as it is consumed: one that is larger than this and consumed too slowly expires \
            at the API server.",
    example: "memory.snapshots = 268435456",
    ..PART
};

pub(in crate::config) const MEMORY_SUBSCRIPTIONS: Key = Key {
    path: "memory.subscriptions",
    kind: Kind::Number(MIB, TIB),
    absent: Absent::Derived("about a twelfth of what remains of memory.total"),
    flag: Some("memory-subscriptions"),
    variable: Some("QUORUMWATCH_MEMORY_SUBSCRIPTIONS"),
    about: "Memory of subscriptions with their filters and cursors. When it is used up, a further \
            one is rejected with RESOURCE_EXHAUSTED.",
    example: "memory.subscriptions = 67108864",
    ..PART
};

pub(in crate::config) const MEMORY_RESPONSES: Key = Key {
    path: "memory.responses",
    kind: Kind::Number(2 * MIB, TIB),
    absent: Absent::Derived("a tenth of what remains of memory.total"),
    flag: Some("memory-responses"),
    variable: Some("QUORUMWATCH_MEMORY_RESPONSES"),
    about: "Memory of encoded responses that subscribers have not read yet. When it is used up, \
            what follows stays in the rings, beyond 32 KiB per subscriber.",
    example: "memory.responses = 134217728",
    ..PART
};
