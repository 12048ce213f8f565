//! The requests that API servers received. Pure.

/// Requests to all clusters within a period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) requests: u64,
    /// Lists of objects, and watches that begin with one.
    pub(crate) lists: u64,
    /// The maximum number of requests within one second, to all clusters together.
    pub(crate) busiest_second: u64,
}

impl Asked {
    /// Adds the requests of another period.
    pub(crate) fn add(&mut self, other: Self) {
        self.requests += other.requests;
        self.lists += other.lists;
        self.busiest_second = self.busiest_second.max(other.busiest_second);
    }
}

/// Whether a request opens a watch.
pub(crate) fn is_watch(target: &str) -> bool {
    has(target, "watch=true") || has(target, "watch=1")
}

/// Whether a request lists objects: the collection itself, or a watch that begins with the existing
/// objects. A list of one object is sent to read the resource version only.
pub(crate) fn is_list(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let of_objects = path.ends_with("/events") || path.ends_with("/configmaps");
    let is_data = !is_watch(target) && !has(target, "limit=1");
    of_objects && (is_data || has(target, "sendInitialEvents=true"))
}

fn has(target: &str, parameter: &str) -> bool {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|given| given == parameter)
}
