//! PCP (RFC 6887), and NAT-PMP (RFC 6886) for routers that know only that: one datagram each way.
//!
//! Invariant: only the gateway's own answer to our own request is believed: by its address, and for PCP by the nonce.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BufMut};
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::{Granted, MapError, Protocol};
use crate::net::NetRoute;

const PCP: u8 = 2;
const NAT_PMP: u8 = 0;
const RESPONSE: u8 = 0x80;
/// PCP.
const MAP: u8 = 1;
/// Result codes of both: the version is not spoken.
const UNSUPPORTED_VERSION: u16 = 1;
/// Both protocols wait so before they send again, doubling (RFC 6886, section 3.1); a home's router answers within
/// milliseconds, so the last of its nine tries, after a minute, is not made.
const TRIES: [Duration; 4] =
    [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1), Duration::from_secs(2)];
/// The longest datagram either protocol has (RFC 6887, section 7).
const MAX_DATAGRAM: usize = 1100;

/// A gateway that answered.
#[derive(Debug, Clone)]
pub struct Client {
    gateway: SocketAddr,
    version: u8,
    /// Names our mapping, and is to be the same when it is renewed or removed.
    nonce: [u8; 12],
}

impl Client {
    /// Finds out which of the two `gateway` speaks.
    pub async fn find(route: &NetRoute, gateway: SocketAddr) -> Result<Self, MapError> {
        let mut client = Self { gateway, version: PCP, nonce: rand::random() };
        match client.probe(route).await {
            Err(MapError::Refused(_)) => {
                client.version = NAT_PMP;
                client.probe(route).await.map(|()| client)
            }
            other => other.map(|()| client),
        }
    }

    pub fn name(&self) -> &'static str {
        if self.version == PCP { "PCP" } else { "NAT-PMP" }
    }

    /// PCP's ANNOUNCE and NAT-PMP's question for the outer address change nothing, and both have opcode 0.
    async fn probe(&self, route: &NetRoute) -> Result<(), MapError> {
        let socket = self.connect(route).await?;
        let request = match self.version {
            PCP => pcp_header(0, Duration::ZERO, own(&socket)?),
            _ => vec![NAT_PMP, 0],
        };
        exchange(&socket, &request, |answer| read_head(answer, self.version, 0).map(|r| r.map(drop))).await
    }

    /// Maps `port`, wishing for `wish` outside; with a lifetime of zero the mapping is removed.
    pub async fn map(
        &self,
        route: &NetRoute,
        protocol: Protocol,
        port: u16,
        wish: u16,
        lease: Duration,
    ) -> Result<Granted, MapError> {
        let socket = self.connect(route).await?;
        match self.version {
            PCP => {
                let mut request = pcp_header(MAP, lease, own(&socket)?);
                let number = match protocol {
                    Protocol::Tcp => 6,
                    Protocol::Udp => 17,
                };
                request.put_slice(&self.nonce);
                request.put_slice(&[number, 0, 0, 0]);
                request.put_u16(port);
                request.put_u16(wish);
                // Any outer IPv4 address.
                request.put_u128(Ipv6Addr::from_bits(0xffff_0000_0000).to_bits());
                let asked = request.get(24..42).unwrap_or_default().to_vec();
                exchange(&socket, &request, |answer| read_pcp_map(answer, &asked)).await
            }
            _ => {
                let op = match protocol {
                    Protocol::Udp => 1,
                    Protocol::Tcp => 2,
                };
                let mut request = vec![NAT_PMP, op, 0, 0];
                request.put_u16(port);
                request.put_u16(wish);
                request.put_u32(lease.as_secs().try_into().unwrap_or(u32::MAX));
                exchange(&socket, &request, |answer| read_nat_pmp_map(answer, op, port)).await
            }
        }
    }

    async fn connect(&self, route: &NetRoute) -> Result<UdpSocket, MapError> {
        let socket = route.udp_to(self.gateway.ip())?;
        socket.connect(self.gateway).await?;
        Ok(socket)
    }
}

fn own(socket: &UdpSocket) -> Result<IpAddr, MapError> {
    Ok(socket.local_addr()?.ip())
}

fn pcp_header(op: u8, lease: Duration, own: IpAddr) -> Vec<u8> {
    let mut out = vec![PCP, op, 0, 0];
    out.put_u32(lease.as_secs().try_into().unwrap_or(u32::MAX));
    let own = match own {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    out.put_u128(own.to_bits());
    out
}

/// Sends until it is answered. `read` gives `None` for what is no answer to this.
async fn exchange<T>(
    socket: &UdpSocket,
    request: &[u8],
    read: impl Fn(&[u8]) -> Option<Result<T, MapError>>,
) -> Result<T, MapError> {
    let mut buf = vec![0; MAX_DATAGRAM];
    for wait in TRIES {
        // One that does not listen says so at once, and that is an error of the next call.
        socket.send(request).await?;
        let deadline = Instant::now() + wait;
        while let Ok(got) = timeout_at(deadline, socket.recv(&mut buf)).await {
            if let Some(said) = read(buf.get(..got?).unwrap_or_default()) {
                return said;
            }
        }
    }
    Err(MapError::Silent)
}

/// What stands in every answer: version, opcode, result. Gives the bytes after the result code. `None` for anything else.
fn read_head(mut answer: &[u8], version: u8, op: u8) -> Option<Result<&[u8], MapError>> {
    let (spoken, opcode) = (answer.try_get_u8().ok()?, answer.try_get_u8().ok()?);
    // Two bytes in NAT-PMP, the second of two in PCP.
    let result = answer.try_get_u16().ok()?;
    let result = if spoken == PCP { result & 0xff } else { result };
    if spoken != version && result == UNSUPPORTED_VERSION {
        return Some(Err(MapError::Refused("it speaks another version".into())));
    }
    if spoken != version || opcode != RESPONSE | op {
        return None;
    }
    Some(if result == 0 { Ok(answer) } else { Err(MapError::Refused(words(version, result))) })
}

/// RFC 6887, section 7.4; RFC 6886, section 3.5.
fn words(version: u8, result: u16) -> String {
    match (version, result) {
        (_, UNSUPPORTED_VERSION) => "it speaks another version".into(),
        (_, 2) => "it does not allow that".into(),
        (NAT_PMP, 3) => "it has no connection".into(),
        (NAT_PMP, 4) | (PCP, 8) => "it has no room for more ports".into(),
        (PCP, 11) => "that port is taken".into(),
        (_, n) => format!("error {n}"),
    }
}

/// `asked` is the part of the request that comes back: nonce, protocol, port.
fn read_pcp_map(answer: &[u8], asked: &[u8]) -> Option<Result<Granted, MapError>> {
    let lease = match read_head(answer, PCP, MAP)? {
        Ok(mut rest) => rest.try_get_u32().ok()?,
        Err(e) => return Some(Err(e)),
    };
    let body = answer.get(24..)?;
    let external = body.get(18..20)?;
    if body.get(..18)? != asked {
        return None;
    }
    let external_port = u16::from_be_bytes(external.try_into().ok()?);
    Some(Ok(Granted { external_port, lease: Duration::from_secs(lease.into()) }))
}

fn read_nat_pmp_map(answer: &[u8], op: u8, port: u16) -> Option<Result<Granted, MapError>> {
    let mut rest = match read_head(answer, NAT_PMP, op)? {
        Ok(rest) => rest,
        Err(e) => return Some(Err(e)),
    };
    let (_epoch, internal) = (rest.try_get_u32().ok()?, rest.try_get_u16().ok()?);
    let (external_port, lease) = (rest.try_get_u16().ok()?, rest.try_get_u32().ok()?);
    (internal == port).then_some(Ok(Granted { external_port, lease: Duration::from_secs(lease.into()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_the_rfcs_have_them() {
        // RFC 6886, section 3.3: version, op + 128, result, epoch, internal, external, lifetime.
        let granted = b"\0\x82\0\0\0\0\0\x01\x1a\xe1\x1a\xe2\0\0\x0e\x10";
        let said = read_nat_pmp_map(granted, 2, 6881).unwrap().unwrap();
        assert_eq!(said, Granted { external_port: 6882, lease: Duration::from_secs(3600) });
        assert!(read_nat_pmp_map(granted, 2, 6880).is_none(), "of another port");
        assert!(read_nat_pmp_map(granted, 1, 6881).is_none(), "of another protocol");
        assert!(matches!(read_nat_pmp_map(b"\0\x82\0\x04", 2, 6881), Some(Err(MapError::Refused(_)))));
        // A NAT-PMP router's answer to PCP.
        assert!(matches!(read_head(b"\0\x80\0\x01\0\0\0\0", PCP, 0), Some(Err(MapError::Refused(_)))));
        assert!(read_head(b"\0\x80\0\0\0\0\0\0", PCP, 0).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_answer_is_read_or_dropped(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let _ = (read_pcp_map(&bytes, &[0; 18]), read_nat_pmp_map(&bytes, 2, 1), read_head(&bytes, PCP, 0));
        }
    }
}
