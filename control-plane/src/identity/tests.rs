//! The authority as a workload meets it, in virtual time.

use std::{sync::Arc, time::Duration};

use rcgen::{CertificateParams, KeyPair, PublicKeyData, SanType, string::Ia5String};
use rustls::{RootCertStore, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, UnixTime};
use trama_proto::spiffe::SpiffeId;

use super::*;
use crate::store::{Memory, Store};

const NOW: u64 = 1_795_000_000;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";

async fn authority() -> Authority {
    over(Arc::new(Memory::new(1)), [7; 32], NOW).await.unwrap()
}

async fn over(store: Arc<dyn Store>, key: [u8; 32], now: u64) -> Result<Authority, IdentityError> {
    Authority::open(store, SealingKey::new(&key).unwrap(), Settings::new("mesh.test"), now).await
}

fn orders() -> SpiffeId {
    SpiffeId::parse(ORDERS).unwrap()
}

fn request(key: &KeyPair, names: &[&str]) -> Vec<u8> {
    let mut params = CertificateParams::default();
    let uri = |name: &&str| SanType::URI(Ia5String::try_from(*name).unwrap());
    params.subject_alt_names = names.iter().map(uri).collect();
    params.serialize_request(key).unwrap().der().to_vec()
}

/// What a TLS server makes of the certificate at a point in time.
fn accepted(certificate: &[u8], bundle: &[Vec<u8>], now: u64) -> Result<(), rustls::Error> {
    let mut roots = RootCertStore::empty();
    for root in bundle {
        roots.add(CertificateDer::from(root.clone())).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    verifier.verify_client_cert(&CertificateDer::from(certificate.to_vec()), &[], now).map(drop)
}

fn names(certificate: &[u8]) -> Vec<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    names.value.general_names.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn a_token_becomes_the_identity_that_it_was_made_for() {
    let authority = authority().await;
    let joining = authority.invite(&orders(), Duration::from_secs(HOUR), NOW).await.unwrap();
    let token = JoinToken::parse(&joining.token.to_string()).unwrap();
    let key = KeyPair::generate().unwrap();
    let issued = authority.join(&token, &request(&key, &[]), NOW + 10).await.unwrap();

    assert_eq!((issued.id.clone(), issued.expires), (orders(), NOW + 10 + DAY));
    assert_eq!(names(&issued.certificate), [format!("URI({ORDERS})")]);
    let (_, parsed) = x509_parser::parse_x509_certificate(&issued.certificate).unwrap();
    assert_eq!(parsed.public_key().raw, key.subject_public_key_info(), "the key is the workload's own");
    accepted(&issued.certificate, &issued.bundle, NOW + 10 - 290).unwrap();
    accepted(&issued.certificate, &issued.bundle, NOW + DAY).unwrap();
    accepted(&issued.certificate, &issued.bundle, NOW + DAY + 11).unwrap_err();
}

#[tokio::test]
async fn a_token_is_good_for_one_key() {
    let authority = authority().await;
    let token = authority.invite(&orders(), Duration::from_secs(HOUR), NOW).await.unwrap().token;
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    authority.join(&token, &request(&first, &[ORDERS]), NOW).await.unwrap();
    let refused = authority.join(&token, &request(&second, &[ORDERS]), NOW).await.unwrap_err();
    assert_eq!(refused.name(), "used_token");
    authority.join(&token, &request(&first, &[ORDERS]), NOW + 1).await.unwrap();
}

#[tokio::test]
async fn of_two_keys_at_once_one_wins() {
    let authority = authority().await;
    let token = authority.invite(&orders(), Duration::from_secs(HOUR), NOW).await.unwrap().token;
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let (first, second) = (request(&first, &[]), request(&second, &[]));
    let (one, two) = tokio::join!(authority.join(&token, &first, NOW), authority.join(&token, &second, NOW));
    assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
}

#[tokio::test]
async fn wrong_late_and_made_up_tokens_are_refused() {
    let authority = authority().await;
    let token = authority.invite(&orders(), Duration::from_secs(HOUR), NOW).await.unwrap().token;
    let csr = request(&KeyPair::generate().unwrap(), &[]);

    let late = authority.join(&token, &csr, NOW + HOUR).await.unwrap_err();
    assert_eq!(late.name(), "expired_token");
    let late = authority.join(&token, b"no request at all", NOW + HOUR).await.unwrap_err();
    assert_eq!(late.name(), "expired_token");
    let text = token.to_string();
    let other_secret = format!("{}{}", &text[..text.len() - 64], "0".repeat(64));
    let other_name = text.replace(&token.name, "0123456789abcdef");
    for made_up in [other_secret, other_name] {
        let made_up = JoinToken::parse(&made_up).unwrap();
        // Whatever comes with it: nobody reads that.
        for request in [&csr[..], b"no request at all"] {
            assert_eq!(authority.join(&made_up, request, NOW).await.unwrap_err().name(), "unknown_token");
        }
    }
    for malformed in ["", "trama-join.v1.", "trama-join.v1.ab.cd", &text[1..], &text[..text.len() - 1]] {
        assert!(JoinToken::parse(malformed).is_err(), "{malformed}");
    }
    authority.join(&token, &csr, NOW).await.unwrap();
}

#[tokio::test]
async fn a_request_for_someone_else_is_refused_and_the_token_stays_good() {
    let authority = authority().await;
    let token = authority.invite(&orders(), Duration::from_secs(HOUR), NOW).await.unwrap().token;
    let key = KeyPair::generate().unwrap();
    let foreign = "spiffe://mesh.test/ns/shop/sa/payments";
    for names in [&[foreign][..], &[ORDERS, foreign]] {
        let refused = authority.join(&token, &request(&key, names), NOW).await.unwrap_err();
        assert!(
            matches!(&refused, IdentityError::ForeignRequest { asked, .. } if asked == foreign),
            "{refused}"
        );
        let refused = authority.renew(&orders(), &request(&key, names), NOW).await.unwrap_err();
        assert_eq!(refused.name(), "foreign_request");
    }
    let mut params = CertificateParams::new(["orders.shop".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    let dns = params.serialize_request(&key).unwrap().der().to_vec();
    assert_eq!(authority.join(&token, &dns, NOW).await.unwrap_err().name(), "foreign_request");
    authority.join(&token, &request(&KeyPair::generate().unwrap(), &[]), NOW).await.unwrap();
}

#[tokio::test]
async fn a_request_that_its_key_did_not_sign_is_refused() {
    let authority = authority().await;
    let good = request(&KeyPair::generate().unwrap(), &[ORDERS]);
    assert_eq!(certificate::names_asked(&good), [ORDERS]);
    assert_eq!(certificate::names_asked(&good[1..]), [""; 0]);
    for place in [good.len() / 2, good.len() - 1] {
        let mut bad = good.clone();
        bad[place] ^= 1;
        assert_eq!(authority.renew(&orders(), &bad, NOW).await.unwrap_err().name(), "bad_request");
    }
    let huge = vec![0x30; 1 << 20];
    assert_eq!(authority.renew(&orders(), &huge, NOW).await.unwrap_err().name(), "bad_request");
}

#[tokio::test]
async fn another_trust_domain_gets_nothing() {
    let authority = authority().await;
    let foreign = SpiffeId::parse("spiffe://other.test/ns/shop/sa/orders").unwrap();
    let refused = authority.invite(&foreign, Duration::from_secs(HOUR), NOW).await.unwrap_err();
    assert_eq!(refused.name(), "bad_identity");
    let csr = request(&KeyPair::generate().unwrap(), &[]);
    assert_eq!(authority.renew(&foreign, &csr, NOW).await.unwrap_err().name(), "bad_identity");
}

/// From the first root to the third: at each hour what was issued within the last day is accepted by those who got their
/// bundle at any time since.
#[tokio::test]
async fn a_root_is_replaced_by_overlap() {
    let authority = authority().await;
    let key = KeyPair::generate().unwrap();
    let csr = request(&key, &[]);
    let mut alive: Vec<(u64, Issued)> = Vec::new();
    let mut bundles = Vec::new();
    for hour in 0..200 {
        let now = NOW + hour * HOUR;
        if hour == 30 || hour == 100 {
            authority.rotate(now).await.unwrap();
        }
        authority.maintain(now).await.unwrap();
        alive.push((now, authority.renew(&orders(), &csr, now).await.unwrap()));
        alive.retain(|(_, issued)| issued.expires > now);
        // A sidecar renews every twelve hours; its bundle is at most that old.
        let bundle = authority.bundle(now).await.unwrap();
        bundles.push(bundle.clone());
        for bundle in bundles.iter().rev().take(12) {
            for (at, issued) in &alive {
                accepted(&issued.certificate, bundle, now).unwrap_or_else(|error| {
                    panic!("hour {hour}, issued at hour {}: {error}", (at - NOW) / HOUR)
                });
            }
        }
    }
    assert_eq!(authority.bundle(NOW + 200 * HOUR).await.unwrap().len(), 1);
    assert_ne!(bundles[0], bundles[199]);
    let most = bundles.iter().map(Vec::len).max();
    assert_eq!(most, Some(2));
}

#[tokio::test]
async fn the_keys_are_sealed_and_any_control_plane_with_the_sealing_key_is_the_same_authority() {
    let store: Arc<dyn Store> = Arc::new(Memory::new(1));
    let first = over(Arc::clone(&store), [7; 32], NOW).await.unwrap();
    let second = over(Arc::clone(&store), [7; 32], NOW + 5).await.unwrap();
    assert_eq!(first.bundle(NOW + 5).await.unwrap(), second.bundle(NOW + 5).await.unwrap());
    let csr = request(&KeyPair::generate().unwrap(), &[]);
    let issued = second.renew(&orders(), &csr, NOW + 5).await.unwrap();
    accepted(&issued.certificate, &first.bundle(NOW + 5).await.unwrap(), NOW + 5).unwrap();

    let wrong = over(Arc::clone(&store), [8; 32], NOW).await.err().unwrap();
    assert_eq!(wrong.name(), "sealed");
    for entry in store.list("", None, 100).await.unwrap().entries {
        let text = String::from_utf8_lossy(&entry.value);
        assert!(
            KeyPair::try_from(entry.value.as_ref()).is_err() && !text.contains("PRIVATE"),
            "{}",
            entry.key
        );
    }
}

#[tokio::test]
async fn the_sealing_key_is_made_once_and_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("made/with/it/sealing.key");
    let sealed = SealingKey::from_file(&path).unwrap().seal("name", b"secret").unwrap();
    let again = SealingKey::from_file(&path).unwrap();
    assert_eq!(again.open("name", &sealed).unwrap(), b"secret");
    assert!(again.open("other name", &sealed).is_err());

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = SealingKey::from_file(&path).unwrap_err().to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "short").unwrap();
    let refused = SealingKey::from_file(&path).unwrap_err().to_string();
    assert!(refused.contains("sealing.key: 5 bytes, not 32"), "{refused}");
    let refused = SealingKey::from_file(&path.join("below a file")).unwrap_err().to_string();
    assert!(refused.starts_with("store.sealingKey ") && refused.contains("Not a directory"), "{refused}");
}

#[tokio::test]
async fn a_store_is_the_authority_of_one_trust_domain() {
    let store: Arc<dyn Store> = Arc::new(Memory::new(1));
    let first = over(Arc::clone(&store), [7; 32], NOW).await.unwrap();
    let key = SealingKey::new(&[7; 32]).unwrap();
    let other =
        Authority::open(Arc::clone(&store), key, Settings::new("other.test"), NOW).await.err().unwrap();
    assert_eq!(
        other.to_string(),
        "trustDomain is `other.test`, but the store is the authority of `mesh.test`; write `mesh.test`, or name \
         another `store.path`"
    );
    let again = over(store, [7; 32], NOW).await.unwrap();
    assert_eq!(
        again.bundle(NOW).await.unwrap(),
        first.bundle(NOW).await.unwrap(),
        "nothing was made meanwhile"
    );
}

#[tokio::test]
async fn old_tokens_are_forgotten() {
    let authority = authority().await;
    let short = authority.invite(&orders(), Duration::from_secs(HOUR), NOW).await.unwrap().token;
    authority.invite(&orders(), Duration::from_secs(DAY), NOW).await.unwrap();
    assert_eq!(authority.forget_expired(NOW + HOUR - 1).await.unwrap(), 0);
    assert_eq!(authority.forget_expired(NOW + HOUR).await.unwrap(), 1);
    let csr = request(&KeyPair::generate().unwrap(), &[]);
    assert_eq!(authority.join(&short, &csr, NOW).await.unwrap_err().name(), "unknown_token");
}

/// A little is allowed for; an hour is told from any other fault.
#[tokio::test]
async fn a_clock_that_is_an_hour_off_is_named() {
    let authority = authority().await;
    let joining = authority.invite(&orders(), Duration::from_secs(HOUR), NOW).await.unwrap();
    let token = JoinToken::parse(&joining.token.to_string()).unwrap();
    let key = KeyPair::generate().unwrap();
    let given = authority.join(&token, &request(&key, &[]), NOW).await.unwrap();
    let at = |now: u64| accepted(&given.certificate, &given.bundle, now);
    at(NOW - 299).unwrap();
    let early = at(NOW - HOUR).unwrap_err().to_string();
    assert!(early.contains("not valid yet"), "{early}");
    let late = at(NOW + 25 * HOUR).unwrap_err().to_string();
    assert!(late.contains("expired"), "{late}");
}
