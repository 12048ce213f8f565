//! What etcd itself says was committed: the truth below every API server.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

use super::Result;

/// A watch of etcd from its first revision on. It outlives every API server, and ends with this.
pub(crate) struct EtcdWatch {
    child: Child,
    output: PathBuf,
}

/// One committed change of one key.
#[derive(Clone, Debug)]
pub(crate) struct EtcdChange {
    pub(crate) revision: u64,
    pub(crate) key: String,
    pub(crate) action: EtcdAction,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EtcdAction {
    Create,
    Update,
    Delete,
}

/// One line of etcdctl.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "CompactRevision")]
    compact_revision: u64,
    #[serde(rename = "Events", default)]
    events: Option<Vec<LineEvent>>,
}

#[derive(Deserialize)]
struct LineEvent {
    /// 1 is a deletion.
    #[serde(rename = "type", default)]
    code: u8,
    kv: KeyValue,
}

#[derive(Deserialize)]
struct KeyValue {
    key: String,
    #[serde(default)]
    create_revision: u64,
    mod_revision: u64,
}

impl EtcdWatch {
    /// `command` is etcdctl without a subcommand.
    pub(super) fn spawn(mut command: Command, output: PathBuf) -> Result<Self> {
        let child = command
            .args(["watch", "--prefix", "/registry/", "--rev=1", "-w", "json"])
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, output })
    }

    /// Everything that was committed so far, as far as etcd has reported it.
    pub(crate) fn changes(&self) -> Result<Vec<EtcdChange>> {
        let text = fs::read_to_string(&self.output)?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut changes = Vec::new();
        for line in whole.lines() {
            let line: Line = serde_json::from_str(line)?;
            if line.compact_revision > 0 {
                return Err("etcd was compacted ahead of the watch".into());
            }
            for event in line.events.unwrap_or_default() {
                changes.push(EtcdChange::read(&event)?);
            }
        }
        Ok(changes)
    }
}

impl EtcdChange {
    fn read(event: &LineEvent) -> Result<Self> {
        let KeyValue {
            key,
            create_revision,
            mod_revision,
        } = &event.kv;
        let action = if event.code == 1 {
            EtcdAction::Delete
        } else if create_revision == mod_revision {
            EtcdAction::Create
        } else {
            EtcdAction::Update
        };
        Ok(Self {
            revision: *mod_revision,
            key: String::from_utf8(BASE64_STANDARD.decode(key)?)?,
            action,
        })
    }
}

impl Drop for EtcdWatch {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
