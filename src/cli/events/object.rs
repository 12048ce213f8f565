//! Objects as people name them.

use crate::proto::v1::ObjectReference;

/// What kubectl accepts besides the kind itself: plurals and short names.
const KINDS: &[(&str, &str)] = &[
    ("cj", "CronJob"),
    ("cm", "ConfigMap"),
    ("deploy", "Deployment"),
    ("ds", "DaemonSet"),
    ("ep", "Endpoints"),
    ("hpa", "HorizontalPodAutoscaler"),
    ("ing", "Ingress"),
    ("ingresses", "Ingress"),
    ("networkpolicies", "NetworkPolicy"),
    ("no", "Node"),
    ("ns", "Namespace"),
    ("pdb", "PodDisruptionBudget"),
    ("po", "Pod"),
    ("pv", "PersistentVolume"),
    ("pvc", "PersistentVolumeClaim"),
    ("rs", "ReplicaSet"),
    ("sa", "ServiceAccount"),
    ("sts", "StatefulSet"),
    ("svc", "Service"),
];

/// Plurals that are the kind and an `s`.
const WITH_S: &[&str] = &[
    "ConfigMap",
    "CronJob",
    "DaemonSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "Job",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "Pod",
    "PodDisruptionBudget",
    "ReplicaSet",
    "Secret",
    "Service",
    "ServiceAccount",
    "StatefulSet",
];

/// Reads `KIND/NAME`; without a name it means all of the kind.
pub(super) fn involved_object(text: &str) -> Result<ObjectReference, &'static str> {
    let (kind, name) = text
        .split_once('/')
        .filter(|(kind, name)| !kind.is_empty() && !name.contains('/'))
        .ok_or("use KIND/NAME, like pod/web-0")?;
    Ok(ObjectReference {
        kind: kind_of(kind).into(),
        name: name.into(),
        ..ObjectReference::default()
    })
}

/// The kind that a word means; kinds are compared in any case.
fn kind_of(word: &str) -> &str {
    // kubectl's deployments.v1.apps.
    let word = word.split('.').next().unwrap_or(word);
    let same = |other: &str| other.eq_ignore_ascii_case(word);
    let short = KINDS.iter().find(|(name, _)| same(name));
    let stem = word.strip_suffix(['s', 'S']);
    let plural = WITH_S
        .iter()
        .find(|kind| stem.is_some_and(|stem| kind.eq_ignore_ascii_case(stem)));
    short
        .map(|(_, kind)| *kind)
        .or_else(|| plural.copied())
        .unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::involved_object;

    #[test]
    fn objects_are_named_as_for_kubectl() {
        for (text, kind, name) in [
            ("Pod/web-0", "Pod", "web-0"),
            ("pods/web-0", "Pod", "web-0"),
            ("po/web-0", "Pod", "web-0"),
            ("deployments.v1.apps/web", "Deployment", "web"),
            ("Ingress/web", "Ingress", "web"),
            ("Certificate/web", "Certificate", "web"),
            ("pod/", "Pod", ""),
        ] {
            let object = involved_object(text).unwrap();
            assert!(object.kind.eq_ignore_ascii_case(kind), "{text}: {object:?}");
            assert_eq!(object.name, name, "{text}");
        }
        for text in ["Pod", "/web-0", "a/b/c", ""] {
            assert!(involved_object(text).is_err(), "{text}");
        }
    }
}
