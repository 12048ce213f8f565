//! The manifests are what a real API server accepts, without a warning, and keeps.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};

use crate::{
    control_plane::{ControlPlane, Options},
    manifests::{FOLDER, Manifest, Run, documents, render},
    rest::Rest,
};

/// Every directory that `kubectl apply -k` is meant for.
const FOLDERS: [&str; 3] = ["base", "in-cluster", "watched-cluster"];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real API server: tests/kube/run.sh"]
async fn every_manifest_is_accepted_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let plane = ControlPlane::start(folder.path(), "k0", Options::default()).await;
    let plane = plane.unwrap();
    let rest = Rest(plane.client());
    for folder in FOLDERS {
        let manifests = render(folder).await;
        assert_nothing_is_left_out(folder, &manifests);
        // Objects in a namespace are only validated if it exists.
        for namespace in manifests.iter().filter(|m| m.kind() == "Namespace") {
            namespace.expect(&rest, Run::Dry).await;
            namespace.expect(&rest, Run::Real).await;
        }
        for manifest in &manifests {
            manifest.expect(&rest, Run::Dry).await;
            manifest.expect(&rest, Run::Real).await;
            let kept = manifest.read(&rest).await.unwrap();
            assert_has(&kept, &manifest.0, manifest.name());
            let (kind, name) = (manifest.kind(), manifest.name());
            eprintln!("{folder}: {kind} {name}: accepted and kept");
        }
        if let Some(set) = manifests.iter().find(|m| m.kind() == "StatefulSet") {
            assert_pods_are_those_of_the_base(set);
            expect_refused(set, &rest).await;
            expect_pod_is_admitted(set, &rest).await;
        }
    }
}

/// Every document of every file is part of what is rendered.
fn assert_nothing_is_left_out(folder: &str, rendered: &[Manifest]) {
    let key = |manifest: &Manifest| (manifest.kind().to_owned(), manifest.name().to_owned());
    let rendered: BTreeSet<_> = rendered.iter().map(key).collect();
    for file in fs::read_dir(Path::new(FOLDER).join(folder)).unwrap() {
        let path = file.unwrap().path();
        let is_manifest = path.extension().is_some_and(|ending| ending == "yaml")
            && !path.ends_with("kustomization.yaml");
        if is_manifest {
            for manifest in documents(&fs::read_to_string(&path).unwrap()) {
                assert!(rendered.contains(&key(&manifest)), "{manifest:?}");
            }
        }
    }
}

/// What `tests/pods` reads from the file is what is rendered.
fn assert_pods_are_those_of_the_base(set: &Manifest) {
    let file = Path::new(FOLDER).join("base/stateful-set.yaml");
    let file = documents(&fs::read_to_string(file).unwrap()).remove(0);
    let environment = "/spec/template/spec/containers/0/env";
    let probe = "/spec/template/spec/containers/0/readinessProbe";
    for part in [environment, probe, "/spec/serviceName", "/spec/replicas"] {
        assert_eq!(set.0.pointer(part), file.0.pointer(part), "{part}");
        assert!(file.0.pointer(part).is_some(), "{part}");
    }
}

/// Whether all that was written is there, among what the API server adds.
fn assert_has(kept: &Value, written: &Value, at: &str) {
    match (kept, written) {
        (Value::Object(kept), Value::Object(written)) => {
            for (field, value) in written {
                let kept = kept.get(field).unwrap_or(&Value::Null);
                assert_has(kept, value, &format!("{at}.{field}"));
            }
        }
        (Value::Array(kept), Value::Array(written)) => {
            assert_eq!(kept.len(), written.len(), "{at}");
            for (kept, written) in kept.iter().zip(written) {
                assert_has(kept, written, at);
            }
        }
        _ => assert_eq!(kept, written, "{at}"),
    }
}

/// The validation is strict: a field that does not exist is refused, and so is a wrong value.
async fn expect_refused(set: &Manifest, rest: &Rest) {
    let mut misspelled = set.clone();
    misspelled.0["spec"]["template"]["spec"]["enableServiceLink"] = false.into();
    let verdict = misspelled.apply(rest, Run::Dry).await;
    assert!(verdict.status >= 400, "{}", verdict.summary());
    let mut wrong = set.clone();
    wrong.0["spec"]["podManagementPolicy"] = "Sideways".into();
    let verdict = wrong.apply(rest, Run::Dry).await;
    assert_eq!(verdict.status, 422, "{}", verdict.summary());
}

/// A pod as the StatefulSet's controller would make it keeps the namespace's Pod Security Standard,
/// and one that does not drop its capabilities is refused.
async fn expect_pod_is_admitted(set: &Manifest, rest: &Rest) {
    let template = &set.0["spec"]["template"];
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "quorumwatch-0",
            "namespace": set.namespace(),
            "labels": template["metadata"]["labels"],
        },
        "spec": template["spec"],
    });
    let claim = json!({ "name": "data", "persistentVolumeClaim": { "claimName": "data-q-0" } });
    let volumes = pod["spec"]["volumes"].as_array_mut();
    volumes.unwrap().push(claim);
    let pod = Manifest(pod);
    pod.expect(rest, Run::Dry).await;
    let mut strong = pod;
    let container = &mut strong.0["spec"]["containers"][0];
    container["securityContext"]["capabilities"] = json!({});
    let verdict = strong.apply(rest, Run::Dry).await;
    assert_eq!(verdict.status, 403, "{}", verdict.summary());
    assert!(
        verdict.summary().contains("restricted"),
        "{}",
        verdict.summary()
    );
}
