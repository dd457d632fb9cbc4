use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, IsCa, Issuer, KeyPair, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;
use tempfile::TempDir;
use time::OffsetDateTime;

use super::*;
use crate::{
    telemetry::{IdentityFailure, LogOutput, TelemetryConfig},
    tls::InForce,
};

const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const HOUR: i64 = 3600;

/// An authority that signs what it is told to.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    root: Vec<u8>,
}

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let root = parameters.self_signed(&key).unwrap().der().to_vec();
        Self { issuer: Issuer::new(parameters, key), root }
    }

    /// A certificate for the request's key, from and until so many seconds from now.
    fn sign(&self, request: Vec<u8>, id: &str, (from, until): (i64, i64)) -> IdentityResponse {
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request)).unwrap();
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        let moment = |after| OffsetDateTime::from_unix_timestamp(clock::seconds() + after).unwrap();
        (parameters.not_before, parameters.not_after) = (moment(from), moment(until));
        let certificate = parameters.signed_by(&request.public_key, &self.issuer).unwrap();
        IdentityResponse {
            identity: id.to_owned(),
            certificate: certificate.der().to_vec(),
            expires: 0,
            bundle: vec![self.root.clone()],
        }
    }
}

fn wanted() -> SpiffeId {
    SpiffeId::parse(ORDERS).unwrap()
}

fn begin(state: &Path) -> JoinedIdentity {
    let control_plane = ControlPlane {
        address: "127.0.0.1:1".to_owned(),
        pinned: "nowhere".into(),
        gives_identity: true,
        expected: None,
        identity: InForce::default(),
    };
    let telemetry = TelemetryConfig { access_log: LogOutput::None, ..Default::default() };
    let joining = Joining {
        control_plane,
        identity: wanted(),
        token: state.with_file_name("token"),
        state: state.to_owned(),
    };
    JoinedIdentity::begin(joining, TelemetryHub::start(telemetry).unwrap())
}

impl JoinedIdentity {
    async fn given(&mut self, authority: &Authority, id: &str, term: (i64, i64)) -> Result<(), Failure> {
        let key = OwnKey::generate().unwrap();
        let answer = authority.sign(key.request(&self.wanted).unwrap(), id, term);
        self.take(key, answer)?;
        // On disk too, or not at all.
        let tried = |tried: &Option<Kept>| tried.as_ref() == Some(&self.kept);
        self.tried.wait_for(tried).await.unwrap();
        Ok(())
    }

    fn in_force(&self) -> Option<i64> {
        self.control_plane.identity.load_full().map(|identity| identity.not_after)
    }
}

#[tokio::test]
async fn what_was_given_is_in_force_and_so_it_is_after_a_restart() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let state = folder.path().join("state");
    let mut joined = begin(&state);
    assert_eq!((joined.in_force(), joined.term), (None, None));
    joined.given(&authority, ORDERS, (-HOUR, HOUR)).await.unwrap();
    let first = joined.in_force().unwrap();
    let again = begin(&state);
    assert_eq!((again.in_force(), again.term), (Some(first), joined.term));
    // The next one takes its place, there too.
    joined.given(&authority, ORDERS, (-HOUR, 2 * HOUR)).await.unwrap();
    assert_eq!(joined.control_plane.identity.load_full().unwrap().revision, 2);
    assert!(joined.in_force().unwrap() > first);
    assert_eq!(begin(&state).in_force(), joined.in_force());
}

#[tokio::test]
async fn new_roots_are_in_force_and_kept_at_once_where_our_certificate_is_of_one_of_them() {
    let (folder, authority, next) = (TempDir::new().unwrap(), Authority::new(), Authority::new());
    let state = folder.path().join("state");
    let mut joined = begin(&state);
    joined.given(&authority, ORDERS, (-HOUR, HOUR)).await.unwrap();
    let (place, ends) = (joined.control_plane.identity.clone(), joined.in_force());
    let roots = |joined: &JoinedIdentity| joined.control_plane.given_roots().len();
    place.offer_roots(vec![authority.root.clone(), next.root.clone()]);
    joined.wait(Duration::ZERO).await;
    assert_eq!((roots(&joined), joined.in_force()), (2, ends), "beside the same certificate");
    assert_eq!(place.load_full().unwrap().revision, 2);
    let tried = |tried: &Option<Kept>| tried.as_ref() == Some(&joined.kept);
    joined.tried.wait_for(tried).await.unwrap();
    assert_eq!(roots(&begin(&state)), 2);

    // What nobody who trusts it would take us with, and what is no root.
    for worse in [vec![next.root.clone()], vec![vec![7; 9]], Vec::new()] {
        place.offer_roots(worse);
        joined.wait(Duration::ZERO).await;
        assert_eq!((roots(&joined), joined.in_force()), (2, ends));
    }
}

#[tokio::test]
async fn what_is_not_what_was_asked_for_is_not_taken() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let mut joined = begin(&folder.path().join("state"));
    joined.given(&authority, ORDERS, (-HOUR, HOUR)).await.unwrap();
    let (before, kept) = (joined.in_force(), joined.kept.clone());
    let reason = |result: Result<(), Failure>| result.unwrap_err().reason();
    let prices = "spiffe://mesh.test/ns/shop/sa/prices";
    let foreign = joined.given(&authority, prices, (-HOUR, 2 * HOUR)).await;
    assert_eq!(reason(foreign), IdentityFailure::BadAnswer);
    // A clock an hour off, either way.
    for term in [(HOUR, 2 * HOUR), (-2 * HOUR, -HOUR)] {
        assert_eq!(reason(joined.given(&authority, ORDERS, term).await), IdentityFailure::Clock);
    }
    // Of another key, of no root of its own bundle, and nonsense.
    let request = |key: &OwnKey| key.request(&wanted()).unwrap();
    let [own, other] = [(); 2].map(|()| OwnKey::generate().unwrap());
    let answer = authority.sign(request(&other), ORDERS, (-HOUR, HOUR));
    assert_eq!(reason(joined.take(own.clone(), answer)), IdentityFailure::BadAnswer);
    let mut answer = authority.sign(request(&own), ORDERS, (-HOUR, HOUR));
    answer.bundle = vec![Authority::new().root];
    assert_eq!(reason(joined.take(own.clone(), answer.clone())), IdentityFailure::BadAnswer);
    answer.bundle.clear();
    assert_eq!(reason(joined.take(own.clone(), answer.clone())), IdentityFailure::BadAnswer);
    answer.certificate.truncate(100);
    assert_eq!(reason(joined.take(own, answer)), IdentityFailure::BadAnswer);
    assert_eq!((joined.in_force(), joined.kept), (before, kept));
}

#[tokio::test]
async fn one_on_disk_that_is_not_ours_or_has_ended_is_not_used() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let state = folder.path().join("state");
    let mut joined = begin(&state);
    joined.given(&authority, ORDERS, (-HOUR, HOUR)).await.unwrap();
    let in_an_hour = clock::now() + Duration::from_secs(3601);

    joined.control_plane.identity = InForce::default();
    joined.restore(in_an_hour);
    assert_eq!(joined.in_force(), None);
    assert_eq!(schedule::step(joined.term, in_an_hour, 0.5), Step::Join);
    // The clock was wrong.
    joined.recover(clock::now());
    assert!(joined.in_force().is_some());

    let mut other = begin(&folder.path().join("other"));
    other.wanted = SpiffeId::parse("spiffe://mesh.test/ns/shop/sa/prices").unwrap();
    other.kept = joined.kept.clone();
    other.restore(clock::now());
    assert_eq!((other.in_force(), other.term), (None, None));
}

#[tokio::test]
async fn the_key_of_a_join_is_on_disk_before_the_token_is_spent_and_used_again() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let state = folder.path().join("state");
    let mut joined = begin(&state);
    joined.given(&authority, ORDERS, (-HOUR, HOUR)).await.unwrap();
    let given = joined.kept.given.clone();
    let key = joined.key_to_join().await.unwrap();
    assert_eq!(joined.key_to_join().await.unwrap(), key);
    let mut again = begin(&state);
    assert_eq!(again.kept, Kept { given, joining: Some(key.clone()) });
    assert_eq!(again.key_to_join().await.unwrap(), key);
    let answer = authority.sign(key.request(&wanted()).unwrap(), ORDERS, (-HOUR, HOUR));
    again.take(key.clone(), answer).unwrap();
    assert_ne!(again.key_to_join().await.unwrap(), key, "each join has a key of its own");
}

#[tokio::test]
async fn a_disk_that_fails_holds_nothing_up() {
    let (folder, authority) = (TempDir::new().unwrap(), Authority::new());
    let state = folder.path().join("state");
    fs::write(&state, "in the way of a folder").unwrap();
    let mut joined = begin(&state);
    let failures = |joined: &JoinedIdentity| joined.telemetry.process().identity().store_failures();
    let before = failures(&joined);
    joined.key_to_join().await.unwrap();
    joined.given(&authority, ORDERS, (-HOUR, HOUR)).await.unwrap();
    assert!(joined.in_force().is_some());
    assert_eq!(failures(&joined), before + 2);
}
