//! A set of texts.

use std::collections::HashSet;

/// A set of texts, in which one is found at the same price however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Values(HashSet<Box<str>>);

impl Values {
    /// Whether a value matches: it is one of these, or the list is empty.
    pub fn accepts(&self, value: &str) -> bool {
        self.is_empty() || self.contains(value)
    }

    /// Whether a value is one of these.
    pub fn contains(&self, value: &str) -> bool {
        self.0.contains(value)
    }

    /// Whether the list is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each once, in ascending order.
    pub fn sorted(&self) -> Vec<&str> {
        let mut values: Vec<_> = self.0.iter().map(|value| &**value).collect();
        values.sort_unstable();
        values
    }
}

impl FromIterator<String> for Values {
    fn from_iter<T: IntoIterator<Item = String>>(values: T) -> Self {
        Self(values.into_iter().map(String::into_boxed_str).collect())
    }
}

impl From<Vec<String>> for Values {
    fn from(values: Vec<String>) -> Self {
        values.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::vec,
        prelude::{prop_assert_eq, proptest},
    };

    use super::Values;

    #[test]
    fn no_values_accept_every_value() {
        assert!(Values::default().accepts("a"));
        assert!(!Values::default().contains("a"));
        assert!(!Values::from(vec!["b".to_owned()]).accepts("a"));
    }

    proptest! {
        #[test]
        fn what_was_put_in_is_found_and_nothing_else(
            values in vec("[a-c]{0,3}", 0..20),
            sought in "[a-c]{0,3}",
        ) {
            let set = Values::from(values.clone());
            prop_assert_eq!(set.contains(&sought), values.contains(&sought));
            let mut sorted = values;
            sorted.sort();
            sorted.dedup();
            prop_assert_eq!(set.sorted(), sorted);
        }
    }
}
