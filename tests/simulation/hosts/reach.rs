//! How clients reach replicas.

use http::Uri;
use hyper_util::rt::TokioIo;
use quorumwatch::{
    client::{Endpoint, Endpoints},
    net::Network as _,
};

use super::{Replica, at};
use crate::network::HostNetwork;

/// Reaches these replicas over the simulated network, in this order. At most `window` bytes of a
/// stream are under way, where that is given.
pub(super) fn endpoints(
    replicas: &[String],
    network: &HostNetwork,
    window: Option<u32>,
) -> Endpoints {
    let all = replicas.iter().map(|replica| {
        let endpoint = Replica::client_address(replica);
        endpoint_over(&endpoint, network.clone(), window)
    });
    let mut all: Vec<Endpoint> = all.collect();
    let first = all.remove(0);
    Endpoints::new(first, all)
}

fn endpoint_over(endpoint: &Endpoint, network: HostNetwork, window: Option<u32>) -> Endpoint {
    endpoint.connected_by(move |setup| {
        let network = network.clone();
        let setup = match window {
            Some(bytes) => setup.initial_stream_window_size(bytes),
            None => setup,
        };
        let dial = tower::service_fn(move |replica: Uri| {
            let host = replica.host().unwrap_or_default();
            let connecting = network.connect(&at(host, replica.port_u16().unwrap_or_default()));
            async move { connecting.await.map(TokioIo::new) }
        });
        Box::pin(async move { setup.connect_with_connector(dial).await })
    })
}
