//! The flags of `add` and `update`, and the requests that they make.

use prost_types::FieldMask;

use super::{
    Common,
    flags::{EtagFlag, SOURCES, SelectorFlags, SourceFlags, WriteFlags},
};
use crate::{
    cli::Error,
    proto::v1::{Cluster, CreateClusterRequest, UpdateClusterRequest},
};

const AFTER_HELP_OF_ADD: &str = "\
Examples:
  a kubeconfig file present on every replica, in an allowed directory:
    quorumwatch clusters add prod-eu --kubeconfig /etc/kube/config --kube-context prod-eu
  a source in the replicas' own configuration, [sources.prod-eu]:
    quorumwatch clusters add prod-eu --source prod-eu -l env=prod
  the cluster that the replicas run in:
    quorumwatch clusters add home --in-cluster
  more than Kubernetes Events:
    quorumwatch clusters add home --in-cluster --resource v1/events --resource apps/v1/deployments
  the Warnings of two namespaces only:
    quorumwatch clusters add home --in-cluster -n shop,web --field-selector type=Warning";

const AFTER_HELP_OF_UPDATE: &str = "\
Examples:
  quorumwatch clusters update prod-eu -l env=prod -l old-label-
  quorumwatch clusters update prod-eu --resource v1/events --resource apps/v1/deployments
  quorumwatch clusters update prod-eu --kubeconfig /etc/kube/new --validate-only
  quorumwatch clusters update prod-eu --description 'the shop, Frankfurt' --etag 42";

/// A new cluster.
#[derive(Debug, clap::Args)]
#[command(
    after_help = AFTER_HELP_OF_ADD,
    group = clap::ArgGroup::new("from").required(true).args(SOURCES)
)]
pub(super) struct Add {
    /// The cluster's name: lowercase letters, digits, '-' and '.'.
    name: String,
    #[command(flatten)]
    source: SourceFlags,
    /// A label that subscribers can select by; may be repeated.
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = key_and_value)]
    labels: Vec<(String, String)>,
    #[command(flatten)]
    selectors: SelectorFlags,
    /// Do not watch it yet.
    #[arg(long)]
    paused: bool,
    /// A description.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "",
        hide_default_value = true
    )]
    description: String,
    /// The existing registration of the same Kubernetes cluster: watch it under both names.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    duplicate_of: String,
    #[command(flatten)]
    pub(super) write: WriteFlags,
    #[command(flatten)]
    pub(super) common: Common,
}

/// Changes to a cluster; fields without a flag stay unchanged.
#[derive(Debug, clap::Args)]
#[command(
    after_help = AFTER_HELP_OF_UPDATE,
    group = clap::ArgGroup::new("from").args(SOURCES)
)]
pub(super) struct Update {
    /// The cluster's name.
    name: String,
    #[command(flatten)]
    source: SourceFlags,
    /// A label to set, or one to remove; may be repeated.
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE|KEY-", value_parser = label_change)]
    labels: Vec<(String, Option<String>)>,
    #[command(flatten)]
    selectors: SelectorFlags,
    /// A description; empty to remove it.
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The other registration of the same Kubernetes cluster; empty for none.
    #[arg(long, value_name = "NAME")]
    duplicate_of: Option<String>,
    #[command(flatten)]
    etag: EtagFlag,
    #[command(flatten)]
    pub(super) write: WriteFlags,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Add {
    pub(super) fn request(&self) -> Result<CreateClusterRequest, Error> {
        let cluster = Cluster {
            name: self.name.clone(),
            labels: self.labels.iter().cloned().collect(),
            source: self.source.source()?,
            resources: self.selectors.selectors(),
            paused: self.paused,
            description: self.description.clone(),
            duplicate_of: self.duplicate_of.clone(),
            ..Cluster::default()
        };
        Ok(CreateClusterRequest {
            cluster: Some(cluster),
            validate_only: self.write.validate_only,
            request_id: String::new(),
        })
    }
}

impl Update {
    pub(super) fn request(&self) -> Result<UpdateClusterRequest, Error> {
        let source = self.source.source()?;
        let resources = self.selectors.selectors();
        if !resources.is_empty() && self.selectors.resources.is_empty() {
            return Err(Error::Usage(
                "--namespace, --label-selector and --field-selector need --resource here: what \
                 is watched is replaced as a whole"
                    .into(),
            ));
        }
        let mut paths: Vec<_> = self
            .labels
            .iter()
            .map(|(key, _)| format!("labels.{key}"))
            .collect();
        let fields = [
            ("source", source.is_some()),
            ("resources", !resources.is_empty()),
            ("description", self.description.is_some()),
            ("duplicate_of", self.duplicate_of.is_some()),
        ];
        let named = fields.into_iter().filter(|(_, is_named)| *is_named);
        paths.extend(named.map(|(field, _)| field.to_owned()));
        if paths.is_empty() {
            return Err(Error::Usage(
                "nothing to change is named: use --label, --resource, --description, \
                 --duplicate-of, or a source; `pause` and `resume` are commands of their own"
                    .into(),
            ));
        }
        let set = self.labels.iter();
        let set = set.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        let cluster = Cluster {
            name: self.name.clone(),
            labels: set.collect(),
            source,
            resources,
            description: self.description.clone().unwrap_or_default(),
            duplicate_of: self.duplicate_of.clone().unwrap_or_default(),
            etag: self.etag.etag.clone(),
            ..Cluster::default()
        };
        Ok(UpdateClusterRequest {
            cluster: Some(cluster),
            update_mask: Some(FieldMask { paths }),
            validate_only: self.write.validate_only,
            ..UpdateClusterRequest::default()
        })
    }
}

fn key_and_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("use KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `KEY=VALUE` sets, `KEY-` removes, as with `kubectl label`.
fn label_change(text: &str) -> Result<(String, Option<String>), &'static str> {
    if let Some((key, value)) = text.split_once('=') {
        return Ok((key.to_owned(), Some(value.to_owned())));
    }
    let key = text.strip_suffix('-').filter(|key| !key.is_empty());
    let key = key.ok_or("use KEY=VALUE to set a label, or KEY- to remove one")?;
    Ok((key.to_owned(), None))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::{Add, Cluster, Error, Update};
    use crate::proto::v1::{ResourceSelector, UpdateClusterRequest};

    #[derive(Debug, clap::Parser)]
    enum Line {
        Add(Box<Add>),
        Update(Box<Update>),
    }

    fn parse(line: &str) -> Result<Line, clap::Error> {
        Line::try_parse_from(["x"].into_iter().chain(line.split(' ')))
    }

    fn added(line: &str) -> Cluster {
        match parse(line).unwrap() {
            Line::Add(add) => add.request().unwrap().cluster.unwrap(),
            Line::Update(update) => panic!("{update:?}"),
        }
    }

    fn update(line: &str) -> Result<UpdateClusterRequest, Error> {
        match parse(line).unwrap() {
            Line::Update(update) => update.request(),
            Line::Add(add) => panic!("{add:?}"),
        }
    }

    #[test]
    fn namespaces_and_selectors_hold_for_each_resource() {
        let selector = |resource: &str| ResourceSelector {
            resource: resource.into(),
            namespaces: vec!["shop".into(), "web".into()],
            label_selector: "app=a".into(),
            field_selector: String::new(),
        };
        let flags = "-n shop,web --label-selector app=a";
        let cluster = added(&format!(
            "add a --in-cluster {flags} --resource v1/pods --resource v1/events"
        ));
        assert_eq!(
            cluster.resources,
            [selector("v1/pods"), selector("v1/events")]
        );
        let cluster = added(&format!("add a --in-cluster {flags}"));
        assert_eq!(cluster.resources, [selector("v1/events")]);
        assert_eq!(added("add a --in-cluster").resources, []);
    }

    #[test]
    fn an_update_names_what_it_changes_and_nothing_else() {
        let request = update("update a -l env=prod -l old- --description  --in-cluster").unwrap();
        let cluster = request.cluster.unwrap();
        assert_eq!(
            cluster.labels,
            [("env".to_owned(), "prod".to_owned())].into()
        );
        let paths = request.update_mask.unwrap().paths;
        assert_eq!(paths, ["labels.env", "labels.old", "source", "description"]);
    }

    #[test]
    fn an_update_that_changes_nothing_or_would_drop_resources_unseen_is_wrong_usage() {
        for line in ["update a", "update a --etag 3", "update a -n shop"] {
            assert_eq!(update(line).unwrap_err().exit_code(), 2, "{line}");
        }
        for line in [
            "update a --kube-context c",
            "update a --in-cluster --source s",
            "update a -l x",
            "update a -l -",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
