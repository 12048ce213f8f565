//! What a specification must be: [`ClusterSpec::violations`].

use std::collections::BTreeSet;

use super::{ClusterSpec, ResourceSelector, Source, StreamSelector};
use crate::domain::label::{is_dns_label, is_label_key, is_label_value};

/// Why a cluster's specification is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidSpec {
    /// The field at fault, as the public API calls it: `cluster.resources[1].namespaces[0]`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

impl InvalidSpec {
    /// The field at fault, as the public API calls it.
    pub fn field(&self) -> &str {
        &self.field
    }
}

impl ClusterSpec {
    /// Most streams of one cluster: each costs a connection to its API server.
    pub const STREAMS_MAX: usize = 64;
    /// Most labels of one cluster.
    pub const LABELS_MAX: usize = 64;
    /// Longest description.
    pub const DESCRIPTION_BYTES_MAX: usize = 1024;
    /// Longest selector, path or name of a source.
    pub const TEXT_BYTES_MAX: usize = 1024;
    /// Longest inline kubeconfig: it travels in one log entry.
    pub const INLINE_BYTES_MAX: usize = 64 * 1024;

    /// Checks everything that can be checked without reaching the cluster; the first fault.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        match self.violations().into_iter().next() {
            Some(fault) => Err(fault),
            None => Ok(()),
        }
    }

    /// Everything that is wrong and can be seen without reaching the cluster.
    pub fn violations(&self) -> Vec<InvalidSpec> {
        let mut faults = Faults::default();
        self.check_names(&mut faults);
        self.check_labels(&mut faults);
        self.check_source(&mut faults);
        self.check_resources(&mut faults);
        self.check_streams(&mut faults);
        faults.0
    }

    fn check_names(&self, faults: &mut Faults) {
        if !is_cluster_name(&self.name) {
            let message = format!(
                "cluster name {} is not valid: {NAME_RULE}",
                shown(&self.name)
            );
            faults.add("name", message);
        }
        faults.check_length(
            "description",
            "the description",
            &self.description,
            Self::DESCRIPTION_BYTES_MAX,
        );
        let of = &self.duplicate_of;
        if !of.is_empty() && !is_cluster_name(of) {
            let message = format!(
                "duplicate_of names {}, which no cluster can be called: {NAME_RULE}",
                shown(of)
            );
            faults.add("duplicate_of", message);
        } else if !of.is_empty() && *of == self.name {
            let message = format!(
                "duplicate_of names cluster {of:?} itself: name the other registration, or leave \
                 it empty"
            );
            faults.add("duplicate_of", message);
        }
    }

    fn check_labels(&self, faults: &mut Faults) {
        let (count, max) = (self.labels.len(), Self::LABELS_MAX);
        if count > max {
            // The keys and values of so many are not worth a message each.
            let message = format!("{count} labels are too many; the maximum is {max}");
            return faults.add("labels", message);
        }
        for (key, value) in &self.labels {
            if !is_label_key(key) {
                let message = format!(
                    "label key {} is not valid: use up to 63 letters, digits, '-', '_' or '.', \
                     beginning and ending with a letter or digit, and before them an optional \
                     DNS name and '/', like example.com/tier",
                    shown(key)
                );
                faults.add("labels", message);
            }
            if !is_label_value(value) {
                let message = format!(
                    "value {} of label {} is not valid: use up to 63 letters, digits, '-', '_' or \
                     '.', beginning and ending with a letter or digit, or nothing",
                    shown(value),
                    shown(key)
                );
                faults.add("labels", message);
            }
        }
    }

    fn check_source(&self, faults: &mut Faults) {
        let max = Self::TEXT_BYTES_MAX;
        match &self.source {
            Source::KubeconfigFile { path, context } => {
                let field = "source.kubeconfig_file";
                faults.check_length(&format!("{field}.path"), "the kubeconfig's path", path, max);
                faults.check_length(&format!("{field}.context"), "the context", context, max);
            }
            Source::KubeconfigInline { yaml, context } => {
                let field = "source.kubeconfig_inline";
                let (field_yaml, yaml_max) = (format!("{field}.yaml"), Self::INLINE_BYTES_MAX);
                faults.check_length(&field_yaml, "the inline kubeconfig", yaml, yaml_max);
                faults.check_length(&format!("{field}.context"), "the context", context, max);
            }
            Source::Configured { name } => {
                faults.check_length("source.configured", "the source's name", name, max);
            }
            Source::InCluster => {}
        }
    }

    fn check_resources(&self, faults: &mut Faults) {
        let streams: usize = self
            .resources
            .iter()
            .map(|selector| selector.namespaces.len().max(1))
            .sum();
        let max = Self::STREAMS_MAX;
        if streams > max {
            let message = format!(
                "{streams} streams are too many, one for each resource and namespace; the maximum \
                 is {max}: watch all namespaces of a resource as one stream, or fewer resources"
            );
            return faults.add("resources", message);
        }
        for (at, selector) in self.resources.iter().enumerate() {
            check_selector(&format!("resources[{at}]"), selector, faults);
        }
    }

    fn check_streams(&self, faults: &mut Faults) {
        if !faults.0.is_empty() {
            // A long list could be far too long to be compared.
            return;
        }
        let mut seen: BTreeSet<StreamSelector> = BTreeSet::new();
        for (at, selector) in self.resources.iter().enumerate() {
            let repeated = selector.streams().into_iter().any(|s| !seen.insert(s));
            if repeated {
                let message = format!(
                    "resource {} is named twice with the same namespace and selectors; name it \
                     once",
                    selector.resource
                );
                faults.add(&format!("resources[{at}]"), message);
            }
        }
        let mut events = self
            .resources
            .iter()
            .map(|selector| &selector.resource)
            .filter(|resource| resource.is_events());
        if let Some(first) = events.next()
            && let Some(other) = events.find(|other| *other != first)
        {
            let message = format!(
                "{first} and {other} select the same objects, so every event would be delivered \
                 twice; keep one of them"
            );
            faults.add("resources", message);
        }
    }
}

fn check_selector(field: &str, selector: &ResourceSelector, faults: &mut Faults) {
    for (at, namespace) in selector.namespaces.iter().enumerate() {
        if !is_dns_label(namespace) {
            let message = format!(
                "namespace {} is not valid: use 1 to 63 lowercase letters, digits or '-', \
                 beginning and ending with a letter or digit; leave the list empty for all \
                 namespaces",
                shown(namespace)
            );
            faults.add(&format!("{field}.namespaces[{at}]"), message);
        }
    }
    let max = ClusterSpec::TEXT_BYTES_MAX;
    let label = &selector.label_selector;
    faults.check_length(
        &format!("{field}.label_selector"),
        "the label selector",
        label,
        max,
    );
    let fields = &selector.field_selector;
    faults.check_length(
        &format!("{field}.field_selector"),
        "the field selector",
        fields,
        max,
    );
}

/// Faults found so far. Their number is bounded by the limits that are checked first.
#[derive(Default)]
struct Faults(Vec<InvalidSpec>);

impl Faults {
    fn add(&mut self, field: &str, message: String) {
        let field = format!("cluster.{field}");
        self.0.push(InvalidSpec { field, message });
    }

    fn check_length(&mut self, field: &str, what: &str, text: &str, max: usize) {
        let bytes = text.len();
        if bytes > max {
            self.add(
                field,
                format!("{what} has {bytes} bytes; the maximum is {max}"),
            );
        }
    }
}

const NAME_RULE: &str = "use 1 to 63 lowercase letters, digits, '-' or '.', beginning and ending \
                         with a letter or digit";

/// A user's text, quoted and truncated.
fn shown(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let short: String = text.chars().take(CHARS_MAX).collect();
    let rest = if short.len() < text.len() { "..." } else { "" };
    format!("{short:?}{rest}")
}

/// Whether a text can be the name of a cluster: safe in URLs, file names, log lines and shard names.
pub fn is_cluster_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(b);
    let outer = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    bytes.len() <= 63 && bytes.iter().all(inner) && outer(bytes.first()) && outer(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::{ClusterSpec, Source};
    use crate::domain::{
        cluster::{Resource, StreamSelector},
        fixtures::spec,
    };

    fn fields(spec: &ClusterSpec) -> Vec<String> {
        let faults = spec.violations();
        assert_eq!(spec.validate().err().as_ref(), faults.first());
        faults.into_iter().map(|fault| fault.field).collect()
    }

    #[test]
    fn without_resources_events_are_watched() {
        let spec = spec("c", &[]);
        assert_eq!(fields(&spec), [""; 0]);
        let events = StreamSelector::all(Resource::events());
        assert_eq!(spec.stream_selectors(), [events]);
    }

    #[test]
    fn events_may_be_watched_under_one_name_only() {
        let both = spec("c", &["v1/events", "events.k8s.io/v1/events"]);
        assert_eq!(fields(&both), ["cluster.resources"]);
        assert_eq!(fields(&spec("c", &["v1/events", "v1/pods"])), [""; 0]);
    }

    #[test]
    fn bad_names_are_refused() {
        for name in ["", "-a", "a-", "A", "a/b", "ä", &"a".repeat(64)] {
            assert_eq!(
                fields(&spec(name, &["v1/pods"])),
                ["cluster.name"],
                "{name}"
            );
        }
    }

    #[test]
    fn the_same_stream_twice_is_refused() {
        let mut twice = spec("c", &["v1/pods", "v1/pods"]);
        assert_eq!(fields(&twice), ["cluster.resources[1]"]);
        twice.resources[1].namespaces = vec!["shop".into()];
        assert_eq!(fields(&twice), [""; 0]);
        twice.resources[0].namespaces = vec!["pay".into(), "shop".into()];
        assert_eq!(fields(&twice), ["cluster.resources[1]"]);
        twice.resources[1].label_selector = "app=web".into();
        assert_eq!(fields(&twice), [""; 0]);
    }

    #[test]
    fn streams_are_counted_with_their_namespaces() {
        let mut many = spec("c", &["v1/pods", "v1/events"]);
        let max = ClusterSpec::STREAMS_MAX;
        many.resources[0].namespaces = (1..max).map(|n| format!("n{n}")).collect();
        assert_eq!(fields(&many), [""; 0]);
        assert_eq!(many.stream_selectors().len(), max);
        many.resources[0].namespaces.push("one-more".into());
        assert_eq!(fields(&many), ["cluster.resources"]);
    }

    #[test]
    fn labels_are_as_kubernetes_has_them() {
        let mut labels = spec("c", &[]);
        labels.labels = [("example.com/tier".into(), "1".into())].into();
        assert_eq!(fields(&labels), [""; 0]);
        labels.labels = [("a b".into(), "c d".into())].into();
        assert_eq!(fields(&labels), ["cluster.labels"; 2]);
        let max = ClusterSpec::LABELS_MAX;
        labels.labels = (0..=max)
            .map(|n| (format!("k{n}"), String::new()))
            .collect();
        assert_eq!(fields(&labels), ["cluster.labels"]);
    }

    #[test]
    fn every_fault_names_its_field() {
        let mut wrong = spec("c", &["v1/pods", "v1/events"]);
        wrong.resources[1].namespaces = vec!["shop".into(), String::new()];
        wrong.resources[1].field_selector = "x".repeat(ClusterSpec::TEXT_BYTES_MAX + 1);
        wrong.description = "x".repeat(ClusterSpec::DESCRIPTION_BYTES_MAX + 1);
        wrong.source = Source::KubeconfigInline {
            yaml: "x".repeat(ClusterSpec::INLINE_BYTES_MAX + 1),
            context: String::new(),
        };
        let expected = [
            "cluster.description",
            "cluster.source.kubeconfig_inline.yaml",
            "cluster.resources[1].namespaces[1]",
            "cluster.resources[1].field_selector",
        ];
        assert_eq!(fields(&wrong), expected);
    }

    #[test]
    fn a_duplicate_is_of_another_cluster() {
        let mut copy = spec("c", &[]);
        for (of, valid) in [("other", true), ("c", false), ("A/b", false)] {
            copy.duplicate_of = of.into();
            assert_eq!(fields(&copy).is_empty(), valid, "{of}");
        }
    }
}
