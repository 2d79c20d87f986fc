//! UPnP Internet Gateway Device: found by SSDP, asked over SOAP.
//!
//! Invariant: only a router on a network of ours is asked: one whose description lies at the address it answered from, and
//! whose control address is the same host. What it sends is bounded and its XML has no entities of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use quick_xml::Reader;
use quick_xml::escape::escape;
use quick_xml::events::Event;
use reqwest::header::CONTENT_TYPE;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::{Granted, MapError, Protocol, own_address};
use crate::net::{NetRoute, http_way, routed};

const SSDP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(239, 255, 255, 250), 1900);
/// Whom is asked for: devices of both versions, and their services, since some routers answer to one only.
const SEARCHED: [&str; 4] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// Services that map ports, the best first.
const SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// Devices answer within a random part of MX seconds; asked twice, since datagrams get lost.
const MX: u32 = 2;
const SEARCH: Duration = Duration::from_secs(3);
const SEARCHES: usize = 2;
/// Descriptions looked at; a home has few gateways.
const MAX_ANSWERS: usize = 8;
const HTTP_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest description or answer that is read; real ones have 2 to 20 kB.
const MAX_XML: usize = 256 * 1024;
/// External ports that are tried where others have them already.
const MAX_PORTS: u16 = 4;
/// UPnP error codes (WANIPConnection:1, 2.4.16): the port is taken; leases are for ever only.
const CONFLICT: u16 = 718;
const ONLY_PERMANENT: u16 = 725;
/// A lease for ever is renewed like one of this time: the router may have been switched off.
const PERMANENT: Duration = Duration::from_secs(3600);

/// A router's service that maps ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    control: Url,
    service: String,
    /// Leases are for ever only.
    permanent: bool,
}

/// Looks for a router on the local network. The first that can map ports is taken.
pub async fn find(route: &NetRoute) -> Result<Gateway, MapError> {
    for _ in 0..SEARCHES {
        for (location, from) in search(route).await? {
            match describe(route, &location, from).await {
                Ok(gateway) => return Ok(gateway),
                Err(e) => tracing::debug!(%location, "no port mapping by this device: {e}"),
            }
        }
    }
    Err(MapError::Silent)
}

async fn search(route: &NetRoute) -> Result<Vec<(Url, IpAddr)>, MapError> {
    let socket = route.udp_to((*SSDP.ip()).into())?;
    for st in SEARCHED {
        let ask =
            format!("M-SEARCH * HTTP/1.1\r\nHOST: {SSDP}\r\nMAN: \"ssdp:discover\"\r\nMX: {MX}\r\nST: {st}\r\n\r\n");
        socket.send_to(ask.as_bytes(), SSDP).await?;
    }
    let mut found = Vec::new();
    let mut buf = vec![0; 2048];
    let mut deadline = Instant::now() + SEARCH;
    while found.len() < MAX_ANSWERS {
        let Ok(got) = timeout_at(deadline, socket.recv_from(&mut buf)).await else { break };
        let (n, from) = got?;
        if let Some(location) = location(buf.get(..n).unwrap_or_default(), from)
            && !found.iter().any(|(l, _)| *l == location)
        {
            found.push((location, from.ip()));
            // The router is usually the only one; others get a moment.
            deadline = deadline.min(Instant::now() + Duration::from_millis(300));
        }
    }
    Ok(found)
}

/// The description's address in an answer; `None` where it is not the answering host's own, on a network of ours.
fn location(answer: &[u8], from: SocketAddr) -> Option<Url> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.lines();
    let status = lines.next()?;
    if !status.starts_with("HTTP/1.") || status.split_whitespace().nth(1) != Some("200") {
        return None;
    }
    let header = lines.find_map(|l| l.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("location")));
    let url = Url::parse(header?.1.trim()).ok()?;
    (url.scheme() == "http" && is_host(&url, from.ip()) && is_near(from.ip())).then_some(url)
}

fn is_host(url: &Url, ip: IpAddr) -> bool {
    match url.host() {
        Some(Host::Ipv4(host)) => IpAddr::V4(host) == ip,
        Some(Host::Ipv6(host)) => IpAddr::V6(host) == ip,
        _ => false,
    }
}

/// Addresses of home networks, those of providers that share one address among many (RFC 6598) included.
fn is_near(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let shared = matches!(ip.octets(), [100, b, ..] if b & 0xc0 == 64);
            ip.is_private() || ip.is_link_local() || ip.is_loopback() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

/// Reads a device's description and picks its service.
pub async fn describe(route: &NetRoute, location: &Url, from: IpAddr) -> Result<Gateway, MapError> {
    let client = client(route, location)?;
    let response = client.get(location.clone()).send().await.map_err(http)?;
    if !response.status().is_success() {
        return Err(MapError::Nonsense);
    }
    let text = body(response).await?;
    pick(&text, location, from).ok_or(MapError::Nonsense)
}

/// The best service of a description whose control address is on the same host.
fn pick(text: &str, location: &Url, from: IpAddr) -> Option<Gateway> {
    let description = read_description(text)?;
    let base = description.base.as_deref().and_then(|b| Url::parse(b).ok()).filter(|b| is_host(b, from));
    let base = base.as_ref().unwrap_or(location);
    SERVICES.iter().find_map(|wanted| {
        let (_, path) = description.services.iter().find(|(kind, _)| kind == wanted)?;
        let control = base.join(path).ok().filter(|u| u.scheme() == "http" && is_host(u, from))?;
        Some(Gateway { control, service: (*wanted).to_owned(), permanent: false })
    })
}

#[derive(Debug, Default)]
struct Description {
    base: Option<String>,
    /// Type and control address.
    services: Vec<(String, String)>,
}

/// `None` where it is no XML.
fn read_description(text: &str) -> Option<Description> {
    let mut out = Description::default();
    let (mut kind, mut control) = (String::new(), String::new());
    let mut at = String::new();
    walk(text, |event| match event {
        Walk::Open(name) => {
            at = name.to_owned();
            if name == "service" {
                (kind, control) = Default::default();
            }
        }
        Walk::Text(text) => match at.as_str() {
            "URLBase" => out.base.get_or_insert_default().push_str(text.trim()),
            "serviceType" => kind.push_str(text.trim()),
            "controlURL" => control.push_str(text.trim()),
            _ => {}
        },
        Walk::Close(name) => {
            at.clear();
            if name == "service" && !kind.is_empty() && !control.is_empty() && out.services.len() < 64 {
                out.services.push((std::mem::take(&mut kind), std::mem::take(&mut control)));
            }
        }
    })?;
    Some(out)
}

/// The code of a UPnP error in a SOAP fault.
fn error_code(text: &str) -> Option<u16> {
    let (mut at, mut code) = (String::new(), String::new());
    walk(text, |event| match event {
        Walk::Open(name) => at = name.to_owned(),
        Walk::Text(text) if at == "errorCode" => code.push_str(text.trim()),
        Walk::Text(_) => {}
        Walk::Close(_) => at.clear(),
    })?;
    code.parse().ok()
}

enum Walk<'a> {
    Open(&'a str),
    Text(&'a str),
    Close(&'a str),
}

/// Goes through XML by local names. `None` where it is none.
fn walk(text: &str, mut see: impl FnMut(Walk<'_>)) -> Option<()> {
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event().ok()? {
            Event::Start(e) => see(Walk::Open(std::str::from_utf8(e.local_name().as_ref()).ok()?)),
            Event::End(e) => see(Walk::Close(std::str::from_utf8(e.local_name().as_ref()).ok()?)),
            Event::Text(e) => see(Walk::Text(std::str::from_utf8(&e).ok()?)),
            Event::CData(e) => see(Walk::Text(std::str::from_utf8(&e).ok()?)),
            Event::GeneralRef(e) => {
                let text = match std::str::from_utf8(&e).ok()? {
                    "amp" => "&",
                    "lt" => "<",
                    "gt" => ">",
                    "quot" => "\"",
                    "apos" => "'",
                    _ => continue,
                };
                see(Walk::Text(text));
            }
            Event::Eof => return Some(()),
            _ => {}
        }
    }
}

impl Gateway {
    /// Maps `port`; another one outside where `wish` is taken.
    pub async fn map(
        &mut self,
        route: &NetRoute,
        protocol: Protocol,
        port: u16,
        wish: u16,
        lease: Duration,
    ) -> Result<Granted, MapError> {
        let host = SocketAddr::new(self.host()?, self.control.port_or_known_default().unwrap_or(80));
        let own = own_address(route, host)?;
        let mut external = wish;
        for step in 1..=MAX_PORTS {
            let asked = if self.permanent { Duration::ZERO } else { lease };
            let arguments = [
                ("NewRemoteHost", String::new()),
                ("NewExternalPort", external.to_string()),
                ("NewProtocol", protocol_name(protocol).to_owned()),
                ("NewInternalPort", port.to_string()),
                ("NewInternalClient", own.to_string()),
                ("NewEnabled", "1".to_owned()),
                ("NewPortMappingDescription", "Sluicegate".to_owned()),
                ("NewLeaseDuration", asked.as_secs().to_string()),
            ];
            match self.call(route, "AddPortMapping", &arguments).await {
                Ok(()) => {
                    let lease = if self.permanent { PERMANENT } else { lease };
                    return Ok(Granted { external_port: external, lease });
                }
                Err(Fault::Upnp(ONLY_PERMANENT)) if !self.permanent => self.permanent = true,
                Err(Fault::Upnp(CONFLICT)) => external = port.checked_add(step).unwrap_or(1024 + step),
                Err(Fault::Upnp(code)) => return Err(MapError::Refused(format!("UPnP error {code}"))),
                Err(Fault::Other(e)) => return Err(e),
            }
        }
        Err(MapError::Refused("all ports that were tried are taken".into()))
    }

    pub async fn unmap(&self, route: &NetRoute, protocol: Protocol, external: u16) -> Result<(), MapError> {
        let arguments = [
            ("NewRemoteHost", String::new()),
            ("NewExternalPort", external.to_string()),
            ("NewProtocol", protocol_name(protocol).to_owned()),
        ];
        self.call(route, "DeletePortMapping", &arguments).await.map_err(|e| match e {
            Fault::Upnp(code) => MapError::Refused(format!("UPnP error {code}")),
            Fault::Other(e) => e,
        })
    }

    fn host(&self) -> Result<IpAddr, MapError> {
        match self.control.host() {
            Some(Host::Ipv4(ip)) => Ok(ip.into()),
            Some(Host::Ipv6(ip)) => Ok(ip.into()),
            _ => Err(MapError::Nonsense),
        }
    }

    async fn call(&self, route: &NetRoute, action: &str, arguments: &[(&str, String)]) -> Result<(), Fault> {
        let service = &self.service;
        let arguments: String = arguments.iter().map(|(k, v)| format!("<{k}>{}</{k}>", escape(v.as_str()))).collect();
        let soap = format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{action} xmlns:u=\"{service}\">\
             {arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        );
        let request = client(route, &self.control)?
            .post(self.control.clone())
            .header(CONTENT_TYPE, "text/xml; charset=\"utf-8\"")
            .header("SOAPAction", format!("\"{service}#{action}\""))
            .body(soap);
        let response = request.send().await.map_err(http)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = body(response).await?;
        match error_code(&text) {
            Some(code) => Err(Fault::Upnp(code)),
            None => Err(MapError::Refused(format!("HTTP status {}", status.as_u16())).into()),
        }
    }
}

enum Fault {
    Upnp(u16),
    Other(MapError),
}

impl From<MapError> for Fault {
    fn from(e: MapError) -> Self {
        Fault::Other(e)
    }
}

fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "TCP",
        Protocol::Udp => "UDP",
    }
}

/// A client that goes the chosen way, to this network only.
fn client(route: &NetRoute, url: &Url) -> Result<reqwest::Client, MapError> {
    let builder = reqwest::Client::builder()
        .timeout(HTTP_TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .tls_certs_only([])
        .pool_max_idle_per_host(0);
    let way = http_way(route, url).map_err(std::io::Error::from)?;
    let builder = routed(builder, &way).map_err(std::io::Error::from)?;
    // The environment's proxies are for the world.
    builder.no_proxy().build().map_err(http)
}

fn http(e: reqwest::Error) -> MapError {
    if e.is_timeout() { MapError::Silent } else { MapError::Io(std::io::Error::other(e.without_url())) }
}

async fn body(mut response: reqwest::Response) -> Result<String, MapError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(http)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_XML {
            return Err(MapError::Nonsense);
        }
    }
    String::from_utf8(bytes).map_err(|_| MapError::Nonsense)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTION: &str = "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device>\
        <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><serviceList><service>\
        <serviceType>urn:schemas-upnp-org:service:Layer3Forwarding:1</serviceType><controlURL>/l3</controlURL></service>\
        </serviceList><deviceList><device><deviceList><device><serviceList><service>\
        <serviceType> urn:schemas-upnp-org:service:WANIPConnection:1 </serviceType>\
        <controlURL>/ctl?a=1&amp;b=2</controlURL></service></serviceList></device></deviceList></device></deviceList>\
        </device></root>";

    fn at(s: &str) -> (Url, IpAddr) {
        let url = Url::parse(s).unwrap();
        let ip = url.host_str().unwrap().parse().unwrap();
        (url, ip)
    }

    #[test]
    fn the_service_is_picked_and_a_control_address_elsewhere_is_not() {
        let (url, ip) = at("http://192.168.1.1:5000/root.xml");
        let gateway = pick(DESCRIPTION, &url, ip).unwrap();
        assert_eq!(gateway.control.as_str(), "http://192.168.1.1:5000/ctl?a=1&b=2");
        let elsewhere = DESCRIPTION.replace("/ctl", "http://203.0.113.9/ctl");
        assert_eq!(pick(&elsewhere, &url, ip), None);
        let base = DESCRIPTION
            .replace("<device><deviceType>", "<URLBase>http://192.168.1.1:80/x/</URLBase><device><deviceType>");
        assert_eq!(pick(&base, &url, ip).unwrap().control.port_or_known_default(), Some(80));
        for no in ["", "<root></root>", "no xml", "<a><b></a>"] {
            assert_eq!(pick(no, &url, ip), None, "{no}");
        }
        assert_eq!(error_code("<s:Fault><detail><u:errorCode> 718 </u:errorCode></detail></s:Fault>"), Some(718));
    }

    #[test]
    fn only_the_answering_hosts_own_description_is_looked_at() {
        let from: SocketAddr = "192.168.1.1:1900".parse().unwrap();
        let answer = |l: &str| format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation: {l}\r\n\r\n");
        assert!(location(answer("http://192.168.1.1:5000/root.xml").as_bytes(), from).is_some());
        for bad in ["http://192.168.1.2/x", "http://router/x", "https://192.168.1.1/x", "file:///etc/passwd", ""] {
            assert_eq!(location(answer(bad).as_bytes(), from), None, "{bad}");
        }
        assert_eq!(location(answer("http://203.0.113.1/x").as_bytes(), "203.0.113.1:1900".parse().unwrap()), None);
        assert_eq!(location(b"NOTIFY * HTTP/1.1\r\nLocation: http://192.168.1.1/\r\n\r\n", from), None);
    }

    proptest::proptest! {
        #[test]
        fn any_xml_is_read_or_refused(text in "(<[a-z:/?!\\[]{0,9}>?|&[a-z#]{0,4};|[a-z<>&\"']){0,40}") {
            let _ = (read_description(&text), error_code(&text), location(text.as_bytes(), "10.0.0.1:1".parse().unwrap()));
        }
    }
}
