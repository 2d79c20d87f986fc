//! One response's way through the gate.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use futures::{Stream, StreamExt, stream};

use super::queue::{Claim, Class, Flow, Ticket};
use super::{Gate, Stopped};
use crate::serve::allocate::{GrantId, ViewerKey};

/// A body this short goes with the granted, or a busy server could not even be found to be there.
pub(super) const SHORT: u64 = 1024;

/// Where granted bits came from, and where they go back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Grant {
        id: GrantId,
        bits: u64,
    },
    /// Granted to the request itself.
    Asked {
        viewer: ViewerKey,
        bits: u64,
    },
}

/// One response's right to send. Dropped early, what it did not send goes back to its viewer's grants.
pub struct Turn {
    gate: Gate,
    viewer: Option<Flow>,
    address: Flow,
    /// Used up from the first.
    parts: Vec<Part>,
    /// Bits of all parts that are not sent yet.
    granted: u64,
    short: bool,
}

impl Turn {
    pub(super) fn new(gate: Gate, viewer: Option<Flow>, address: Flow, parts: Vec<Part>, len: u64) -> Self {
        let granted = parts.iter().map(|p| p.bits()).sum();
        Self { gate, viewer, address, parts, granted, short: len <= SHORT }
    }

    /// Bits that go first; the rest of the response gets what is left over.
    pub fn granted_bits(&self) -> u64 {
        self.granted
    }

    /// Waits until some bytes may go out, at most `most`, and says how many: zero only when `most` is. Read them after
    /// this, not before: whoever waits then holds no memory. Dropped while it waits, it takes nothing.
    pub async fn take(&mut self, most: usize) -> Result<usize, Stopped> {
        // A last bit or two make no byte.
        let granted = usize::try_from(self.granted / 8).unwrap_or(usize::MAX);
        let (class, flow, most) = match self.viewer {
            Some(flow) if granted > 0 => (Class::Granted, flow, most.min(granted)),
            _ if self.short => (Class::Granted, self.address, most),
            _ => (Class::Leftover, self.address, most),
        };
        let n = self.pass(class, flow, most).await?;
        self.granted -= (n as u64 * 8).min(if granted > 0 { self.granted } else { 0 });
        self.gate.shared.metrics.gate.sent(class, n);
        Ok(n)
    }

    async fn pass(&self, class: Class, flow: Flow, most: usize) -> Result<usize, Stopped> {
        if most == 0 {
            return Ok(0);
        }
        Pass { gate: &self.gate, class, flow, most, ticket: None }.await
    }

    /// `source` in its turns, for sources that bring chunks of their own size.
    pub fn body<S, E>(self, source: S) -> Body
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Body::from_stream(stream::unfold((self, source, Bytes::new()), |(mut turn, mut source, mut rest)| async move {
            while rest.is_empty() {
                match source.next().await? {
                    Ok(bytes) => rest = bytes,
                    Err(e) => return Some((Err(io::Error::other(e)), (turn, source, rest))),
                }
            }
            let out = match turn.take(rest.len()).await {
                Ok(n) => Ok(rest.split_to(n.min(rest.len()))),
                Err(e) => Err(io::Error::from(e)),
            };
            Some((out, (turn, source, rest)))
        }))
    }
}

impl Part {
    pub fn bits(self) -> u64 {
        match self {
            Self::Grant { bits, .. } | Self::Asked { bits, .. } => bits,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.granted >= 8 {
            self.gate.give_back(&self.parts, self.granted);
        }
    }
}

/// Waits for one chunk. What it holds of the queue ends with it.
struct Pass<'a> {
    gate: &'a Gate,
    class: Class,
    flow: Flow,
    most: usize,
    ticket: Option<Ticket>,
}

impl Future for Pass<'_> {
    type Output = Result<usize, Stopped>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let shared = &*self.gate.shared;
        if shared.stop.is_cancelled() {
            return Poll::Ready(Err(Stopped));
        }
        let Some(line) = &shared.line else { return Poll::Ready(Ok(self.most.min(super::CHUNK_FREE))) };
        let waker = || cx.waker().clone();
        let mut woken = Vec::new();
        let mut line = line.lock();
        let asked = match self.ticket {
            Some(ticket) => match line.queue.claim(ticket, waker) {
                Claim::Served(n) => Ok(n),
                Claim::Waits => return Poll::Pending,
            },
            None => line.queue.ask(shared.now(), (self.class, self.flow), self.most, waker, &mut woken),
        };
        let nudge = asked.is_err() && !line.armed;
        drop(line);
        if nudge {
            shared.nudge.notify_one();
        }
        woken.into_iter().for_each(std::task::Waker::wake);
        match asked {
            Ok(n) => {
                self.ticket = None;
                Poll::Ready(Ok(n))
            }
            Err(ticket) => {
                self.ticket = Some(ticket);
                // The server may have stopped in between, and told all that it knew of.
                if self.gate.shared.stop.is_cancelled() { Poll::Ready(Err(Stopped)) } else { Poll::Pending }
            }
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let (Some(ticket), Some(line)) = (self.ticket, &self.gate.shared.line) {
            line.lock().queue.leave(ticket);
        }
    }
}
