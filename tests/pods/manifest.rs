//! The StatefulSet of `deploy/kubernetes/base`, read as the kubelet reads it.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde::Deserialize;
use serde_json::Value;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kubernetes/base");

/// A grpc probe.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Probe {
    pub(crate) grpc: GrpcProbe,
    #[serde(rename = "timeoutSeconds")]
    pub(crate) timeout_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct GrpcProbe {
    pub(crate) port: u16,
    pub(crate) service: String,
}

/// What the manifests say of a pod.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    namespace: String,
    set: Value,
}

impl Template {
    pub(crate) fn read() -> Self {
        let document = |name: &str| -> Value {
            let text = fs::read_to_string(Path::new(FOLDER).join(name)).unwrap();
            serde_saphyr::from_str(&text).unwrap()
        };
        let kustomization = document("kustomization.yaml");
        Self {
            namespace: kustomization["namespace"].as_str().unwrap().into(),
            set: document("stateful-set.yaml"),
        }
    }

    /// The file that the ConfigMap is made of.
    pub(crate) fn configuration() -> String {
        fs::read_to_string(Path::new(FOLDER).join("quorumwatch.toml")).unwrap()
    }

    /// The pods' names, in order.
    pub(crate) fn pods(&self) -> Vec<String> {
        let name = self.set["metadata"]["name"].as_str().unwrap();
        let replicas = self.set["spec"]["replicas"].as_u64().unwrap();
        (0..replicas).map(|n| format!("{name}-{n}")).collect()
    }

    /// The names that the cluster's DNS gives a pod: whole, and as a pod's search list completes
    /// them.
    pub(crate) fn host_names(&self, pod: &str) -> String {
        let service = self.set["spec"]["serviceName"].as_str().unwrap();
        let short = format!("{pod}.{service}.{}.svc", self.namespace);
        format!("{short}.cluster.local {short}")
    }

    fn spec(&self) -> &Value {
        &self.set["spec"]["template"]["spec"]
    }

    fn container(&self) -> &Value {
        &self.spec()["containers"][0]
    }

    pub(crate) fn arguments(&self) -> Vec<String> {
        serde_json::from_value(self.container()["args"].clone()).unwrap()
    }

    /// The user that the process runs as; the pod must ask for nothing more than that.
    pub(crate) fn user(&self) -> u32 {
        let pod = &self.spec()["securityContext"];
        let container = &self.container()["securityContext"];
        assert_eq!(pod["runAsNonRoot"], true);
        assert_eq!(container["readOnlyRootFilesystem"], true);
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["capabilities"]["drop"][0], "ALL");
        assert_eq!(pod["runAsUser"], pod["runAsGroup"]);
        assert_eq!(pod["runAsUser"], pod["fsGroup"]);
        pod["runAsUser"].as_u64().unwrap().try_into().unwrap()
    }

    /// The environment of a pod, with what refers to others filled in.
    pub(crate) fn environment(&self, pod: &str) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for variable in self.container()["env"].as_array().unwrap() {
            let field = &variable["valueFrom"]["fieldRef"]["fieldPath"];
            let value = match (variable["value"].as_str(), field.as_str()) {
                (Some(value), _) => expand(value, &environment),
                (None, Some("metadata.name")) => pod.to_owned(),
                (None, Some("metadata.namespace")) => self.namespace.clone(),
                other => panic!("a variable without a value: {other:?}"),
            };
            environment.insert(variable["name"].as_str().unwrap().to_owned(), value);
        }
        environment
    }

    /// Where the volume of that name is mounted.
    pub(crate) fn mount_path(&self, volume: &str) -> &str {
        let mounts = self.container()["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == volume).unwrap();
        mount["mountPath"].as_str().unwrap()
    }

    /// The port of a container that has this name.
    pub(crate) fn port(&self, name: &str) -> u16 {
        let ports = self.container()["ports"].as_array().unwrap();
        let port = ports.iter().find(|port| port["name"] == name).unwrap();
        port["containerPort"].as_u64().unwrap().try_into().unwrap()
    }

    /// `startupProbe`, `livenessProbe` or `readinessProbe`.
    pub(crate) fn probe(&self, name: &str) -> Probe {
        serde_json::from_value(self.container()[name].clone()).unwrap()
    }

    /// How long a planned stop may take, what comes before it subtracted.
    pub(crate) fn grace(&self) -> Duration {
        let grace = self.spec()["terminationGracePeriodSeconds"].as_u64();
        let sleep = self.container()["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64();
        Duration::from_secs(grace.unwrap() - sleep.unwrap())
    }
}

/// Replaces `$(NAME)` by what was said before.
fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, value) in known {
        text = text.replace(&format!("$({name})"), value);
    }
    assert!(!text.contains("$("), "nothing is known of {text}");
    text
}
