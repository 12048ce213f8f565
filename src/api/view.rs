//! How much of each object a subscriber gets.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{domain::event::Event, proto::v1};

/// How much of each object a subscriber gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    /// The whole object.
    #[default]
    Full,
    /// apiVersion, kind and metadata.
    Metadata,
    /// Nothing.
    None,
}

impl View {
    /// What a request asks for; else the field and the text of a violation.
    pub(super) fn from_request(view: i32) -> Result<Self, (String, String)> {
        match v1::View::try_from(view) {
            Ok(v1::View::Unspecified | v1::View::Full) => Ok(Self::Full),
            Ok(v1::View::Metadata) => Ok(Self::Metadata),
            Ok(v1::View::None) => Ok(Self::None),
            Err(_) => Err((
                "view".to_owned(),
                format!(
                    "{view} is not a view that this version knows: use VIEW_FULL, VIEW_METADATA \
                     or VIEW_NONE"
                ),
            )),
        }
    }
}

/// The parts of an object that [`View::Metadata`] keeps, as they stand.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parts<'a> {
    #[serde(borrow)]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    api_version: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// What a subscriber gets of an event's object, and how much of it that is.
pub(super) fn project(view: View, event: &Event) -> (Bytes, v1::ObjectContent) {
    let content = if event.metadata_only {
        v1::ObjectContent::Metadata
    } else {
        v1::ObjectContent::Full
    };
    match view {
        View::None => (Bytes::new(), v1::ObjectContent::None),
        View::Metadata if !event.metadata_only => metadata(&event.object).map_or_else(
            // Rather too much than nothing.
            || (event.object.clone(), content),
            |object| (object, v1::ObjectContent::Metadata),
        ),
        View::Full | View::Metadata => (event.object.clone(), content),
    }
}

/// An object reduced to its kind and metadata, each byte for byte; `None` where it has no
/// metadata, or cannot be read.
fn metadata(object: &[u8]) -> Option<Bytes> {
    let parts: Parts<'_> = serde_json::from_slice(object).ok()?;
    let metadata = parts.metadata.get();
    if !metadata.starts_with('{') {
        return None;
    }
    let mut reduced = Vec::with_capacity(metadata.len() + 128);
    reduced.push(b'{');
    // Objects out of a list have neither of the two.
    for (key, value) in [("kind", parts.kind), ("apiVersion", parts.api_version)] {
        if let Some(value) = value {
            reduced.extend_from_slice(format!("\"{key}\":{value},").as_bytes());
        }
    }
    reduced.extend_from_slice(b"\"metadata\":");
    reduced.extend_from_slice(metadata.as_bytes());
    reduced.push(b'}');
    Some(reduced.into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{View, project};
    use crate::{
        domain::{
            event::{Change, Event, ObjectKey},
            id::UnixMillis,
        },
        proto::v1::ObjectContent as Content,
    };

    fn event(object: &'static str, metadata_only: bool) -> Event {
        Event {
            change: Change::Added,
            rv: "1".parse().unwrap(),
            key: ObjectKey::new("", "a", ""),
            object: Bytes::from_static(object.as_bytes()),
            metadata_only,
            seen: UnixMillis(0),
        }
    }

    fn metadata_of(object: &'static str) -> (String, Content) {
        let (object, content) = project(View::Metadata, &event(object, false));
        (String::from_utf8(object.to_vec()).unwrap(), content)
    }

    #[test]
    fn metadata_is_kept_byte_for_byte() {
        let (object, content) = metadata_of(
            r#"{"spec":{"metadata":1},"metadata": {"name" : "\u0061", "n":1.0e2},"apiVersion":"v1", "kind":"Pod"}"#,
        );
        assert_eq!(
            object,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name" : "\u0061", "n":1.0e2}}"#
        );
        assert_eq!(content, Content::Metadata);
    }

    #[test]
    fn an_object_without_a_kind_stays_without_one() {
        let (object, _) = metadata_of(r#"{"metadata":{"name":"a"},"data":{}}"#);
        assert_eq!(object, r#"{"metadata":{"name":"a"}}"#);
    }

    #[test]
    fn what_cannot_be_reduced_is_given_whole() {
        for object in [
            "torn {",
            r#"{"kind":"Pod"}"#,
            r#"{"metadata":null}"#,
            r#"["x"]"#,
        ] {
            assert_eq!(metadata_of(object), (object.to_owned(), Content::Full));
        }
    }

    #[test]
    fn the_other_views_touch_nothing() {
        let object = r#"{"metadata":{},"spec":1}"#;
        let full = event(object, false);
        assert_eq!(
            project(View::Full, &full),
            (full.object.clone(), Content::Full)
        );
        assert_eq!(project(View::None, &full), (Bytes::new(), Content::None));
        let reduced = event(r#"{"metadata":{} }"#, true);
        for view in [View::Full, View::Metadata] {
            let whole = (reduced.object.clone(), Content::Metadata);
            assert_eq!(project(view, &reduced), whole);
        }
    }

    #[test]
    fn views_that_are_not_known_are_refused() {
        assert_eq!(View::from_request(0), Ok(View::Full));
        let (field, text) = View::from_request(9).unwrap_err();
        assert_eq!(field, "view");
        assert!(text.contains("VIEW_METADATA"), "{text}");
    }
}
