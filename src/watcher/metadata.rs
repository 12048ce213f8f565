//! The metadata of an object in JSON: all of it, or only as far as is needed ([`read_head`]).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor},
};

/// An object, as far as it matters.
#[derive(Deserialize)]
pub(super) struct RawObject<'a> {
    #[serde(borrow)]
    pub(super) metadata: RawMetadata<'a>,
}

/// Text that is copied only where it has escapes.
#[derive(Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

/// Which object it is, and which state of it.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawMetadata<'a> {
    #[serde(borrow)]
    pub(super) name: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) namespace: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) uid: Option<Text<'a>>,
    #[serde(borrow)]
    pub(super) resource_version: Option<Text<'a>>,
}

impl RawMetadata<'_> {
    fn is_complete(&self) -> bool {
        [
            &self.name,
            &self.namespace,
            &self.uid,
            &self.resource_version,
        ]
        .iter()
        .all(|field| field.is_some())
    }
}

/// Reads an object as far as its metadata's fields; `None` where one of them is missing, as the
/// namespace is of what has none.
pub(super) fn read_head(object: &str) -> Option<RawMetadata<'_>> {
    let mut metadata = RawMetadata::default();
    let head = UpToMetadata(&mut metadata);
    // That more follows, which is not read, is an error to the reader of JSON.
    let _ = serde_json::Deserializer::from_str(object).deserialize_map(head);
    metadata.is_complete().then_some(metadata)
}

/// Reads an object up to its metadata.
struct UpToMetadata<'m, 'a>(&'m mut RawMetadata<'a>);

impl<'a> Visitor<'a> for UpToMetadata<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with metadata")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<Text<'a>>()? {
            if key.0 == "metadata" {
                return members.next_value_seed(UpToIdentity(self.0));
            }
            members.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// Reads metadata up to the last of the fields that are needed.
struct UpToIdentity<'m, 'a>(&'m mut RawMetadata<'a>);

impl<'a> DeserializeSeed<'a> for UpToIdentity<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for UpToIdentity<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("metadata")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<Text<'a>>()? {
            let field = match &*key.0 {
                "name" => &mut self.0.name,
                "namespace" => &mut self.0.namespace,
                "uid" => &mut self.0.uid,
                "resourceVersion" => &mut self.0.resource_version,
                _ => {
                    members.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            *field = Some(members.next_value()?);
            if self.0.is_complete() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// What is there; empty where nothing is.
pub(super) fn text<'a>(field: &'a Option<Text<'_>>) -> &'a str {
    field.as_ref().map_or("", |text| &text.0)
}
