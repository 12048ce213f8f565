//! What we may do on a cluster: [`examine`]. It asks everything that watching will ask, once, and
//! reports what is missing. It changes nothing and stores nothing.
//!
//! Real requests are the judge: a list of one object, and a watch that is left at once. The server's
//! own `SelfSubjectAccessReview` may be forbidden, or wrong where another authoriser decides; what it
//! reports is shown beside it.

mod questions;
mod rbac;

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt as _, stream};

use super::{
    CredentialPolicy, WatchPolicy, api_error::ApiError, client::ApiServer, health::describe,
    requests,
};
use crate::domain::{
    cluster::{Cluster, ClusterSpec, Health, Source, StreamSelector},
    id::{ClusterId, Epoch, Revision, UnixMillis},
    position::ResourceVersion,
};
use questions::{Served, Verb};

/// Streams that are checked concurrently: few, so as not to burden an API server in trouble.
const STREAMS_AT_ONCE: usize = 8;

/// One thing that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What was asked about.
    pub check: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found, in one sentence. Never a credential.
    pub detail: String,
    /// What to change; empty where nothing is to be changed.
    pub advice: String,
}

/// How something went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it must be.
    Ok,
    /// It works, but something is worth knowing.
    Warning,
    /// It will not work.
    Failed,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examined {
    /// In the order in which a watcher would meet them.
    pub answers: Vec<Answer>,
    /// Where a permission is missing: the least role that is needed, and its binding, ready to be
    /// applied. Empty otherwise.
    pub manifest: String,
}

impl Answer {
    fn new(check: impl Into<String>, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            check: check.into(),
            verdict,
            detail: detail.into(),
            advice: String::new(),
        }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    fn failed(check: impl Into<String>, error: &ApiError, source: &Source) -> Self {
        Self::new(check, Verdict::Failed, error.to_string()).advise(advice(error, source))
    }
}

/// Asks a cluster everything that watching it will ask. Ends within a few times the limits of
/// `policy`, whatever the cluster does.
pub async fn examine(
    spec: ClusterSpec,
    credentials: Arc<CredentialPolicy>,
    policy: WatchPolicy,
) -> Examined {
    let selectors = spec.stream_selectors();
    let source = spec.source.clone();
    // Nobody has minted an id: the cluster may not be monitored yet.
    let cluster = Cluster {
        id: ClusterId(0),
        spec: Arc::new(spec),
        uid: None,
        created: UnixMillis(0),
        updated: UnixMillis(0),
        revision: Revision(0),
        watch_revision: Revision(0),
        health_epoch: Epoch(0),
        health: Health::unknown(UnixMillis(0)),
    };
    let api = ApiServer::new(Arc::new(cluster), credentials, policy);
    let examination = Examination {
        api,
        selectors,
        source,
    };
    examination.run().await
}

/// One cluster under examination.
struct Examination {
    api: ApiServer,
    selectors: Vec<StreamSelector>,
    /// Where its credentials come from.
    source: Source,
}

/// What is known of one stream.
struct Stream {
    answer: Answer,
    /// Verbs that are refused.
    missing: Vec<Verb>,
}

impl Examination {
    async fn run(&self) -> Examined {
        let mut answers = Vec::new();
        let target = match self.api.target().await {
            Ok(target) => target,
            Err(error) => {
                answers.push(Answer::failed("credentials", &error, &self.source));
                return Examined {
                    answers,
                    manifest: String::new(),
                };
            }
        };
        let (version, user) = tokio::join!(self.api.version(), self.api.user());
        let user = user.unwrap_or_default();
        let who = if user.is_empty() {
            target.credential.to_owned()
        } else {
            format!("{}, known there as {user}", target.credential)
        };
        answers.push(Answer::new("credentials", Verdict::Ok, who));
        let server = server(&target.url, version, &self.source);
        let is_reached = server.verdict != Verdict::Failed;
        answers.push(server);
        let mut manifest = String::new();
        if is_reached {
            let (identity, streams) = tokio::join!(self.identity(), self.streams());
            let lacks = identity.verdict != Verdict::Ok
                || streams.iter().any(|stream| !stream.missing.is_empty());
            if lacks {
                manifest = rbac::manifest(&self.selectors, &user);
            }
            answers.push(identity);
            answers.extend(streams.into_iter().map(|stream| stream.answer));
        }
        Examined { answers, manifest }
    }

    /// The UID of kube-system distinguishes clusters.
    async fn identity(&self) -> Answer {
        let check = "get namespace kube-system";
        match self.api.identity().await {
            Ok(uid) => Answer::new(check, Verdict::Ok, format!("UID {uid}")),
            Err(error) if error.code() == Some(403) => {
                let detail = "cannot be read, so another cluster behind this address would not be \
                              noticed";
                Answer::new(check, Verdict::Warning, detail)
                    .advise(format!("grant {}", rbac::IDENTITY_RULE))
            }
            Err(error) => Answer::failed(check, &error, &self.source),
        }
    }

    async fn streams(&self) -> Vec<Stream> {
        let versions: BTreeMap<_, _> = self
            .selectors
            .iter()
            .map(|selector| (questions::discovery_path(&selector.resource), ()))
            .collect();
        let found = stream::iter(versions.into_keys())
            .map(|path| async move {
                let served = self.api.served(&path).await;
                (path, served)
            })
            .buffer_unordered(STREAMS_AT_ONCE)
            .collect::<BTreeMap<_, _>>()
            .await;
        let looks: Vec<_> = self
            .selectors
            .iter()
            .map(|selector| {
                let served = &found[&questions::discovery_path(&selector.resource)];
                self.stream(selector, served)
            })
            .collect();
        stream::iter(looks)
            .buffered(STREAMS_AT_ONCE)
            .collect()
            .await
    }

    async fn stream(
        &self,
        selector: &StreamSelector,
        served: &Result<Vec<Served>, ApiError>,
    ) -> Stream {
        let check = describe(selector);
        if let Some(answer) = unserved(&check, selector, served) {
            return Stream {
                answer,
                missing: Vec::new(),
            };
        }
        let (reviews, tried) = tokio::join!(self.reviews(selector), self.attempt(selector));
        judge(check, selector, &tried, &reviews, &self.source)
    }

    /// The result of the server's own review, if any.
    async fn reviews(&self, selector: &StreamSelector) -> BTreeMap<Verb, bool> {
        let review = |verb| async move {
            let allowed = self.api.review(selector, verb).await;
            allowed.ok().map(|allowed| (verb, allowed))
        };
        let reviews = futures::future::join_all(Verb::ALL.map(review)).await;
        reviews.into_iter().flatten().collect()
    }

    /// Really lists and watches.
    async fn attempt(&self, selector: &StreamSelector) -> BTreeMap<Verb, Result<(), ApiError>> {
        let listed = self.api.list_version(selector).await;
        // Any version will do to ask whether a watch may be opened.
        let any = ResourceVersion::from(1);
        let from = listed.as_ref().unwrap_or(&any);
        let watched = match self.api.open(requests::watch(selector, from, 1)).await {
            // It is allowed, but begins too far in the past.
            Err(error) if listed.is_err() && error.code() == Some(410) => Ok(()),
            watched => watched.map(drop),
        };
        [(Verb::List, listed.map(drop)), (Verb::Watch, watched)].into()
    }
}

fn server(url: &str, version: Result<String, ApiError>, source: &Source) -> Answer {
    let check = "API server";
    let plain = if url.starts_with("https:") {
        ""
    } else {
        ", without encryption"
    };
    match version {
        Ok(version) => Answer::new(
            check,
            Verdict::Ok,
            format!("{url}, Kubernetes {version}{plain}"),
        ),
        Err(error) if error.code() == Some(403) => {
            let detail = format!("{url}, whose version cannot be read{plain}");
            Answer::new(check, Verdict::Ok, detail)
        }
        Err(error) => {
            let mut answer = Answer::failed(check, &error, source);
            answer.detail = format!("{url}: {}", answer.detail);
            answer
        }
    }
}

/// Says why a resource cannot be watched here at all.
fn unserved(
    check: &str,
    selector: &StreamSelector,
    served: &Result<Vec<Served>, ApiError>,
) -> Option<Answer> {
    let resource = &selector.resource;
    let failed = |detail: String| Answer::new(check, Verdict::Failed, detail);
    let served = match served {
        Ok(served) => served,
        Err(error) if error.code() == Some(404) => {
            let detail = format!(
                "this cluster does not serve {}",
                questions::version_of(resource)
            );
            let advice = "correct group and version, or install what serves them: kubectl \
                          api-resources shows what there is";
            return Some(failed(detail).advise(advice));
        }
        // Discovery may be forbidden; the requests themselves decide.
        Err(_) => return None,
    };
    let Some(found) = served.iter().find(|served| served.name == resource.plural) else {
        let version = questions::version_of(resource);
        let detail = format!("this cluster serves no {} in {version}", resource.plural);
        let meant = questions::meant(&resource.plural, served);
        let advice = meant.map_or_else(
            || "kubectl api-resources shows what there is".to_owned(),
            |meant| format!("did you mean {version}/{meant}?"),
        );
        return Some(failed(detail).advise(advice));
    };
    if !found.can("list") || !found.can("watch") {
        let detail = format!(
            "cannot be watched; its verbs are {}",
            found.verbs.join(", ")
        );
        return Some(failed(detail).advise("leave it out, or watch the objects behind it"));
    }
    if !selector.namespace.is_empty() && !found.namespaced {
        let detail = "is in no namespace".to_owned();
        return Some(failed(detail).advise("leave namespaces out for this resource"));
    }
    None
}

/// Combines what was tried with the server's own review.
fn judge(
    check: String,
    selector: &StreamSelector,
    tried: &BTreeMap<Verb, Result<(), ApiError>>,
    reviews: &BTreeMap<Verb, bool>,
    source: &Source,
) -> Stream {
    let refused =
        |result: &Result<(), ApiError>| matches!(result, Err(error) if error.code() == Some(403));
    let missing: Vec<_> = tried
        .iter()
        .filter(|(_, result)| refused(result))
        .map(|(verb, _)| *verb)
        .collect();
    let broken = tried
        .iter()
        .find_map(|(verb, result)| Some((verb, result.as_ref().err()?)));
    let names = |verbs: &[Verb]| verbs.iter().map(Verb::name).collect::<Vec<_>>().join(", ");
    let answer = if !missing.is_empty() {
        let wrong = missing.iter().any(|verb| reviews.get(verb) == Some(&true));
        let doubt = if wrong {
            ", although the server's own review allows it"
        } else {
            ""
        };
        let detail = format!("may not {}{doubt}", names(&missing));
        Answer::new(check, Verdict::Failed, detail)
            .advise(format!("grant {}", rbac::rule(selector, &missing)))
    } else if let Some((verb, error)) = broken {
        let mut answer = Answer::failed(check, error, source);
        answer.detail = format!("{}: {}", verb.name(), answer.detail);
        answer
    } else {
        let denied: Vec<_> = Verb::ALL
            .into_iter()
            .filter(|verb| reviews.get(verb) == Some(&false))
            .collect();
        let doubt = if denied.is_empty() {
            String::new()
        } else {
            format!(
                ", although the server's own review denies {}",
                names(&denied)
            )
        };
        Answer::new(check, Verdict::Ok, format!("may list, watch{doubt}"))
    };
    Stream { answer, missing }
}

/// What to do about a request that failed for another reason than a missing permission.
fn advice(error: &ApiError, source: &Source) -> String {
    let advice = match error.code() {
        None | Some(401) => return error.hint_whatever_was_asked(source),
        Some(400) => "correct the label or field selector",
        Some(403) => "grant the permission",
        Some(404) => "is this the URL of an API server?",
        Some(_) => "check the API server's log",
    };
    advice.to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Answer, ApiError, Served, Source, StreamSelector, Verb, Verdict, judge, unserved};
    use crate::watcher::events::Status;

    fn selector(resource: &str) -> StreamSelector {
        StreamSelector::all(resource.parse().unwrap())
    }

    fn status(code: u16) -> ApiError {
        ApiError::Status {
            verb: "list",
            status: Status {
                code,
                ..Status::default()
            },
        }
    }

    fn judged(
        list: Result<(), ApiError>,
        watch: Result<(), ApiError>,
        reviews: &[(Verb, bool)],
    ) -> Answer {
        let tried = [(Verb::List, list), (Verb::Watch, watch)].into();
        let reviews = reviews.iter().copied().collect();
        let events = selector("v1/events");
        judge(
            "v1/events".into(),
            &events,
            &tried,
            &reviews,
            &Source::InCluster,
        )
        .answer
    }

    #[test]
    fn the_request_itself_is_the_judge_and_the_review_is_shown_beside() {
        let fine = judged(Ok(()), Ok(()), &[(Verb::List, true)]);
        assert_eq!(
            (fine.verdict, fine.detail.as_str()),
            (Verdict::Ok, "may list, watch")
        );
        let unknown = judged(Ok(()), Ok(()), &[(Verb::Watch, false)]);
        assert_eq!(unknown.verdict, Verdict::Ok);
        assert!(
            unknown.detail.contains("own review denies watch"),
            "{unknown:?}"
        );
        let refused = judged(Ok(()), Err(status(403)), &[(Verb::Watch, true)]);
        assert_eq!(refused.verdict, Verdict::Failed);
        assert!(
            refused.detail.starts_with("may not watch, although"),
            "{refused:?}"
        );
        assert_eq!(
            refused.advice,
            "grant {apiGroups: [\"\"], resources: [\"events\"], verbs: [\"watch\"]}"
        );
        let broken = judged(Err(status(500)), Ok(()), &[]);
        assert!(broken.detail.starts_with("list: "), "{broken:?}");
    }

    #[test]
    fn what_is_not_served_is_reported_with_what_may_be_meant() {
        let served = |name: &str, namespaced, verbs: &[&str]| Served {
            name: name.into(),
            singular: "pod".into(),
            short: vec!["po".into()],
            namespaced,
            verbs: verbs.iter().map(|&verb| verb.to_owned()).collect(),
        };
        let known = Ok(vec![
            served("pods", true, &["get", "list", "watch"]),
            served("nodes", false, &["list", "watch"]),
            served("bindings", true, &["create"]),
        ]);
        let finding_of = |selector: &StreamSelector| unserved("x", selector, &known);
        assert_eq!(finding_of(&selector("v1/pods")), None);
        for meant in ["v1/pod", "v1/po", "v1/podss"] {
            let answer = finding_of(&selector(meant)).unwrap();
            assert_eq!(answer.advice, "did you mean v1/pods?", "{meant}");
        }
        let answer = finding_of(&selector("v1/bindings")).unwrap();
        assert!(
            answer
                .detail
                .contains("cannot be watched; its verbs are create"),
            "{answer:?}"
        );
        let narrowed = StreamSelector {
            namespace: "a".into(),
            ..selector("v1/nodes")
        };
        assert_eq!(finding_of(&narrowed).unwrap().detail, "is in no namespace");
        let missing = unserved("x", &selector("e.com/v1/w"), &Err(status(404))).unwrap();
        assert!(
            missing.detail.contains("does not serve e.com/v1"),
            "{missing:?}"
        );
        assert_eq!(unserved("x", &selector("v1/pods"), &Err(status(403))), None);
    }
}
