//! TLS, with certificates of our own.

use std::path::Path;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Client, Version};
use tokio::io::AsyncWriteExt;

use super::super::{Origin, Tls, TlsError};
use super::{of, pattern, run, until, until_closed};

/// Writes a new certificate and its key; gives what to trust.
fn certificate(dir: &Path) -> Certificate {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["127.0.0.1".into()]).unwrap();
    std::fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    Certificate::from_pem(cert.pem().as_bytes()).unwrap()
}

fn client(trust: &Certificate, http1: bool) -> Client {
    let builder = Client::builder().no_proxy().tls_certs_only([trust.clone()]);
    if http1 { builder.http1_only() } else { builder }.build().unwrap()
}

#[tokio::test]
async fn both_versions_and_a_certificate_that_is_renewed() {
    let dir = tempfile::tempdir().unwrap();
    let data = pattern(200_000);
    std::fs::write(dir.path().join("f"), &data).unwrap();
    let first = certificate(dir.path());
    let tls = Arc::new(Tls::load(&dir.path().join("cert.pem"), &dir.path().join("key.pem")).unwrap());
    let server = run(Origin::open(of(&dir.path().join("f"))).await.unwrap(), Some(tls.clone()), false).await;
    let url = format!("{}/f", server.url);
    for (http1, version) in [(false, Version::HTTP_2), (true, Version::HTTP_11)] {
        let answer = client(&first, http1).get(&url).send().await.unwrap();
        assert_eq!(answer.version(), version);
        assert_eq!(answer.bytes().await.unwrap(), data);
    }
    let second = certificate(dir.path());
    assert!(client(&second, false).get(&url).send().await.is_err());
    tls.reload().unwrap();
    assert_eq!(client(&second, false).get(&url).send().await.unwrap().status().as_u16(), 200);
    assert!(client(&first, false).get(&url).send().await.is_err());
    // Whoever does not speak TLS is told so and let go.
    let mut plain = server.connect().await;
    plain.write_all(b"GET /f HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(!until_closed(&mut plain).await.contains("200"));
    until("it is counted", || server.count("sluicegate_refused_total{why=\"tls\"}") >= 3).await;
    // A certificate that is half-written does not take its place.
    std::fs::write(dir.path().join("cert.pem"), "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    assert!(tls.reload().is_err());
    assert_eq!(client(&second, true).get(&url).send().await.unwrap().status().as_u16(), 200);
}

#[test]
fn files_that_are_no_certificate() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificate(one.path());
    certificate(other.path());
    let load = |cert: &Path, key: &Path| Tls::load(cert, key).err();
    let (cert, key) = (one.path().join("cert.pem"), one.path().join("key.pem"));
    assert!(matches!(load(&one.path().join("x"), &key), Some(TlsError::Read { .. })));
    assert!(matches!(load(&key, &key), Some(TlsError::NoPem { what: "certificate", .. })));
    assert!(matches!(load(&cert, &cert), Some(TlsError::NoPem { what: "private key", .. })));
    assert!(matches!(load(&cert, &other.path().join("key.pem")), Some(TlsError::Unfit(_))));
    assert!(load(&cert, &key).is_none());
}
