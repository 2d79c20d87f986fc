//! HTTPS and HTTP/2, against nginx with a certificate of its own.

use super::*;

/// Which certificates are trusted is read from the environment, once per process: this test runs itself in a second
/// one that trusts nginx's.
#[tokio::test]
async fn http2_over_tls_serves_aborts_and_refuses_strangers() {
    const URL: &str = "SLUICEGATE_TEST_TLS_URL";
    if let Ok(url) = std::env::var(URL) {
        return fetch_over_tls(&url).await;
    }
    let Some(nginx) = Nginx::start_tls().await else { return };
    nginx.put("v.mkv", &pattern(5_000_000));
    let url = format!("https://localhost:{}/v.mkv", nginx.tls_port.unwrap());
    // Untrusted here, and said so.
    let (_origin, mut rx) = start(map_of(&[(&url, 5_000_000)]));
    let reason = down(&mut rx).await;
    assert!(reason.contains("certificate"), "{reason}");

    let name = "origin::tests::tls::http2_over_tls_serves_aborts_and_refuses_strangers";
    // Blocking is fine: nginx is a process of its own.
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(URL, &url)
        .env("SSL_CERT_FILE", nginx.dir.path().join("cert.pem"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    let log = std::fs::read_to_string(nginx.dir.path().join("access.log")).unwrap();
    let connections: HashSet<_> = log.lines().filter_map(|l| l.split(' ').next()).collect();
    assert!(!log.is_empty() && log.lines().all(|l| l.ends_with("HTTP/2.0")), "{log}");
    assert_eq!(connections.len(), 1, "{log}");
}

async fn fetch_over_tls(url: &str) {
    let data = pattern(5_000_000);
    let (origin, mut rx) = start(map_of(&[(url, 5_000_000)]));
    up(&mut rx).await;
    origin.fetch(F, ByteRange::new(0, 5_000_000), Vec::new());
    assert!(matches!(next(&mut rx).await, OriginEvent::Bytes { .. }));
    origin.abort(F);
    // On the same connection, whose other streams go on.
    origin.fetch(FetchId(2), ByteRange::new(4_000_000, 4_500_000), Vec::new());
    assert_eq!(collect(&mut rx, FetchId(2), 4_000_000).await.unwrap(), &data[4_000_000..4_500_000]);
    let probe = probe_url(&crate::net::NetRoute::default(), url).await.unwrap();
    assert_eq!((probe.len, probe.ranges), (5_000_000, true));
}
