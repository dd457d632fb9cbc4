//! Questions to sidecars that are spoken by hand: one that is too old, one that says nothing, one that lies.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use tonic::{Code, Status};
use tonic_types::StatusExt;
use trama_proto::admin::v1::{
    ExplainRequest, ExplainResponse, ProxyConfigRequest, ProxyConfigResponse, ProxyDrainRequest,
};
use trama_proto::discovery::v1::{
    Ask, Configuration, Draining, Failure, Hello, Node, ask::Kind, ask::Question, draining::What,
    failure::Reason, told::Answer,
};
use trama_proto::explain::v1::{DescribedRequest, Explanation, knowledge::Source};
use trama_tests::control_plane::{ControlPlane, Stream, Workload, identity};
use trama_tests::mesh::until;

const POLICY: &str = "\
kind: Service
metadata: { name: orders, namespace: shop }
spec: { ports: [{ port: 80 }] }
---
kind: EndpointSet
metadata: { name: orders, namespace: shop }
spec: { service: orders, endpoints: [{ address: 10.0.0.1, region: rio }] }
";
const ALL: [Kind; 3] = [Kind::Explain, Kind::Configuration, Kind::Drain];

async fn shop() -> ControlPlane {
    let control = ControlPlane::start().await;
    control.apply(POLICY).await.unwrap();
    control
}

/// A sidecar that says it answers these questions, and has taken its first push.
async fn sidecar(control: &ControlPlane, workload: &Workload, answers: &[Kind]) -> Stream {
    named(control, workload, workload.node(), answers).await
}

/// One of several of a workload.
async fn replica(control: &ControlPlane, workload: &Workload, name: &str, answers: &[Kind]) -> Stream {
    named(control, workload, Node { name: name.to_owned(), ..workload.node() }, answers).await
}

async fn named(control: &ControlPlane, workload: &Workload, node: Node, answers: &[Kind]) -> Stream {
    let answers = answers.iter().map(|kind| i32::from(*kind)).collect();
    let hello = Hello { node: Some(node), answers, ..Hello::default() };
    let channel = control.channel(Some(workload)).await.unwrap();
    let mut stream = Stream::open_with(channel, hello).await.unwrap();
    stream.subscribe(&[]);
    stream.take().await;
    stream
}

async fn config(control: &ControlPlane, sidecar: &str) -> Result<ProxyConfigResponse, Status> {
    let request = ProxyConfigRequest { sidecar: sidecar.to_owned(), ..ProxyConfigRequest::default() };
    control.admin().await.proxy_config(request).await.map(tonic::Response::into_inner)
}

async fn explain(control: &ControlPlane, request: ExplainRequest) -> Result<ExplainResponse, Status> {
    let described =
        DescribedRequest { url: "http://orders.shop/v1".to_owned(), ..DescribedRequest::default() };
    let request = ExplainRequest { request: Some(described), ..request };
    control.admin().await.explain(request).await.map(tonic::Response::into_inner)
}

fn configuration(revision: &str) -> Answer {
    Answer::Configuration(Configuration { revision: revision.to_owned(), ..Configuration::default() })
}

/// Code, reason of the error's details, and the sidecar that it names.
fn why(status: &Status) -> (Code, String, String) {
    let details = status.get_error_details();
    let sidecar = details.resource_info().map(|info| info.resource_name.clone()).unwrap_or_default();
    (status.code(), details.error_info().unwrap().reason.clone(), sidecar)
}

fn silent(code: Code, reason: &str) -> (Code, String, String) {
    (code, reason.to_owned(), "shop/storefront".to_owned())
}

async fn ignored(control: &ControlPlane, reason: &str, number: f64) {
    let sample = format!("trama_control_answers_ignored_total{{reason=\"{reason}\"}}");
    until(&sample, || async { (control.metric(&sample).await == number).then_some(()) }).await;
}

#[tokio::test]
async fn an_answer_goes_to_who_asked_it_whatever_else_is_going_on() {
    let control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let mut stream = sidecar(&control, &storefront, &ALL).await;
    let answering = async {
        let (first, second) = (stream.asked().await, stream.asked().await);
        assert!(first.id != second.id && first.most_bytes > 60_000, "{first:?}");
        stream.tell(second.id, configuration("second"));
        stream.tell(first.id, configuration("first"));
        stream
    };
    let name = "shop/storefront";
    let (one, other, mut stream) = tokio::join!(config(&control, name), config(&control, name), answering);
    let mut revisions = [one, other].map(|told| told.unwrap().configuration.unwrap().revision);
    revisions.sort();
    assert_eq!(revisions, ["first", "second"]);

    let request = ExplainRequest { sidecar: name.into(), ..ExplainRequest::default() };
    let answering = async {
        let Ask { id, question, .. } = stream.asked().await;
        let Some(Question::Explain(described)) = question else { panic!("{question:?}") };
        assert_eq!(described.url, "http://orders.shop/v1");
        let told = Explanation { request: "as told".to_owned(), ..Explanation::default() };
        stream.tell(id, Answer::Explanation(told));
        let Ask { id, question, .. } = stream.asked().await;
        assert!(matches!(question, Some(Question::Drain(drain)) if drain.what() == What::All));
        stream.tell(id, Answer::Draining(Draining { what: What::All.into() }));
    };
    let asking = async {
        let told = explain(&control, request).await.unwrap();
        assert_eq!((told.explanation.unwrap().request.as_str(), told.by_policy.as_str()), ("as told", ""));
        let drain = ProxyDrainRequest { sidecar: name.into(), ..ProxyDrainRequest::default() };
        let unsaid = control.admin().await.proxy_drain(drain.clone()).await.unwrap_err();
        assert_eq!(
            (unsaid.code(), unsaid.message()),
            (Code::InvalidArgument, "what: say INBOUND or ALL, got `0`")
        );
        let drain = ProxyDrainRequest { what: What::All.into(), ..drain };
        let told = control.admin().await.proxy_drain(drain).await.unwrap().into_inner();
        assert_eq!(told.draining.unwrap().what(), What::All);
    };
    tokio::join!(answering, asking);
    let sample = "trama_control_asks_total{question=\"configuration\",result=\"ok\"}";
    assert_eq!(control.metric(sample).await, 2.0);
}

#[tokio::test]
async fn one_that_is_too_old_is_never_asked() {
    let control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let mut stream = sidecar(&control, &storefront, &[]).await;
    let request = || ExplainRequest::default();
    let by_name = ExplainRequest { sidecar: "shop/storefront".into(), ..request() };
    let refused = explain(&control, by_name).await.unwrap_err();
    assert_eq!(why(&refused), silent(Code::FailedPrecondition, "SIDECAR_UNABLE"));
    assert!(refused.message().contains("upgrade it"), "{refused}");
    let refused = config(&control, "shop/storefront").await.unwrap_err();
    assert_eq!(why(&refused), silent(Code::FailedPrecondition, "SIDECAR_UNABLE"));

    // Who does not ask for it by name is told what policy says.
    let by_workload = ExplainRequest { workload: identity("shop", "storefront"), ..request() };
    let told = explain(&control, by_workload).await.unwrap();
    assert!(told.by_policy.starts_with("no sidecar that would send it answers"), "{told:?}");
    assert_eq!(told.sidecar.as_ref().unwrap().name, "storefront");
    assert_eq!((told.unheard[0].sidecar.as_str(), told.unheard.len()), ("shop/storefront", 1));
    assert!(told.unheard[0].why.contains("does not answer such questions: upgrade it"), "{told:?}");
    assert_eq!(told.explanation.unwrap().knowledge.unwrap().source(), Source::Policy);
    // It has heard nothing of all that.
    control.apply(&POLICY.replace("orders", "prices")).await.unwrap();
    stream.take().await;
}

#[tokio::test]
async fn where_one_says_nothing_the_next_of_its_workload_is_asked() {
    let control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let _old = replica(&control, &storefront, "a-old", &[]).await;
    let mut mute = replica(&control, &storefront, "b-mute", &ALL).await;
    let mut gone = replica(&control, &storefront, "c-gone", &ALL).await;
    let mut good = replica(&control, &storefront, "d-good", &ALL).await;
    let request = ExplainRequest { workload: identity("shop", "storefront"), ..ExplainRequest::default() };
    let began = Instant::now();
    let playing = async {
        mute.asked().await;
        gone.asked().await;
        drop(gone);
        let id = good.asked().await.id;
        good.tell(
            id,
            Answer::Explanation(Explanation { request: "as told".into(), ..Explanation::default() }),
        );
    };
    let (told, ()) = tokio::join!(explain(&control, request.clone()), playing);
    let told = told.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((told.explanation.unwrap().request.as_str(), told.by_policy.as_str()), ("as told", ""));
    assert_eq!((told.sidecar.unwrap().name.as_str(), told.others), ("d-good", 3));
    let unheard: Vec<_> = told.unheard.iter().map(|it| (it.sidecar.as_str(), it.why.as_str())).collect();
    assert_eq!(
        unheard,
        [
            ("shop/b-mute", "it has not answered within 2s; its log may say why"),
            ("shop/c-gone", "its stream has ended meanwhile; it comes back if it lives"),
        ]
    );

    // What one has against the question is the answer: the others would have the same against it.
    let playing = async {
        mute.asked().await;
        let id = good.asked().await.id;
        let failure =
            Failure { reason: Reason::Refused.into(), field: "worker".into(), problem: "none".into() };
        good.tell(id, Answer::Failure(failure));
    };
    let (refused, ()) = tokio::join!(explain(&control, request.clone()), playing);
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);

    // Where none says anything policy does, within the time that one alone would have.
    let began = Instant::now();
    let playing = async {
        mute.asked().await;
        good.asked().await;
    };
    let (told, ()) = tokio::join!(explain(&control, request), playing);
    let (told, took) = (told.unwrap(), began.elapsed());
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(8), "{took:?}");
    assert!(told.by_policy.starts_with("no sidecar that would send it answers"), "{told:?}");
    let unheard: Vec<_> = told.unheard.iter().map(|it| it.sidecar.as_str()).collect();
    assert_eq!(unheard, ["shop/b-mute", "shop/d-good", "shop/a-old"]);
}

#[tokio::test]
async fn one_that_never_answers_is_given_up_and_the_others_are_served() {
    let control = shop().await;
    let (storefront, basket) =
        (control.joined("shop", "storefront").await, control.joined("shop", "basket").await);
    let mut mute = sidecar(&control, &storefront, &ALL).await;
    let mut good = sidecar(&control, &basket, &ALL).await;
    let began = Instant::now();
    let asking = async {
        let refused = config(&control, "shop/storefront").await.unwrap_err();
        assert_eq!(why(&refused), silent(Code::DeadlineExceeded, "SIDECAR_SILENT"));
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(15), "{took:?}");
    };
    let meanwhile = async {
        let question = mute.asked().await;
        // More than so many wait for nobody.
        let mut waiting = Vec::new();
        for _ in 0..7 {
            let mut admin = control.admin().await;
            let request =
                ProxyConfigRequest { sidecar: "shop/storefront".into(), ..ProxyConfigRequest::default() };
            waiting.push(tokio::spawn(async move { admin.proxy_config(request).await }));
        }
        for _ in 0..7 {
            mute.asked().await;
        }
        let refused = config(&control, "shop/storefront").await.unwrap_err();
        assert_eq!(why(&refused), silent(Code::ResourceExhausted, "SIDECAR_BUSY"));
        // Others are asked and both are pushed.
        let answer = async {
            let id = good.asked().await.id;
            good.tell(id, configuration("good"));
        };
        let (told, ()) = tokio::join!(config(&control, "shop/basket"), answer);
        assert_eq!(told.unwrap().configuration.unwrap().revision, "good");
        control.apply(&POLICY.replace("orders", "prices")).await.unwrap();
        good.take().await;
        mute.take().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().unwrap_err().code(), Code::DeadlineExceeded);
        }
        question.id
    };
    let ((), late) = tokio::join!(asking, meanwhile);
    // Then it may be asked again; and what it says at last is heard by nobody.
    mute.tell(late, configuration("late"));
    ignored(&control, "late", 1.0).await;
    let answer = async {
        let id = mute.asked().await.id;
        mute.tell(id, configuration("now"));
    };
    let (told, ()) = tokio::join!(config(&control, "shop/storefront"), answer);
    assert_eq!(told.unwrap().configuration.unwrap().revision, "now");
}

#[tokio::test]
async fn a_lie_is_ignored_and_counted_and_so_is_what_is_too_large() {
    let control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let mut stream = sidecar(&control, &storefront, &ALL).await;
    for id in [0, 1, u64::MAX] {
        stream.tell(id, configuration("unasked"));
    }
    ignored(&control, "unasked", 3.0).await;

    for (answer, expected) in [
        (Answer::Explanation(Explanation::default()), silent(Code::Internal, "SIDECAR_ANSWER_FOREIGN")),
        (configuration(&"x".repeat(5 << 20)), silent(Code::ResourceExhausted, "SIDECAR_ANSWER_TOO_LARGE")),
        (
            Answer::Failure(Failure { reason: Reason::Busy.into(), ..Failure::default() }),
            silent(Code::ResourceExhausted, "SIDECAR_BUSY"),
        ),
        (
            Answer::Failure(Failure { reason: 99, ..Failure::default() }),
            silent(Code::FailedPrecondition, "SIDECAR_UNABLE"),
        ),
    ] {
        let telling = async {
            let id = stream.asked().await.id;
            stream.tell(id, answer);
        };
        let (refused, ()) = tokio::join!(config(&control, "shop/storefront"), telling);
        assert_eq!(why(&refused.unwrap_err()), expected);
    }
    ignored(&control, "foreign", 1.0).await;
    ignored(&control, "too_large", 1.0).await;
    // What it has against the question is told by field.
    let telling = async {
        let id = stream.asked().await.id;
        let problem = "no worker has this number, got 7; there are 2".to_owned();
        let failure = Failure { reason: Reason::Refused.into(), field: "worker".into(), problem };
        stream.tell(id, Answer::Failure(failure));
    };
    let request = ExplainRequest { sidecar: "shop/storefront".into(), ..ExplainRequest::default() };
    let (refused, ()) = tokio::join!(explain(&control, request), telling);
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let details = refused.get_error_details();
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "request.worker", "{refused}");

    // The stream has lived through all of it, and ends with a message that no stream may bring.
    control.apply(&POLICY.replace("orders", "prices")).await.unwrap();
    stream.take().await;
    let telling = async {
        let id = stream.asked().await.id;
        stream.tell(id, configuration(&"x".repeat(17 << 20)));
    };
    let (refused, ()) = tokio::join!(config(&control, "shop/storefront"), telling);
    assert_eq!(why(&refused.unwrap_err()), silent(Code::Unavailable, "SIDECAR_GONE"));
    assert_eq!(control.metric("trama_control_streams_ended_total{reason=\"limit\"}").await, 1.0);
}

#[tokio::test]
async fn who_is_not_there_or_not_named_is_told_with_the_remedy() {
    let control = shop().await;
    let storefront = control.joined("shop", "storefront").await;
    let _stream = sidecar(&control, &storefront, &ALL).await;
    for (name, code, hint) in [
        ("shop/storefrnt", Code::NotFound, "did you mean `shop/storefront`?"),
        ("bank/storefront", Code::NotFound, "did you mean `shop/storefront`?"),
        ("shop/ledger", Code::NotFound, "no sidecar shop/ledger is connected"),
        ("storefront", Code::InvalidArgument, "sidecar: write it as `namespace/name`, got `storefront`"),
        ("a//b", Code::InvalidArgument, "sidecar: write it as `namespace/name`, got `a//b`"),
    ] {
        let refused = config(&control, name).await.unwrap_err();
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(hint), "{refused}");
    }
    let request = ProxyConfigRequest { sidecar: "shop/storefront".into(), service: "a//b".into() };
    let refused = control.admin().await.proxy_config(request).await.unwrap_err();
    assert_eq!(refused.message(), "service: write it as `namespace/name`, got `a//b`");
    let none = ExplainRequest::default;
    for (request, field) in [
        (none(), "sidecar"),
        (ExplainRequest { service: "a//b".into(), ..none() }, "service"),
        (ExplainRequest { service: "orders".into(), ..none() }, "service"),
        (ExplainRequest { service: "shop/orders".into(), region: "roi".into(), ..none() }, "region"),
        (ExplainRequest { sidecar: "shop/storefront".into(), region: "rio".into(), ..none() }, "region"),
    ] {
        let refused = explain(&control, request).await.unwrap_err();
        let details = refused.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field, "{refused}");
    }
    let request = ExplainRequest { service: "shop/ordres".into(), ..none() };
    let refused = explain(&control, request).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("did you mean `shop/orders`?"), "{refused}");

    // A request that is none is refused before anybody is asked.
    let described = DescribedRequest { url: "orders".into(), ..DescribedRequest::default() };
    let request = ExplainRequest { request: Some(described), sidecar: "shop/storefront".into(), ..none() };
    let refused = control.admin().await.explain(request).await.unwrap_err();
    let violation = refused.get_error_details().bad_request().unwrap().field_violations[0].clone();
    assert_eq!(violation.field, "request.url");
    assert!(violation.description.contains("no http URL, got \"orders\"; write"), "{violation:?}");
    let sample = "trama_control_asks_total{question=\"explain\",result=\"ok\"}";
    assert_eq!(control.metric(sample).await, 0.0);
}

/// A name is what a sidecar says. Who takes another one's is not asked in its place, nor has it drained.
#[tokio::test]
async fn of_several_identities_with_one_name_none_is_taken_for_the_other() {
    let control = shop().await;
    let (orders, liar) = (control.joined("shop", "storefront").await, control.joined("shop", "liar").await);
    let mut honest = sidecar(&control, &orders, &ALL).await;
    let node = Node { name: "storefront".into(), ..liar.node() };
    let answers = ALL.map(i32::from).to_vec();
    let hello = Hello { node: Some(node), answers, ..Hello::default() };
    let mut lying = Stream::open_with(control.channel(Some(&liar)).await.unwrap(), hello).await.unwrap();
    lying.subscribe(&[]);
    lying.take().await;

    let name = "shop/storefront";
    let [honests, liars] =
        ["storefront", "liar"].map(|account| format!("{name}@{}", identity("shop", account)));
    let drain = |sidecar: &str| ProxyDrainRequest { sidecar: sidecar.to_owned(), what: What::All.into() };
    let by_name = ExplainRequest { sidecar: name.into(), ..ExplainRequest::default() };
    for refused in [
        config(&control, name).await.err(),
        control.admin().await.proxy_drain(drain(name)).await.err(),
        explain(&control, by_name).await.err(),
    ] {
        let refused = refused.unwrap();
        assert_eq!(why(&refused), silent(Code::FailedPrecondition, "SIDECAR_AMBIGUOUS"));
        assert!(refused.message().contains(&honests) && refused.message().contains(&liars), "{refused}");
    }
    for (stream, meant) in [(&mut honest, &honests), (&mut lying, &liars)] {
        let answering = async {
            let id = stream.asked().await.id;
            stream.tell(id, configuration(meant));
        };
        let (told, ()) = tokio::join!(config(&control, meant), answering);
        let told = told.unwrap();
        assert_eq!(told.configuration.unwrap().revision, *meant);
        assert!(meant.ends_with(&told.sidecar.unwrap().identity));
    }
    // One of the same identity that comes back takes its own place.
    drop(lying);
    let mut again = sidecar(&control, &orders, &ALL).await;
    let answering = async {
        let id = again.asked().await.id;
        again.tell(id, configuration("again"));
    };
    let (told, ()) = tokio::join!(
        async {
            until("the other's end", || async { (control.sidecars().await.len() == 2).then_some(()) }).await;
            config(&control, name).await
        },
        answering
    );
    assert_eq!(told.unwrap().configuration.unwrap().revision, "again");
}
