//! The truth: every change that a simulated cluster committed.

use std::{borrow::Cow, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::domain::{cluster::Resource, event::Change};

/// One committed change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Which history of the cluster it belongs to: 0 at first, plus one at each rewind or
    /// replacement.
    pub history: u32,
    /// The resource.
    pub resource: Arc<Resource>,
    /// What happened; never [`Change::Snapshot`].
    pub change: Change,
    /// The revision.
    pub rv: u64,
    /// Which of the changes of the resource that share the revision.
    pub ordinal: u32,
    /// The object's namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object's UID.
    pub uid: Arc<str>,
    /// CRC-32C of the object's JSON as a watch sends it.
    pub object_crc: u32,
    /// CRC-32C of the object's JSON as a list sends it: items of built-in resources have neither
    /// `kind` nor `apiVersion`.
    pub item_crc: u32,
    /// When it was committed, in microseconds since the Unix epoch.
    pub committed_us: u64,
}

/// Where a cluster's past was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewHistory {
    /// The history that begins here.
    pub history: u32,
    /// The revision of the history before it that it continues; `None` where the cluster was
    /// replaced by an empty one.
    pub continues: Option<u64>,
}

/// Everything a cluster committed, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// The cluster's name.
    pub cluster: String,
    /// The changes, oldest first.
    pub commits: Vec<Commit>,
    /// Where the past was cut, oldest first.
    pub histories: Vec<NewHistory>,
    /// How many of the oldest changes are no longer kept.
    pub forgotten: u64,
}

/// Why a text is not a ledger.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A line is not what `GET /sim/ledger` writes.
    #[error("line {line} is not a ledger entry; fetch the ledger from a server of this version")]
    Line {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// An invalid resource.
    #[error("line {line} names no resource")]
    Resource {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        source: crate::domain::cluster::NotAResource,
    },
    /// No first line.
    #[error("the ledger is empty; it must begin with a line that names its cluster")]
    Empty,
}

/// The first line of a ledger's text.
#[derive(Serialize, Deserialize)]
struct HeadLine {
    cluster: String,
    forgotten: u64,
    /// Per history after the first, the revision that it continues.
    histories: Vec<Option<u64>>,
}

/// Every further line.
#[derive(Serialize, Deserialize)]
struct CommitLine<'a> {
    history: u32,
    resource: Cow<'a, str>,
    change: ChangeName,
    rv: u64,
    ordinal: u32,
    namespace: Cow<'a, str>,
    name: Cow<'a, str>,
    uid: Cow<'a, str>,
    object_crc: u32,
    item_crc: u32,
    committed_us: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum ChangeName {
    Added,
    Modified,
    Deleted,
    Snapshot,
}

impl Ledger {
    /// The ledger as JSON lines, as `GET /sim/ledger?cluster=` sends it.
    pub fn to_json_lines(&self) -> String {
        let head = HeadLine {
            cluster: self.cluster.clone(),
            forgotten: self.forgotten,
            histories: self.histories.iter().map(|new| new.continues).collect(),
        };
        let mut text = String::new();
        push_line(&mut text, &head);
        // The same few resources over and over: each is printed once.
        let mut printed: Vec<(&Arc<Resource>, String)> = Vec::new();
        for commit in &self.commits {
            let known = printed
                .iter()
                .position(|(resource, _)| *resource == &commit.resource);
            let index = known.unwrap_or_else(|| {
                printed.push((&commit.resource, commit.resource.to_string()));
                printed.len() - 1
            });
            push_line(&mut text, &CommitLine::new(commit, &printed[index].1));
        }
        text
    }

    /// Reads what [`Self::to_json_lines`] wrote.
    pub fn from_json_lines(text: &str) -> Result<Self, LedgerError> {
        let mut lines = (1..).zip(text.lines());
        let (line, head) = lines.next().ok_or(LedgerError::Empty)?;
        let head: HeadLine =
            serde_json::from_str(head).map_err(|source| LedgerError::Line { line, source })?;
        let mut resources: Vec<Arc<Resource>> = Vec::new();
        let mut commits = Vec::new();
        for (line, text) in lines {
            let read: CommitLine<'_> =
                serde_json::from_str(text).map_err(|source| LedgerError::Line { line, source })?;
            let parsed: Resource = read
                .resource
                .parse()
                .map_err(|source| LedgerError::Resource { line, source })?;
            let known = resources.iter().position(|resource| **resource == parsed);
            let index = known.unwrap_or_else(|| {
                resources.push(Arc::new(parsed));
                resources.len() - 1
            });
            commits.push(read.into_commit(Arc::clone(&resources[index])));
        }
        Ok(Self {
            cluster: head.cluster,
            commits,
            histories: (1..)
                .zip(head.histories)
                .map(|(history, continues)| NewHistory { history, continues })
                .collect(),
            forgotten: head.forgotten,
        })
    }
}

fn push_line(text: &mut String, line: &impl Serialize) {
    // Plain structs of texts and numbers always serialise.
    text.push_str(&serde_json::to_string(line).unwrap_or_default());
    text.push('\n');
}

impl<'a> CommitLine<'a> {
    fn new(commit: &'a Commit, resource: &'a str) -> Self {
        Self {
            history: commit.history,
            resource: resource.into(),
            change: match commit.change {
                Change::Added => ChangeName::Added,
                Change::Modified => ChangeName::Modified,
                Change::Deleted => ChangeName::Deleted,
                Change::Snapshot => ChangeName::Snapshot,
            },
            rv: commit.rv,
            ordinal: commit.ordinal,
            namespace: (&*commit.namespace).into(),
            name: (&*commit.name).into(),
            uid: (&*commit.uid).into(),
            object_crc: commit.object_crc,
            item_crc: commit.item_crc,
            committed_us: commit.committed_us,
        }
    }

    fn into_commit(self, resource: Arc<Resource>) -> Commit {
        Commit {
            history: self.history,
            resource,
            change: match self.change {
                ChangeName::Added => Change::Added,
                ChangeName::Modified => Change::Modified,
                ChangeName::Deleted => Change::Deleted,
                ChangeName::Snapshot => Change::Snapshot,
            },
            rv: self.rv,
            ordinal: self.ordinal,
            namespace: self.namespace.into(),
            name: self.name.into(),
            uid: self.uid.into(),
            object_crc: self.object_crc,
            item_crc: self.item_crc,
            committed_us: self.committed_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Change, Commit, Ledger, NewHistory};

    #[test]
    fn a_ledger_reads_back_as_written() {
        let commit = |rv: u64, resource: &str| Commit {
            history: 0,
            resource: Arc::new(resource.parse().unwrap()),
            change: Change::Deleted,
            rv,
            ordinal: 3,
            namespace: "default".into(),
            name: "quo\"ted".into(),
            uid: "u".into(),
            object_crc: 1,
            item_crc: 2,
            committed_us: 5,
        };
        let ledger = Ledger {
            cluster: "a".into(),
            commits: vec![commit(2, "v1/events"), commit(3, "example.com/v1/widgets")],
            histories: vec![NewHistory {
                history: 1,
                continues: None,
            }],
            forgotten: 9,
        };
        let text = ledger.to_json_lines();
        assert_eq!(Ledger::from_json_lines(&text).unwrap(), ledger);
        assert!(Ledger::from_json_lines("").is_err());
        assert!(Ledger::from_json_lines("{}").is_err());
    }
}
