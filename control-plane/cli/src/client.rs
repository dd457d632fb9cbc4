//! What is asked of the control plane: each question with its deadline.

use std::{future::Future, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;
use tonic::{Code, Response, Status, Streaming, transport::Channel};
use trama_proto::{
    admin::v1::{
        ApplyRequest, ApplyResponse, CreateJoinTokenRequest, CreateJoinTokenResponse, DeleteRequest,
        DeleteResponse, ExplainRequest, ExplainResponse, ExplainTraceRequest, ExplainedTrace, GetRequest,
        GetTraceRequest, ListRequest, ListTracesRequest, ListTracesResponse, ProxyConfigRequest,
        ProxyConfigResponse, ProxyDrainRequest, ProxyDrainResponse, Stamp, StatusRequest, StoredResource,
        Trace, ValidateRequest, ValidateResponse, WatchEvent, WatchRequest,
        admin_service_client::AdminServiceClient,
    },
    discovery::v1::{ResourceName, draining::What},
    document::{Resource, ResourceId},
};

use crate::{
    arguments::Global,
    connect,
    failure::Failure,
    reference::Kinds,
    sidecars::{Known, Sidecar},
};

/// A page of 100 resources of 1 MiB each, and their frame.
const LARGEST_ANSWER: usize = 128 << 20;
/// Questions for single resources that are under way at one time. The control plane takes 64 on a connection.
const AT_ONCE: usize = 32;

/// A resource as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) resource: Resource,
    /// The revision that wrote it.
    pub(crate) version: u64,
}

/// What there is, and the last change that it knows of.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) stamp: Stamp,
    pub(crate) resources: Vec<Stored>,
}

/// The Admin API.
pub(crate) struct Client {
    api: AdminServiceClient<Channel>,
    server: String,
    patience: Duration,
}

impl Client {
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let api = AdminServiceClient::new(connect::connect(global).await?);
        Ok(Self {
            api: api.max_decoding_message_size(LARGEST_ANSWER),
            server: global.server.to_string(),
            patience: global.patience(),
        })
    }

    pub(crate) async fn apply(&self, request: ApplyRequest) -> Result<ApplyResponse, Failure> {
        self.answered(self.api.clone().apply(request)).await
    }

    pub(crate) async fn delete(&self, request: DeleteRequest) -> Result<DeleteResponse, Failure> {
        self.answered(self.api.clone().delete(request)).await
    }

    pub(crate) async fn validate(&self, request: ValidateRequest) -> Result<ValidateResponse, Failure> {
        self.answered(self.api.clone().validate(request)).await
    }

    pub(crate) async fn create_join_token(
        &self,
        request: CreateJoinTokenRequest,
    ) -> Result<CreateJoinTokenResponse, Failure> {
        self.answered(self.api.clone().create_join_token(request)).await
    }

    /// A page of the traces that fit.
    pub(crate) async fn traces(&self, request: ListTracesRequest) -> Result<ListTracesResponse, Failure> {
        self.answered(self.api.clone().list_traces(request)).await
    }

    /// The trace with this id.
    pub(crate) async fn trace(&self, id: String) -> Result<Trace, Failure> {
        self.answered(self.api.clone().get_trace(GetTraceRequest { id })).await
    }

    pub(crate) async fn explain(&self, request: ExplainRequest) -> Result<ExplainResponse, Failure> {
        self.answered(self.api.clone().explain(request)).await
    }

    pub(crate) async fn explain_trace(&self, id: String) -> Result<ExplainedTrace, Failure> {
        self.answered(self.api.clone().explain_trace(ExplainTraceRequest { id })).await
    }

    pub(crate) async fn proxy_config(
        &self,
        request: ProxyConfigRequest,
    ) -> Result<ProxyConfigResponse, Failure> {
        self.answered(self.api.clone().proxy_config(request)).await
    }

    pub(crate) async fn proxy_drain(
        &self,
        sidecar: String,
        what: What,
    ) -> Result<ProxyDrainResponse, Failure> {
        let request = ProxyDrainRequest { sidecar, what: what.into() };
        self.answered(self.api.clone().proxy_drain(request)).await
    }

    /// The changes from now on. Only the first word has a deadline.
    pub(crate) async fn watch(&self, request: WatchRequest) -> Result<Streaming<WatchEvent>, Failure> {
        self.answered(self.api.clone().watch(request)).await
    }

    /// The sidecars with a stream.
    pub(crate) async fn sidecars(&self, namespace: Option<&str>) -> Result<Known, Failure> {
        let request = StatusRequest { namespace: namespace.unwrap_or_default().to_owned() };
        let status = self.answered(self.api.clone().status(request)).await?;
        let Stamp { epoch, revision } = status.stamp.unwrap_or_default();
        let sidecars = status.sidecars.into_iter().map(|sidecar| Sidecar::of(sidecar, revision));
        Ok(Known { epoch, revision, sidecars: sidecars.collect() })
    }

    /// The last change.
    pub(crate) async fn stamp(&self) -> Result<Stamp, Failure> {
        let request = ListRequest { page_size: 1, ..ListRequest::default() };
        let page = self.answered(self.api.clone().list(request)).await?;
        Ok(page.stamp.unwrap_or_default())
    }

    /// All resources of a kind and a namespace, page by page.
    pub(crate) async fn list(&self, kinds: Kinds, namespace: Option<&str>) -> Result<Listed, Failure> {
        let mut request = ListRequest {
            kind: kinds.filter().to_owned(),
            namespace: namespace.unwrap_or_default().to_owned(),
            ..ListRequest::default()
        };
        let (mut stamp, mut resources) = (None, Vec::new());
        loop {
            let page = self.answered(self.api.clone().list(request.clone())).await?;
            let stamp = *stamp.get_or_insert_with(|| page.stamp.unwrap_or_default());
            resources.extend(page.resources.into_iter().filter_map(Stored::read));
            if page.next_page_token.is_empty() {
                return Ok(Listed { stamp, resources });
            }
            request.page_token = page.next_page_token;
        }
    }

    /// What is there of each name, in the order of the names.
    pub(crate) async fn look_up(
        &self,
        ids: impl IntoIterator<Item = &ResourceId>,
    ) -> Result<Vec<Option<Stored>>, Failure> {
        let asked = ids.into_iter().map(|id| {
            let request = GetRequest { name: Some(name(id)) };
            async move {
                let mut api = self.api.clone();
                match self.answered(api.get(request)).await {
                    Ok(stored) => Ok(Stored::read(stored)),
                    Err(Failure::Status(status)) if status.code() == Code::NotFound => Ok(None),
                    Err(failure) => Err(failure),
                }
            }
        });
        stream::iter(asked).buffered(AT_ONCE).try_collect().await
    }

    /// Says which resources there are not, and what was probably meant.
    pub(crate) async fn missing<'a>(&self, ids: impl IntoIterator<Item = &'a ResourceId>) -> Failure {
        let mut told = Vec::new();
        for id in ids {
            // Without suggestions it is still true.
            let known = self.list(Kinds::One(id.kind), None).await.map(|listed| listed.resources);
            let known: Vec<_> =
                known.iter().flatten().map(|stored| ResourceId::of(&stored.resource)).collect();
            told.push(match id.qualified().near(known.iter().map(ResourceId::qualified)) {
                Some(near) => format!("there is no {id}; did you mean `{} {near}`?", id.kind),
                None => format!("there is no {id}"),
            });
        }
        Failure::Missing(told.join("\ntramactl: "))
    }

    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match timeout(self.patience, answer).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Failure::Unreachable {
                server: self.server.clone(),
                problem: format!("no answer within {:?}; what was asked may still be done", self.patience),
            }),
        }
    }
}

impl Stored {
    /// `None`: a kind that this version does not know.
    pub(crate) fn read(stored: StoredResource) -> Option<Self> {
        Some(Self { resource: stored.resource?.kind?, version: stored.version })
    }
}

/// A resource's name as the Admin API has it.
pub(crate) fn name(id: &ResourceId) -> ResourceName {
    ResourceName { kind: id.kind.to_owned(), namespace: id.namespace.clone(), name: id.name.clone() }
}
