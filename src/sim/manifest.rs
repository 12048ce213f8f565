//! What a writer sets on an object; the server adds the rest.

use std::collections::BTreeMap;

/// An object to write: everything but what the server decides (UID, resource version, time).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// The labels.
    pub labels: BTreeMap<String, String>,
    /// The members that follow `metadata`, as JSON text without the braces around them:
    /// `"data":{"colour":"red"}`. Empty for none.
    pub body: String,
}

impl Manifest {
    /// An object with a name and nothing else.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            ..Self::default()
        }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds a member beside `metadata`, like `data` or `spec`.
    #[must_use]
    pub fn member(mut self, key: &str, value: &serde_json::Value) -> Self {
        if !self.body.is_empty() {
            self.body.push(',');
        }
        self.body
            .push_str(&serde_json::Value::from(key).to_string());
        self.body.push(':');
        self.body.push_str(&value.to_string());
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Manifest;

    #[test]
    fn members_are_joined_into_a_body() {
        let manifest = Manifest::new("default", "a")
            .member("data", &serde_json::json!({"colour": "red"}))
            .member("immutable", &true.into());
        assert_eq!(manifest.body, r#""data":{"colour":"red"},"immutable":true"#);
    }
}
