use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use futures::stream::{self, BoxStream};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};

use super::{
    Client, CreateClusterRequest, CreateClusterResponse, DeleteClusterRequest,
    DeleteClusterResponse, GetClusterRequest, GetClusterResponse, ListClustersRequest,
    ListClustersResponse, Options, UpdateClusterRequest, UpdateClusterResponse,
};
use crate::{
    client::{Endpoint, Update, scripted::answer},
    proto::v1::{
        Cluster, Event, SubscribeRequest, SubscribeResponse, WatchClustersRequest,
        WatchClustersResponse,
        cluster_service_server::{ClusterService, ClusterServiceServer},
        event_service_server::{EventService, EventServiceServer},
        subscribe_response::Frame,
    },
};

/// A replica that remembers its requests. What it answers to writes is scripted; success after that.
#[derive(Clone, Default)]
struct Replica {
    refusals: Arc<Mutex<VecDeque<Status>>>,
    request_ids: Arc<Mutex<Vec<String>>>,
    min_revisions: Arc<Mutex<Vec<u64>>>,
}

impl Replica {
    async fn start(refusals: impl IntoIterator<Item = Status>) -> (Self, Client) {
        let replica = Self::default();
        replica.refusals.lock().unwrap().extend(refusals);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::builder()
            .add_service(ClusterServiceServer::new(replica.clone()))
            .add_service(EventServiceServer::new(replica.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let endpoint: Endpoint = address.parse().unwrap();
        (replica, Client::new(endpoint))
    }

    fn write(&self, request_id: String) -> Result<(), Status> {
        self.request_ids.lock().unwrap().push(request_id);
        let refusal = self.refusals.lock().unwrap().pop_front();
        refusal.map_or(Ok(()), Err)
    }

    fn read(&self, min_revision: u64) {
        self.min_revisions.lock().unwrap().push(min_revision);
    }
}

#[tonic::async_trait]
impl ClusterService for Replica {
    type WatchClustersStream = BoxStream<'static, Result<WatchClustersResponse, Status>>;

    async fn create_cluster(
        &self,
        request: Request<CreateClusterRequest>,
    ) -> Result<Response<CreateClusterResponse>, Status> {
        let request = request.into_inner();
        self.write(request.request_id)?;
        let (cluster, revision) = (request.cluster, 7);
        Ok(Response::new(CreateClusterResponse { cluster, revision }))
    }

    async fn get_cluster(
        &self,
        request: Request<GetClusterRequest>,
    ) -> Result<Response<GetClusterResponse>, Status> {
        self.read(request.into_inner().min_revision);
        Ok(Response::new(GetClusterResponse::default()))
    }

    async fn list_clusters(
        &self,
        request: Request<ListClustersRequest>,
    ) -> Result<Response<ListClustersResponse>, Status> {
        let request = request.into_inner();
        self.read(request.min_revision);
        let page: u64 = request.page_token.parse().unwrap_or(0);
        let cluster = Cluster {
            name: format!("c{page}"),
            ..Cluster::default()
        };
        let next = (page < 2).then(|| (page + 1).to_string());
        Ok(Response::new(ListClustersResponse {
            clusters: vec![cluster],
            next_page_token: next.unwrap_or_default(),
            revision: 9 + page,
        }))
    }

    async fn watch_clusters(
        &self,
        _: Request<WatchClustersRequest>,
    ) -> Result<Response<Self::WatchClustersStream>, Status> {
        Err(Status::unimplemented("not for these tests"))
    }

    async fn update_cluster(
        &self,
        request: Request<UpdateClusterRequest>,
    ) -> Result<Response<UpdateClusterResponse>, Status> {
        self.write(request.into_inner().request_id)?;
        Ok(Response::new(UpdateClusterResponse::default()))
    }

    async fn delete_cluster(
        &self,
        request: Request<DeleteClusterRequest>,
    ) -> Result<Response<DeleteClusterResponse>, Status> {
        self.write(request.into_inner().request_id)?;
        let revision = 5;
        Ok(Response::new(DeleteClusterResponse { revision }))
    }
}

#[tonic::async_trait]
impl EventService for Replica {
    type SubscribeStream = BoxStream<'static, Result<SubscribeResponse, Status>>;

    /// One object, as large as the client's name says.
    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let size = request.into_inner().client_name.parse().unwrap_or(0);
        let event = Event {
            object_json: "x".repeat(size),
            ..Event::default()
        };
        let response = SubscribeResponse {
            frame: Some(Frame::Event(event)),
            ..SubscribeResponse::default()
        };
        Ok(Response::new(Box::pin(stream::iter([Ok(response)]))))
    }
}

#[tokio::test]
async fn a_write_is_repeated_with_the_same_request_id_and_the_next_has_another() {
    let unknown = || answer(Code::Unknown, "OUTCOME_UNKNOWN", None);
    let (replica, client) = Replica::start([unknown(), unknown()]).await;
    client.create_cluster(Default::default()).await.unwrap();
    client.delete_cluster(Default::default()).await.unwrap();
    let given = UpdateClusterRequest {
        request_id: "mine".into(),
        ..UpdateClusterRequest::default()
    };
    client.update_cluster(given).await.unwrap();
    let ids = replica.request_ids.lock().unwrap().clone();
    assert_eq!(ids.len(), 5);
    assert!(ids[0].len() == 36 && ids[..3].iter().all(|id| *id == ids[0]));
    assert!(ids[3].len() == 36 && ids[3] != ids[0]);
    assert_eq!(ids[4], "mine");
}

#[tokio::test]
async fn reads_after_a_write_ask_for_its_revision() {
    let (replica, client) = Replica::start([]).await;
    client.get_cluster("a").await.unwrap();
    client.create_cluster(Default::default()).await.unwrap();
    client.delete_cluster(Default::default()).await.unwrap();
    client.clone().get_cluster("a").await.unwrap();
    let later = ListClustersRequest {
        min_revision: 8,
        page_token: "ignored".into(),
        ..ListClustersRequest::default()
    };
    let listed = client.list_clusters(later).await.unwrap();
    let names: Vec<_> = listed.clusters.iter().map(|c| c.name.as_str()).collect();
    assert_eq!((names, listed.revision), (vec!["c0", "c1", "c2"], 11));
    assert_eq!(*replica.min_revisions.lock().unwrap(), [0, 7, 8, 8, 8]);
    assert_eq!(client.written(), 7);
}

#[tokio::test]
async fn objects_above_the_limit_of_the_library_arrive_and_what_is_too_large_is_an_error() {
    let (_, client) = Replica::start([]).await;
    let options = |size: usize| Options {
        client_name: size.to_string(),
        ..Options::default()
    };
    let mut subscription = client.subscribe(options(8 * 1024 * 1024));
    let received = loop {
        if let Some(Update::Frame(frame)) = subscription.next().await.unwrap() {
            break frame;
        }
    };
    assert!(
        matches!(received.frame, Some(Frame::Event(event)) if event.object_json.len() > 8_000_000)
    );
    let mut subscription = client.subscribe(options(33 * 1024 * 1024));
    let error = subscription.next().await.unwrap_err();
    assert_eq!(error.code(), Some(Code::OutOfRange));
}
