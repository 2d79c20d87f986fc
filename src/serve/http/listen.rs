//! Connections: accepted, spoken on, ended.
//!
//! Invariants: no error of one connection, nor the system's want of descriptors, ends the listener; what a connection holds is
//! bounded whatever the other end does; after the grace of a shutdown none is left.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::connections::{Connection, Connections};
use super::visitor::is_proxy;
use super::{Door, Site};
use crate::serve::tls::Tls;

/// A TLS handshake is two round trips.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// What a connection may hold of heads that came and of bytes that wait for a slow reader.
const BUFFER: usize = 64 * 1024;

/// Bytes in the kernel that the network did not take yet. With megabytes there a grant would be spent long before it is seen,
/// and a reader that takes nothing would go unnoticed for as long as those last.
const UNSENT: u32 = 128 * 1024;

/// Answers at a time on one HTTP/2 connection: browsers open 100, players a handful.
const STREAMS: u32 = 64;

/// Heads over HTTP/2, all fields together.
const HEAD: u32 = 16 * 1024;

/// After an error of the listener; doubled up to the last.
const REST: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];

/// Closed without an answer there is nothing a client can read; but a TLS alert or the rest of a body still goes out in this time.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// A listener's way to its site.
pub struct Listening {
    pub site: Arc<Site>,
    pub door: Door,
    pub connections: Arc<Connections>,
    pub tls: Option<Arc<Tls>>,
    /// Accept no more; end what is idle.
    pub ending: CancellationToken,
    /// End everything.
    pub stop: CancellationToken,
}

/// Accepts until `ending`, then waits for the connections, which `stop` ends at the latest.
pub async fn accept(listener: TcpListener, listening: Listening) {
    let listening = Arc::new(listening);
    // Aborted when this is dropped.
    let mut tasks = JoinSet::new();
    let mut rest = REST[0];
    let mut sweep = tokio::time::interval(listening.connections.sweep_every());
    loop {
        tokio::select! {
            biased;
            () = listening.ending.cancelled() => break,
            _ = sweep.tick() => listening.sweep(),
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((tcp, from)) => {
                    rest = REST[0];
                    listening.take(tcp, from, &mut tasks);
                }
                // The client gave up between its handshake and us.
                Err(e) if of_one_connection(&e) => {}
                Err(e) => {
                    tracing::warn!("no connection can be accepted now: {e}");
                    listening.site.gate.metrics().http.refused("accept");
                    listening.connections.make_room();
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(REST[1]);
                }
            },
        }
    }
    drop(listener);
    loop {
        tokio::select! {
            ended = tasks.join_next() => if ended.is_none() { return },
            _ = sweep.tick() => listening.sweep(),
        }
    }
}

fn of_one_connection(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    ) || e.kind() == io::ErrorKind::Interrupted
}

impl Listening {
    fn sweep(&self) {
        let stalled = self.connections.sweep();
        self.site.gate.metrics().http.stalled(stalled);
    }

    fn take(self: &Arc<Self>, tcp: TcpStream, from: SocketAddr, tasks: &mut JoinSet<()>) {
        let from = from.ip();
        let Some(connection) = self.connections.admit(from, is_proxy(&self.site.proxies, from)) else {
            self.site.gate.metrics().http.refused("connections");
            return;
        };
        // Small ranges are the rule here, and each would wait for an ACK otherwise.
        let _ = tcp.set_nodelay(true);
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let _ = socket2::SockRef::from(&tcp).set_tcp_notsent_lowat(UNSENT);
        let this = self.clone();
        tasks.spawn(async move {
            let gauge = this.site.gate.metrics().connections.clone();
            gauge.inc();
            this.speak(tcp, from, connection).await;
            gauge.dec();
        });
    }

    async fn speak(&self, tcp: TcpStream, from: IpAddr, connection: Connection) {
        match &self.tls {
            None => self.http(tcp, from, connection).await,
            // Elsewhere: ten thousand connections without TLS need not have room for it.
            Some(tls) => Box::pin(self.shake(tls, tcp, from, connection)).await,
        }
    }

    async fn shake(&self, tls: &Tls, tcp: TcpStream, from: IpAddr, connection: Connection) {
        let shaken = tokio::select! {
            () = connection.closing().cancelled() => return,
            () = self.ending.cancelled() => return,
            shaken = tokio::time::timeout(HANDSHAKE_TIME, tls.acceptor().accept(tcp)) => shaken,
        };
        match shaken {
            Ok(Ok(tls)) => return Box::pin(self.http(tls, from, connection)).await,
            Ok(Err(e)) => tracing::debug!(%from, "no TLS: {e}"),
            Err(_) => {}
        }
        self.site.gate.metrics().http.refused("tls");
    }

    /// HTTP/1.1 or HTTP/2, whichever the client begins with.
    async fn http<S>(&self, socket: S, from: IpAddr, connection: Connection)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new(TokioExecutor::new());
        // Heads that do not end are `Connections::sweep`'s, as all that is idle.
        builder.http1().header_read_timeout(None).max_buf_size(BUFFER);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEAD)
            .max_send_buf_size(BUFFER)
            // CVE-2023-44487: streams that are opened and reset at once.
            .max_pending_accept_reset_streams(Some(STREAMS as usize))
            .max_local_error_reset_streams(Some(STREAMS as usize));
        let connection = Arc::new(connection);
        let (site, door, used) = (self.site.clone(), self.door, connection.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let (site, answer) = (site.clone(), used.answer());
            async move { Ok::<_, Infallible>(site.answer(request.map(Body::new), door, from, answer).await) }
        });
        let speaking = builder.serve_connection(TokioIo::new(socket), service);
        tokio::pin!(speaking);
        let closing = connection.closing();
        tokio::select! {
            // How a connection ends is no news: clients go away as they like.
            _ = &mut speaking => return,
            () = closing.cancelled() => return,
            () = self.stop.cancelled() => {}
            () = self.ending.cancelled() => speaking.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            _ = &mut speaking => return,
            () = closing.cancelled() => return,
            () = self.stop.cancelled() => {}
        }
        // The bodies break off now, which tells clients that they are not whole.
        let _ = tokio::time::timeout(LAST_WORDS, speaking).await;
    }
}
