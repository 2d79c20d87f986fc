//! Against gateways of our own on loopback: what they are asked, in order, is what the protocols say.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

/// A NAT-PMP router that gives the port above the one wished for; with `pcp` it speaks PCP. Its log holds opcode, wish and
/// lifetime of each mapping.
async fn router(pcp: bool) -> (SocketAddr, Arc<Mutex<Vec<(u8, u16, u32)>>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (addr, log) = (socket.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let asked = log.clone();
    tokio::spawn(async move {
        let mut buf = [0; 1100];
        // The first datagram is lost.
        let _lost = socket.recv_from(&mut buf).await.unwrap();
        loop {
            let (n, from) = socket.recv_from(&mut buf).await.unwrap();
            let b = buf[..n].to_vec();
            let word = |at: usize| u16::from_be_bytes(b[at..at + 2].try_into().unwrap());
            let long = |at: usize| u32::from_be_bytes(b[at..at + 4].try_into().unwrap());
            let answer = match (b[0], pcp, b[1]) {
                (2, false, _) => vec![0, 0x80, 0, 1, 0, 0, 0, 0],
                (0, true, _) => continue,
                (0, false, 0) => vec![0, 0x80, 0, 0, 0, 0, 0, 9, 203, 0, 113, 1],
                (0, false, op) => {
                    asked.lock().push((op, word(6), long(8)));
                    let external = if word(6) == 0 { 0 } else { word(6) + 1 };
                    let head = [0, 0x80 | op, 0, 0, 0, 0, 0, 9];
                    [&head[..], &b[4..6], &external.to_be_bytes(), &b[8..12]].concat()
                }
                (_, _, op) => {
                    let mut out = b.clone();
                    out[1] = 0x80 | op;
                    out[3] = 0;
                    if op == 1 {
                        asked.lock().push((b[36], word(42), long(4)));
                        out[42..44].copy_from_slice(&(word(42) + 1).to_be_bytes());
                    }
                    out
                }
            };
            // A stranger's nonsense goes before it.
            socket.send_to(&[9; 3], from).await.unwrap();
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    (addr, log)
}

#[tokio::test]
async fn pcp_and_nat_pmp_map_and_unmap() {
    let route = NetRoute::default();
    for (pcp, name, ops) in [(false, "NAT-PMP", [2, 1]), (true, "PCP", [6, 17])] {
        let (addr, log) = router(pcp).await;
        let mut router = Router::Pcp(pcp::Client::find(&route, addr).await.unwrap());
        assert_eq!(router.name(), name);
        let (granted, udp) = both(&mut router, &route, 6881, 6881).await.unwrap();
        assert_eq!((granted.external_port, granted.lease, udp), (6882, LEASE, Some(6883)), "{name}");
        router.unmap(&route, Protocol::Tcp, 6881, 6882).await;
        let seconds = LEASE.as_secs() as u32;
        assert_eq!(*log.lock(), [(ops[0], 6881, seconds), (ops[1], 6882, seconds), (ops[0], 0, 0)], "{name}");
    }
}

/// A UPnP router on which two ports are taken and leases are for ever; its log holds each call with its arguments.
async fn igd(service: &'static str) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (addr, log) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
    let asked = log.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !whole(&request) {
                let mut buf = [0; 4096];
                let n = stream.read(&mut buf).await.unwrap();
                request.extend_from_slice(&buf[..n]);
            }
            let request = String::from_utf8(request).unwrap();
            let value = |name: &str| {
                let (_, rest) = request.split_once(&format!("<{name}>")).unwrap();
                rest.split_once('<').unwrap().0.to_owned()
            };
            let fault = |code: u16| {
                let text = format!(
                    "<s:Envelope><s:Body><s:Fault><detail><UPnPError><errorCode>{code}</errorCode>\
                    </UPnPError></detail></s:Fault></s:Body></s:Envelope>"
                );
                ("500 Internal Server Error", text)
            };
            let (status, text) = if request.starts_with("GET /root.xml ") {
                let text = format!(
                    "<root><device><serviceList><service><serviceType>{service}</serviceType>\
                    <controlURL>ctl</controlURL></service></serviceList></device></root>"
                );
                ("200 OK", text)
            } else {
                assert!(request.starts_with("POST /ctl ") && request.contains(service), "{request}");
                let action = if request.contains("#AddPortMapping\"") { "add" } else { "delete" };
                let said = format!("{action} {} {}", value("NewProtocol"), value("NewExternalPort"));
                if action == "delete" {
                    asked.lock().push(said);
                    ("200 OK", String::new())
                } else if value("NewLeaseDuration") != "0" {
                    fault(725)
                } else if value("NewExternalPort") == "6881" {
                    fault(718)
                } else {
                    asked.lock().push(format!("{said} to {}:{}", value("NewInternalClient"), value("NewInternalPort")));
                    ("200 OK", String::new())
                }
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", text.len());
            stream.write_all((head + &text).as_bytes()).await.unwrap();
        }
    });
    (addr, log)
}

fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let len = head.lines().find_map(|l| l.strip_prefix("content-length: "));
    body.len() >= len.map_or(0, |l| l.trim().parse().unwrap())
}

#[tokio::test]
async fn upnp_takes_another_port_and_a_lease_for_ever_where_it_must() {
    let route = NetRoute::default();
    let (addr, log) = igd("urn:schemas-upnp-org:service:WANPPPConnection:1").await;
    let location = url::Url::parse(&format!("http://{addr}/root.xml")).unwrap();
    let mut router = Router::Upnp(upnp::describe(&route, &location, addr.ip()).await.unwrap());
    let (granted, udp) = both(&mut router, &route, 6881, 6881).await.unwrap();
    assert_eq!(udp, Some(granted.external_port));
    router.unmap(&route, Protocol::Tcp, 6881, granted.external_port).await;
    let port = granted.external_port;
    assert!(port > 6881);
    let expect = [
        format!("add TCP {port} to 127.0.0.1:6881"),
        format!("add UDP {port} to 127.0.0.1:6881"),
        format!("delete TCP {port}"),
    ];
    assert_eq!(*log.lock(), expect);
}

#[test]
fn the_gateway_is_read_from_linuxs_table() {
    let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
        eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
        wg0\t00000000\t0102000A\t0003\t0\t0\t50\t00000000\t0\t0\t0\n\
        eth0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\nx\n";
    if cfg!(target_endian = "little") {
        assert_eq!(gateway_in(table, Some("eth0")), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(gateway_in(table, None), Some(Ipv4Addr::new(10, 0, 2, 1)));
        assert_eq!(gateway_in(table, Some("eth9")), None);
    }
}
