//! One version of one object, rendered once, in the shapes that the API server sends.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};
use serde_json::Value;

use super::{kind::Served, manifest::Manifest};

/// What stays the same for the life of an object.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    /// Its place in etcd's order, below the resource's prefix: `namespace/name`, or `name`.
    pub(super) key: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) uid: Arc<str>,
    /// `metadata.creationTimestamp`.
    pub(super) created: Arc<str>,
}

/// One version of one object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) identity: Identity,
    pub(super) rv: u64,
    labels: Arc<BTreeMap<String, String>>,
    /// The JSON as a watch sends it.
    json: Bytes,
    /// Where `"metadata"` begins: all before are `kind` and `apiVersion`.
    metadata_at: usize,
    /// Where the digits of the resource version begin.
    rv_at: usize,
    /// Just after the metadata's closing brace.
    metadata_end: usize,
    built_in: bool,
}

const PARTIAL_PREFIX: &str = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","#;

/// The place of an object in etcd's order.
pub(super) fn key_of(namespace: &str, name: &str) -> String {
    if namespace.is_empty() {
        name.to_owned()
    } else {
        format!("{namespace}/{name}")
    }
}

impl Object {
    pub(super) fn new(served: &Served, identity: Identity, rv: u64, manifest: &Manifest) -> Self {
        let api_version = served.api_version();
        let mut json = String::with_capacity(manifest.body.len() + 320);
        // Writing into a String cannot fail, here and below.
        let _ = if served.built_in {
            write!(
                json,
                r#"{{"kind":"{}","apiVersion":"{api_version}","#,
                served.kind
            )
        } else {
            write!(
                json,
                r#"{{"apiVersion":"{api_version}","kind":"{}","#,
                served.kind
            )
        };
        let metadata_at = json.len();
        let _ = write!(json, r#""metadata":{{"name":{}"#, Quoted(&identity.name));
        if !identity.namespace.is_empty() {
            let _ = write!(json, r#","namespace":{}"#, Quoted(&identity.namespace));
        }
        let _ = write!(json, r#","uid":"{}","resourceVersion":""#, identity.uid);
        let rv_at = json.len();
        let _ = write!(json, r#"{rv}","creationTimestamp":"{}""#, identity.created);
        if !manifest.labels.is_empty() {
            json.push_str(r#","labels":{"#);
            for (index, (key, value)) in manifest.labels.iter().enumerate() {
                let comma = if index == 0 { "" } else { "," };
                let _ = write!(json, "{comma}{}:{}", Quoted(key), Quoted(value));
            }
            json.push('}');
        }
        json.push('}');
        let metadata_end = json.len();
        if !manifest.body.is_empty() {
            json.push(',');
            json.push_str(&manifest.body);
        }
        json.push('}');
        Self {
            identity,
            rv,
            labels: Arc::new(manifest.labels.clone()),
            json: json.into(),
            metadata_at,
            rv_at,
            metadata_end,
            built_in: served.built_in,
        }
    }

    /// The same object at another revision: what a `DELETED` line carries.
    pub(super) fn at_rv(&self, rv: u64) -> Self {
        let old_digits = self.rv.to_string().len();
        let digits = rv.to_string();
        let mut json = Vec::with_capacity(self.json.len() + digits.len());
        json.extend_from_slice(&self.json[..self.rv_at]);
        json.extend_from_slice(digits.as_bytes());
        json.extend_from_slice(&self.json[self.rv_at + old_digits..]);
        Self {
            identity: self.identity.clone(),
            rv,
            labels: Arc::clone(&self.labels),
            metadata_end: self.metadata_end - old_digits + digits.len(),
            json: json.into(),
            ..*self
        }
    }

    /// The JSON as a watch, or a read of the one object, sends it.
    pub(super) fn json(&self) -> &Bytes {
        &self.json
    }

    /// Appends the JSON as a list sends it.
    pub(super) fn write_item(&self, out: &mut Vec<u8>) {
        if self.built_in {
            out.push(b'{');
            out.extend_from_slice(&self.json[self.metadata_at..]);
        } else {
            out.extend_from_slice(&self.json);
        }
    }

    /// Appends the object reduced to its metadata.
    pub(super) fn write_partial(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(PARTIAL_PREFIX.as_bytes());
        out.extend_from_slice(&self.json[self.metadata_at..self.metadata_end]);
        out.push(b'}');
    }

    /// CRC-32C of what a watch sends.
    pub(super) fn object_crc(&self) -> u32 {
        crc32c(&self.json)
    }

    /// CRC-32C of what a list sends.
    pub(super) fn item_crc(&self) -> u32 {
        if self.built_in {
            crc32c_append(crc32c(b"{"), &self.json[self.metadata_at..])
        } else {
            crc32c(&self.json)
        }
    }

    pub(super) fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The text at a dotted path; empty if missing, as field selectors treat it.
    pub(super) fn field(&self, path: &str) -> String {
        match path {
            "metadata.name" => self.identity.name.to_string(),
            "metadata.namespace" => self.identity.namespace.to_string(),
            _ => {
                let Ok(value) = serde_json::from_slice::<Value>(&self.json) else {
                    return String::new();
                };
                let found = path
                    .split('.')
                    .try_fold(&value, |value, member| value.get(member));
                match found {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Null) | None => String::new(),
                    Some(other) => other.to_string(),
                }
            }
        }
    }
}

/// Prints as a JSON string.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = |b: u8| (b' '..0x7f).contains(&b) && b != b'"' && b != b'\\';
        if self.0.bytes().all(plain) {
            write!(f, "\"{}\"", self.0)
        } else {
            Value::from(self.0).fmt(f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Identity, Manifest, Object, Served, key_of};

    fn object(resource: &str) -> Object {
        let identity = Identity {
            key: key_of("default", "a").into(),
            namespace: "default".into(),
            name: "a".into(),
            uid: "u-1".into(),
            created: "2026-01-01T00:00:00Z".into(),
        };
        let manifest = Manifest::new("default", "a")
            .label("app", "we\"b")
            .member("data", &serde_json::json!({"n": 1}));
        Object::new(
            &Served::new(resource.parse().unwrap()),
            identity,
            99,
            &manifest,
        )
    }

    #[test]
    fn a_built_in_object_has_the_field_order_of_the_real_server() {
        assert_eq!(
            object("v1/configmaps").json(),
            r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a","namespace":"default","uid":"u-1","resourceVersion":"99","creationTimestamp":"2026-01-01T00:00:00Z","labels":{"app":"we\"b"}},"data":{"n":1}}"#
        );
    }

    #[test]
    fn a_list_item_of_a_built_in_resource_has_no_kind() {
        let (built_in, custom) = (object("v1/configmaps"), object("example.com/v1/widgets"));
        let (mut short, mut full) = (Vec::new(), Vec::new());
        built_in.write_item(&mut short);
        custom.write_item(&mut full);
        assert!(short.starts_with(br#"{"metadata":"#));
        assert_eq!(&full, custom.json());
        assert_eq!(built_in.item_crc(), crc32c::crc32c(&short));
    }

    #[test]
    fn a_deletion_changes_nothing_but_the_resource_version() {
        let old = object("v1/configmaps");
        let deleted = old.at_rv(1234);
        let expected = String::from_utf8_lossy(old.json()).replace("\"99\"", "\"1234\"");
        assert_eq!(deleted.json(), &expected);
        let (mut partial, mut again) = (Vec::new(), Vec::new());
        deleted.write_partial(&mut partial);
        assert!(partial.ends_with(br#""labels":{"app":"we\"b"}}}"#));
        deleted.at_rv(99).write_item(&mut again);
        assert_eq!(deleted.at_rv(99).json(), old.json());
    }

    #[test]
    fn a_field_is_found_by_its_path() {
        let object = object("v1/configmaps");
        assert_eq!(object.field("metadata.name"), "a");
        assert_eq!(object.field("data.n"), "1");
        assert_eq!(object.field("data.missing"), "");
    }
}
