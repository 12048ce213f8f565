//! Permissions as Kubernetes writes them: the rule that is missing, and the least role.

use std::{collections::BTreeMap, fmt::Write as _};

use super::questions::Verb;
use crate::domain::cluster::StreamSelector;

/// The rule for reading the cluster's identity.
pub(super) const IDENTITY_RULE: &str = "{apiGroups: [\"\"], resources: [\"namespaces\"], \
                                        resourceNames: [\"kube-system\"], verbs: [\"get\"]}";
/// The name of the role. It holds everything that is needed, so that applying it again is safe.
const ROLE: &str = "quorumwatch-watch";
const GROUP: &str = "rbac.authorization.k8s.io";

/// One rule, in one line; it is YAML.
pub(super) fn rule(selector: &StreamSelector, verbs: &[Verb]) -> String {
    let resource = &selector.resource;
    let verbs: Vec<_> = verbs
        .iter()
        .map(|verb| format!("{:?}", verb.name()))
        .collect();
    let rule = format!(
        "{{apiGroups: [{:?}], resources: [{:?}], verbs: [{}]}}",
        resource.group,
        resource.plural,
        verbs.join(", ")
    );
    if selector.namespace.is_empty() {
        rule
    } else {
        format!("{rule} in namespace {}", selector.namespace)
    }
}

/// The least that watching these streams needs, for the user who asked.
pub(super) fn manifest(selectors: &[StreamSelector], user: &str) -> String {
    let mut rules: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    rules.entry("").or_default().push(IDENTITY_RULE.to_owned());
    for selector in selectors {
        let everywhere = StreamSelector::all(selector.resource.clone());
        let rule = rule(&everywhere, &Verb::ALL);
        let known = rules.entry(&selector.namespace).or_default();
        if !known.contains(&rule) {
            known.push(rule);
        }
    }
    let mut text = String::new();
    for (namespace, rules) in rules {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        role(&mut text, namespace, &rules, user);
    }
    text
}

fn role(text: &mut String, namespace: &str, rules: &[String], user: &str) {
    let prefix = if namespace.is_empty() { "Cluster" } else { "" };
    let mut metadata = format!("{{name: {ROLE}");
    if !namespace.is_empty() {
        let _ = write!(metadata, ", namespace: {namespace:?}");
    }
    metadata.push('}');
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "apiVersion: {GROUP}/v1\nkind: {prefix}Role\nmetadata: {metadata}\nrules:"
    );
    for rule in rules {
        let _ = writeln!(text, "- {rule}");
    }
    let _ = writeln!(
        text,
        "---\napiVersion: {GROUP}/v1\nkind: {prefix}RoleBinding\nmetadata: {metadata}\n\
         roleRef: {{apiGroup: {GROUP}, kind: {prefix}Role, name: {ROLE}}}\nsubjects:\n- {}",
        subject(user)
    );
}

fn subject(user: &str) -> String {
    let account = user.strip_prefix("system:serviceaccount:");
    match account.and_then(|account| account.split_once(':')) {
        Some((namespace, name)) => {
            format!("{{kind: ServiceAccount, namespace: {namespace:?}, name: {name:?}}}")
        }
        None if user.is_empty() => {
            format!("{{kind: User, apiGroup: {GROUP}, name: \"(the user of this kubeconfig)\"}}")
        }
        None => format!("{{kind: User, apiGroup: {GROUP}, name: {user:?}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{StreamSelector, manifest};

    fn selector(resource: &str, namespace: &str) -> StreamSelector {
        StreamSelector {
            namespace: namespace.into(),
            ..StreamSelector::all(resource.parse().unwrap())
        }
    }

    #[test]
    fn a_role_is_as_wide_as_the_streams_and_no_wider() {
        let text = manifest(
            &[
                selector("apps/v1/deployments", ""),
                selector("v1/events", "shop"),
            ],
            "system:serviceaccount:monitoring:quorumwatch",
        );
        let parts: Vec<_> = text.split("---\n").collect();
        assert_eq!(parts.len(), 4, "{text}");
        assert!(parts[0].contains("kind: ClusterRole\n") && parts[0].contains("kube-system"));
        let deployments = "- {apiGroups: [\"apps\"], resources: [\"deployments\"], \
                           verbs: [\"list\", \"watch\"]}\n";
        assert!(parts[0].contains(deployments), "{text}");
        assert!(!parts[0].contains("\"events\""), "{text}");
        assert!(parts[1].contains("kind: ClusterRoleBinding\n"), "{text}");
        let subject = "- {kind: ServiceAccount, namespace: \"monitoring\", name: \"quorumwatch\"}";
        assert!(
            parts[1].contains(subject) && parts[3].contains(subject),
            "{text}"
        );
        assert!(parts[2].contains("kind: Role\n"), "{text}");
        assert!(
            parts[2].contains("{name: quorumwatch-watch, namespace: \"shop\"}"),
            "{text}"
        );
    }
}
