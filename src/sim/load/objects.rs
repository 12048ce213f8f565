//! What generated objects look like.

use std::fmt::Write as _;

use rand::{Rng, rngs::SmallRng, seq::IndexedRandom as _};

use crate::{
    domain::cluster::Resource,
    sim::{manifest::Manifest, store::rfc3339_seconds},
};

const NAMESPACES: &[&str] = &["default", "kube-system", "payments", "shop", "monitoring"];
const APPS: &[&str] = &[
    "api",
    "checkout",
    "ingest",
    "mailer",
    "scheduler",
    "web",
    "worker",
];

/// Reason, type and message of the most common events of kubelet, scheduler and controllers.
const OCCASIONS: &[(&str, &str, &str, &str)] = &[
    (
        "Pulled",
        "Normal",
        "kubelet",
        "Container image already present on machine",
    ),
    ("Created", "Normal", "kubelet", "Created container: main"),
    ("Started", "Normal", "kubelet", "Started container main"),
    (
        "Scheduled",
        "Normal",
        "default-scheduler",
        "Successfully assigned the pod to a node",
    ),
    ("Killing", "Normal", "kubelet", "Stopping container main"),
    (
        "BackOff",
        "Warning",
        "kubelet",
        "Back-off restarting failed container main in pod",
    ),
    (
        "Unhealthy",
        "Warning",
        "kubelet",
        "Readiness probe failed: HTTP probe failed with 503",
    ),
    (
        "FailedScheduling",
        "Warning",
        "default-scheduler",
        "0/6 nodes are available",
    ),
];

/// One object, able to produce its next version.
#[derive(Clone, Debug)]
pub(super) struct Template {
    namespace: &'static str,
    name: String,
    app: &'static str,
    /// The pod that an Event is about.
    pod: String,
    occasion: (&'static str, &'static str, &'static str, &'static str),
    is_event: bool,
    first_us: u64,
    count: u32,
    padding: usize,
}

impl Template {
    pub(super) fn draw(rng: &mut SmallRng, resource: &Resource) -> Self {
        let app = pick(rng, APPS);
        let pod = format!(
            "{app}-{:08x}-{:05x}",
            rng.random::<u32>(),
            rng.random_range(0..1 << 20)
        );
        let suffix: u64 = rng.random();
        Self {
            namespace: pick(rng, NAMESPACES),
            name: format!("{pod}.{suffix:016x}"),
            app,
            occasion: pick(rng, OCCASIONS),
            is_event: resource.is_events(),
            first_us: 0,
            count: 0,
            padding: 0,
            pod,
        }
    }

    pub(super) fn key(&self) -> (&str, &str) {
        (self.namespace, &self.name)
    }

    /// The object as it is next, about `object_bytes` long in JSON where it is new.
    pub(super) fn next(&mut self, object_bytes: usize, now_us: u64) -> Manifest {
        self.count += 1;
        if self.count == 1 {
            self.first_us = now_us;
        }
        let mut manifest = Manifest::new(self.namespace, self.name.clone());
        if self.is_event {
            manifest.body = self.event_body(now_us);
        } else {
            manifest = manifest.label("app", self.app);
            manifest.body = self.plain_body();
        }
        if self.count == 1 {
            /// Length of what the server adds: kind, metadata, UID.
            const ENVELOPE_BYTES: usize = 290;
            let length = manifest.body.len() + ENVELOPE_BYTES;
            self.padding = object_bytes.saturating_sub(length);
            // The padding stands inside the last member's text.
            let at = manifest.body.len() - 2;
            manifest.body.insert_str(at, &".".repeat(self.padding));
        }
        manifest
    }

    fn event_body(&self, now_us: u64) -> String {
        let (reason, kind, component, message) = self.occasion;
        let (first, last) = (rfc3339_seconds(self.first_us), rfc3339_seconds(now_us));
        let Self {
            namespace,
            pod,
            count,
            ..
        } = self;
        let padding = ".".repeat(self.padding);
        let mut body = String::with_capacity(640 + padding.len());
        // Writing into a String cannot fail.
        let _ = write!(
            body,
            r#""involvedObject":{{"kind":"Pod","namespace":"{namespace}","name":"{pod}","uid":"{uid:08x}-0000-4000-8000-000000000000","apiVersion":"v1","resourceVersion":"1","fieldPath":"spec.containers{{main}}"}},"reason":"{reason}","source":{{"component":"{component}","host":"node-{host}"}},"firstTimestamp":"{first}","lastTimestamp":"{last}","count":{count},"type":"{kind}","eventTime":null,"reportingComponent":"{component}","reportingInstance":"node-{host}","message":"{message} {padding} ""#,
            uid = crc32c::crc32c(pod.as_bytes()),
            host = pod.len() % 6,
        );
        body
    }

    fn plain_body(&self) -> String {
        let padding = ".".repeat(self.padding);
        format!(
            r#""data":{{"generation":"{}","padding":"{padding} "}}"#,
            self.count
        )
    }
}

fn pick<T: Copy>(rng: &mut impl Rng, choices: &[T]) -> T {
    // No list of choices here is empty.
    *choices
        .choose(rng)
        .expect("choices are constants, none empty")
}
