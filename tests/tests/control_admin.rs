//! The Admin API over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;

use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use trama_proto::admin::v1::admin_service_client::AdminServiceClient;
use trama_proto::admin::v1::applied_resource::Outcome;
use trama_proto::admin::v1::{
    ApplyRequest, DeleteRequest, Deletion, GetRequest, ListRequest, ResourceChange, Stamp, StatusRequest,
    ValidateRequest, WatchRequest, change,
};
use trama_proto::discovery::v1::ResourceName;
use trama_proto::document::ResourceId;
use trama_tests::control_plane::{ControlPlane, resources};

const ORDERS: &str =
    "kind: Service\nmetadata: { name: orders, namespace: shop }\nspec: { ports: [{ port: 80 }] }\n";
const ROUTE: &str = "kind: Route\nmetadata: { name: orders, namespace: shop }\n\
                     spec: { parentRefs: [{ service: orders }], rules: [{ backendRefs: [{ service: orders }] }] }\n";

fn name(kind: &str, name: &str) -> ResourceName {
    ResourceName { kind: kind.into(), namespace: "shop".into(), name: name.into() }
}

fn changes(text: &str, expected_version: Option<u64>) -> ApplyRequest {
    let changes = resources(text).into_iter();
    let changes = changes.map(|resource| ResourceChange { resource: Some(resource), expected_version });
    ApplyRequest { changes: changes.collect() }
}

fn deletion(name: ResourceName, expected_version: Option<u64>) -> DeleteRequest {
    DeleteRequest { deletions: vec![Deletion { name: Some(name), expected_version }] }
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

async fn listed(control: &ControlPlane) -> Vec<String> {
    let list = control.admin().await.list(ListRequest::default()).await.unwrap().into_inner();
    let ids =
        list.resources.into_iter().map(|stored| ResourceId::of(&stored.resource.unwrap().kind.unwrap()));
    ids.map(|id| id.to_string()).collect()
}

#[tokio::test]
async fn what_is_applied_is_there_and_what_is_the_same_stays() {
    let control = ControlPlane::start().await;
    let applied = control.apply(&format!("{ORDERS}---\n{ROUTE}")).await.unwrap();
    let stamp = applied.stamp.unwrap();
    assert_eq!(applied.resources.iter().map(|it| it.outcome()).collect::<Vec<_>>(), [Outcome::Created; 2]);
    assert!(applied.resources.iter().all(|it| it.version == stamp.revision));

    let again = control.apply(ORDERS).await.unwrap();
    assert_eq!((again.stamp.unwrap(), again.resources[0].outcome()), (stamp, Outcome::Unchanged));
    assert_eq!(again.resources[0].version, stamp.revision);

    let other = control.apply(&ORDERS.replace("80", "81")).await.unwrap();
    assert_eq!(other.resources[0].outcome(), Outcome::Configured);
    let got = control.admin().await.get(GetRequest { name: Some(name("Service", "orders")) }).await.unwrap();
    assert_eq!(got.into_inner().version, other.stamp.unwrap().revision);
}

#[tokio::test]
async fn a_bad_policy_is_refused_whole_with_field_value_and_remedy() {
    let control = ControlPlane::start().await;
    let bad = ROUTE.replace("backendRefs: [{ service: orders }]", "backendRefs: [{ service: ordres }]");
    let refused = control.apply(&format!("{ORDERS}---\n{bad}")).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "POLICY_REFUSED"));
    let violations = refused.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert_eq!(violations[0].field, "Route shop/orders spec.rules[0].backendRefs[0].service");
    assert_eq!(
        violations[0].description,
        "no such service in namespace `shop`, got \"ordres\"; did you mean `orders`?"
    );
    assert_eq!(listed(&control).await, Vec::<String>::new(), "the good half is not there either");

    let malformed = resources(ORDERS).into_iter().map(|mut resource| {
        if let Some(trama_proto::document::Resource::Service(service)) = &mut resource.kind {
            service.metadata.as_mut().unwrap().name = "Not/A/Name".into();
        }
        resource
    });
    let request = ValidateRequest { resources: malformed.collect() };
    let refused = control.admin().await.validate(request).await.unwrap_err();
    assert_eq!(
        refused.get_details_bad_request().unwrap().field_violations[0].field,
        "resources[0].metadata.name"
    );

    let request = ValidateRequest { resources: resources(&bad) };
    let judged = control.admin().await.validate(request).await.unwrap().into_inner().problems;
    assert!(judged.iter().any(|problem| problem.value == "\"orders\""), "{judged:?}");
    assert_eq!(listed(&control).await, Vec::<String>::new());
}

#[tokio::test]
async fn who_was_slower_is_told_and_nothing_is_changed() {
    let control = ControlPlane::start().await;
    let mut admin = control.admin().await;
    admin.apply(changes(ORDERS, Some(0))).await.unwrap();
    let taken = admin.apply(changes(&ORDERS.replace("80", "81"), Some(0))).await.unwrap_err();
    assert_eq!((taken.code(), reason(&taken).as_str()), (Code::Aborted, "VERSION_CHANGED"));
    assert_eq!(taken.get_details_resource_info().unwrap().resource_name, "Service shop/orders");

    let got = admin.get(GetRequest { name: Some(name("Service", "orders")) }).await.unwrap().into_inner();
    let (first, second) = (ORDERS.replace("80", "82"), ORDERS.replace("80", "83"));
    admin.apply(changes(&first, Some(got.version))).await.unwrap();
    let late = admin.apply(changes(&second, Some(got.version))).await.unwrap_err();
    assert_eq!(late.code(), Code::Aborted);
    let late = admin.delete(deletion(name("Service", "orders"), Some(got.version))).await.unwrap_err();
    assert_eq!(late.code(), Code::Aborted);

    // Of many at once exactly one wins.
    let version =
        admin.get(GetRequest { name: Some(name("Service", "orders")) }).await.unwrap().into_inner().version;
    let texts: Vec<_> = (1000..1008).map(|port| ORDERS.replace("80", &port.to_string())).collect();
    let tries = texts.iter().map(|text| {
        let mut admin = admin.clone();
        async move { admin.apply(changes(text, Some(version))).await }
    });
    let ended = futures_util::future::join_all(tries).await;
    assert_eq!(ended.iter().filter(|it| it.is_ok()).count(), 1);
    assert!(ended.iter().filter_map(|it| it.as_ref().err()).all(|status| status.code() == Code::Aborted));
}

#[tokio::test]
async fn what_others_refer_to_is_not_deleted() {
    let control = ControlPlane::start().await;
    control.apply(&format!("{ORDERS}---\n{ROUTE}")).await.unwrap();
    let mut admin = control.admin().await;
    let refused = admin.delete(deletion(name("Service", "orders"), None)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "POLICY_REFUSED"));
    let missing = admin.delete(deletion(name("Service", "nothing"), None)).await.unwrap_err();
    assert_eq!((missing.code(), reason(&missing).as_str()), (Code::NotFound, "NOT_FOUND"));
    admin.delete(deletion(name("Route", "orders"), None)).await.unwrap();
    admin.delete(deletion(name("Service", "orders"), None)).await.unwrap();
    assert_eq!(listed(&control).await, Vec::<String>::new());
    let gone = admin.get(GetRequest { name: Some(name("Service", "orders")) }).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test]
async fn a_list_comes_in_pages_that_miss_nothing() {
    let control = ControlPlane::start().await;
    let text: Vec<_> = (0..25).map(|number| ORDERS.replace("orders", &format!("s{number:02}"))).collect();
    control.apply(&text.join("---\n")).await.unwrap();
    let mut admin = control.admin().await;
    let mut found = Vec::new();
    let mut request = ListRequest { kind: "Service".into(), page_size: 10, ..ListRequest::default() };
    loop {
        let page = admin.list(request.clone()).await.unwrap().into_inner();
        assert!(page.resources.len() <= 10);
        found.extend(
            page.resources.into_iter().map(|it| ResourceId::of(&it.resource.unwrap().kind.unwrap()).name),
        );
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(found, (0..25).map(|number| format!("s{number:02}")).collect::<Vec<_>>());

    let none = ListRequest { kind: "Route".into(), ..ListRequest::default() };
    assert_eq!(admin.list(none).await.unwrap().into_inner().resources, []);
    for bad in [
        ListRequest { kind: "Routes".into(), ..ListRequest::default() },
        ListRequest { page_size: 1001, ..ListRequest::default() },
        ListRequest { page_token: "x".into(), ..ListRequest::default() },
    ] {
        assert_eq!(admin.list(bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn a_watch_tells_each_change_once_and_goes_on_where_it_was() {
    let control = ControlPlane::start().await;
    let before = control.apply(ORDERS).await.unwrap().stamp;
    let mut admin = control.admin().await;
    let request = WatchRequest { kind: "Route".into(), after: before, ..WatchRequest::default() };
    let mut watch = admin.watch(request.clone()).await.unwrap().into_inner();
    control.apply(ROUTE).await.unwrap();
    control.apply(&ORDERS.replace("orders", "stock")).await.unwrap();
    admin.delete(deletion(name("Route", "orders"), None)).await.unwrap();

    let written = watch.message().await.unwrap().unwrap();
    assert!(
        matches!(&written.changes[0].change, Some(change::Change::Written(stored)) if stored.version == written.stamp.unwrap().revision)
    );
    let another = watch.message().await.unwrap().unwrap();
    assert_eq!(another.changes, [], "nothing of that kind, but the stamp moves on");
    let deleted = watch.message().await.unwrap().unwrap();
    assert_eq!(deleted.changes[0].change, Some(change::Change::Deleted(name("Route", "orders"))));

    let request = WatchRequest { after: another.stamp, ..request };
    let mut again = admin.watch(request.clone()).await.unwrap().into_inner();
    assert_eq!(again.message().await.unwrap().unwrap(), deleted);
    let elsewhere = Stamp { epoch: 1, revision: 1 };
    let refused = admin.watch(WatchRequest { after: Some(elsewhere), ..request }).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);

    let last = deleted.stamp.unwrap();
    let request =
        |revision| WatchRequest { after: Some(Stamp { revision, ..last }), ..WatchRequest::default() };
    admin.watch(request(last.revision)).await.unwrap();
    let refused = admin.watch(request(last.revision + 1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_error_details();
    let violation = &details.bad_request().unwrap().field_violations[0];
    let (found, remedy) =
        (format!("got `{}`", last.revision + 1), format!("is {}; write at most that", last.revision));
    assert_eq!(violation.field, "after.revision");
    assert!(
        violation.description.contains(&found) && violation.description.contains(&remedy),
        "{violation:?}"
    );
}

#[tokio::test]
async fn it_is_open_to_the_socket_and_to_admins_only() {
    let control = ControlPlane::start().await;
    let mode = std::fs::metadata(control.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let storefront = control.joined("shop", "storefront").await;
    let mut sidecar = AdminServiceClient::new(control.channel(Some(&storefront)).await.unwrap());
    let refused = sidecar.status(StatusRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("admin.identities"), "{}", refused.message());
    let refused = sidecar.apply(changes(ORDERS, None)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let mut nobody = AdminServiceClient::new(control.channel(None).await.unwrap());
    assert_eq!(nobody.status(StatusRequest::default()).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(listed(&control).await, Vec::<String>::new());

    let admin = control.joined("ops", "admin").await;
    let mut admin = AdminServiceClient::new(control.channel(Some(&admin)).await.unwrap());
    admin.apply(changes(ORDERS, None)).await.unwrap();
    assert_eq!(listed(&control).await, ["Service shop/orders"]);
    let counted = "trama_control_admin_requests_total{method=\"apply\",code=\"permission_denied\"}";
    assert_eq!(control.metric(counted).await, 1.0);
}

#[tokio::test]
async fn tools_find_out_what_there_is_and_whether_it_works() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let control = ControlPlane::start().await;
    let channel = control.channel(None).await.unwrap();
    for service in ["", "trama.discovery.v1.PolicyService", "trama.admin.v1.AdminService"] {
        let request = HealthCheckRequest { service: service.into() };
        let told = HealthClient::new(channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(told.status(), ServingStatus::Serving, "{service}");
    }
    // What there is to ask for is told to who may ask: to anybody else not even that.
    let asked = || {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        futures_util::stream::iter([ServerReflectionRequest { message_request, ..Default::default() }])
    };
    let refused = async |channel: Channel| {
        let refused = ServerReflectionClient::new(channel).server_reflection_info(asked()).await;
        reason(&refused.map(drop).unwrap_err())
    };
    assert_eq!(refused(channel).await, "NO_CERTIFICATE");
    let storefront = control.joined("shop", "storefront").await;
    assert_eq!(refused(control.channel(Some(&storefront)).await.unwrap()).await, "NOT_ADMIN");
    let counted = "trama_control_admin_requests_total{method=\"reflection\",code=\"permission_denied\"}";
    assert_eq!(control.metric(counted).await, 1.0);

    let admin = control.joined("ops", "admin").await;
    for channel in [control.channel(Some(&admin)).await.unwrap(), control.socket_channel().await] {
        let told = ServerReflectionClient::new(channel).server_reflection_info(asked()).await;
        let told = told.unwrap().into_inner().message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(list)) = told.message_response else {
            panic!("no list: {told:?}");
        };
        let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
        for name in [
            "trama.admin.v1.AdminService",
            "trama.discovery.v1.PolicyService",
            "trama.identity.v1.IdentityService",
        ] {
            assert!(names.iter().any(|known| known == name), "{name} in {names:?}");
        }
    }
}

#[tokio::test]
async fn what_is_too_large_for_the_store_is_refused_by_its_name_and_nothing_is_half_applied() {
    let control = ControlPlane::start().await;
    let large = format!(
        "kind: Service\nmetadata: {{ name: large, namespace: shop, labels: {{ x: '{}' }} }}\n\
         spec: {{ ports: [{{ port: 80 }}] }}\n",
        "x".repeat(1 << 20)
    );
    let small = large.replace(&"x".repeat(1 << 20), "x").replace("large", "small");
    let refused = control.apply(&format!("{small}---\n{large}")).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::ResourceExhausted, "TOO_MUCH"),
        "{refused:?}"
    );
    assert!(refused.message().contains("policy/Service/shop/large"), "{}", refused.message());
    control.apply(&small).await.unwrap();
    assert_eq!(control.apply(&small).await.unwrap().resources.len(), 1);
}
