//! Why the simulation refuses.

use std::{io, net::SocketAddr};

use crate::domain::{cluster::Resource, position::ResourceVersion};

/// Why the simulation refuses.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}; choose a free address, or port 0 for any")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// No cluster to simulate.
    #[error("there is no cluster to simulate: name at least one")]
    NoClusters,
    /// A cluster name that cannot stand in a URL, or stands twice.
    #[error(
        "cluster name {0:?} is not usable: each must be unique, of lowercase letters, digits, \
         '-' and '.'"
    )]
    ClusterName(String),
    /// The cluster does not serve the resource.
    #[error("the simulated cluster does not serve {0}; add it to FleetOptions::resources")]
    NotServed(Resource),
    /// There is such an object already.
    #[error("{resource} {key:?} exists already; update it, or choose another name")]
    Exists {
        /// The resource.
        resource: Resource,
        /// Namespace and name.
        key: String,
    },
    /// There is no such object.
    #[error("there is no {resource} {key:?}; create it first")]
    NotFound {
        /// The resource.
        resource: Resource,
        /// Namespace and name.
        key: String,
    },
    /// A namespaced object without a namespace, or the other way round.
    #[error(
        "{resource} {key:?} has a namespace where it must have none, or none where it needs one"
    )]
    Scope {
        /// The resource.
        resource: Resource,
        /// Namespace and name.
        key: String,
    },
    /// The history that is needed is gone.
    #[error("revision {asked} is outside the history, which spans {oldest} to {newest}")]
    OutsideHistory {
        /// The revision asked for.
        asked: ResourceVersion,
        /// The oldest revision that can still be had.
        oldest: ResourceVersion,
        /// The current revision.
        newest: ResourceVersion,
    },
}
