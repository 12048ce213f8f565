//! Whether an event's object is what an independent watch received.

use quorumwatch::{domain::event::Change, proto::v1::ObjectContent};
use serde_json::{Map, Value, value::RawValue};

use crate::{record::Received, recorder::Recorded};

/// From where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A watch.
    Watch,
    /// A list: of a snapshot, or of the net changes of a repair.
    List,
}

/// Whether the object was compared; the error is what is wrong with it.
pub(crate) fn compare(event: &Received, from: Origin, recorded: &Recorded) -> Result<bool, String> {
    let is_from_old_list = from == Origin::List && event.change == Change::Deleted;
    let content = if is_from_old_list {
        ObjectContent::Metadata
    } else {
        ObjectContent::Full
    };
    if event.content != content {
        return Err(format!("its content is not {content:?}"));
    }
    if is_from_old_list {
        expect_only_metadata(&event.object)?;
    }
    let seen = |change| recorded.get(&(event.rv, event.key.clone(), change));
    let original = match from {
        Origin::Watch => seen(event.change),
        // A list has an object as the event that made it has it.
        Origin::List => seen(Change::Added).or_else(|| seen(Change::Modified)),
    };
    let Some(original) = original else {
        return Ok(false);
    };
    let is_same = match (from, content) {
        (Origin::Watch, _) => original.get() == event.object,
        (Origin::List, ObjectContent::Metadata) => {
            fields(&event.object)?["metadata"] == fields_of(original)?["metadata"]
        }
        (Origin::List, _) => {
            without_type(fields(&event.object)?) == without_type(fields_of(original)?)
        }
    };
    if is_same {
        Ok(true)
    } else {
        Err(format!("it differs from {original}"))
    }
}

fn expect_only_metadata(object: &str) -> Result<(), String> {
    let allowed = ["apiVersion", "kind", "metadata"];
    let fields = fields(object)?;
    let other = fields.keys().find(|key| !allowed.contains(&key.as_str()));
    match other {
        Some(other) => Err(format!("metadata has {other:?}")),
        None if fields.contains_key("metadata") => Ok(()),
        None => Err("the metadata is missing".into()),
    }
}

/// API servers leave both out of the objects of a list, where they are the same for all.
fn without_type(mut fields: Map<String, Value>) -> Map<String, Value> {
    fields.remove("apiVersion");
    fields.remove("kind");
    fields
}

fn fields_of(original: &RawValue) -> Result<Map<String, Value>, String> {
    fields(original.get())
}

fn fields(object: &str) -> Result<Map<String, Value>, String> {
    serde_json::from_str(object).map_err(|error| format!("it is no JSON object: {error}"))
}
