//! One fetch: consecutive ranged GETs, one file at a time, resumed where they break.
//!
//! Invariant: bytes are told in order, each once, and only bytes within the fetch's range.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::api::OriginEvent;
use super::check::Told;
use super::client::{Opened, STALL_TIMEOUT, describe};
use super::error::Fault;
use super::state::Shared;
use crate::units::{ByteRange, FetchId};

/// Bytes told at once, at most: what waits in the event channel is this times its capacity.
const CHUNK: usize = 64 * 1024;
/// Waits before a broken range is asked for again. A third break in a row ends the fetch.
const BACKOFF: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// Bytes that make a connection worth its making: after these, breaks are counted anew. Without it a server that
/// sends a byte per connection would keep us at it for ever.
const PROGRESS: u64 = 64 * 1024;
/// An aborted response with no more than this to come is read to its end, because its connection is worth more.
const DRAIN: u64 = 64 * 1024;
const DRAIN_WAIT: Duration = Duration::from_secs(2);
/// How long the end of a body may take to follow its last byte.
const EPILOGUE: Duration = Duration::from_secs(1);
/// "Busy, come again in n seconds" is waited for in place up to here; beyond, the server rests.
pub(super) const SHORT_WAIT: Duration = Duration::from_secs(2);

/// Why a fetch, or a part of it, ended early.
enum End {
    /// Nobody wants to hear of it any more.
    Aborted,
    Fault(Fault),
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        End::Fault(fault)
    }
}

pub(super) async fn run(
    shared: Arc<Shared>,
    fetch: FetchId,
    range: ByteRange,
    grants: Arc<[String]>,
    cancel: CancellationToken,
) {
    let mut job = Job { shared: shared.clone(), fetch, grants, cancel, got: 0 };
    let ended = job.all(range).await;
    shared.forget(fetch);
    match ended {
        Ok(()) => shared.tell(OriginEvent::Done { fetch }).await,
        Err(End::Aborted) => {}
        Err(End::Fault(fault)) => {
            // The server's standing first: whoever hears of the failure must not ask the same server again.
            match &fault {
                Fault::Refused(reason) => shared.mark_down(reason).await,
                Fault::Busy { wait, reason } => shared.mark_resting(reason, *wait, true).await,
                Fault::Break(reason) => shared.note_failure(reason, job.got > 0).await,
            }
            shared.tell(OriginEvent::Failed { fetch, reason: fault.reason().to_owned() }).await;
        }
    }
}

struct Job {
    shared: Arc<Shared>,
    fetch: FetchId,
    grants: Arc<[String]>,
    cancel: CancellationToken,
    /// Bytes told in all.
    got: u64,
}

impl Job {
    async fn all(&mut self, range: ByteRange) -> Result<(), End> {
        if let Some(reason) = self.shared.unavailable() {
            // Not a fault of this fetch: the server's standing is known already.
            return Err(Fault::Break(reason).into());
        }
        let cut: Vec<_> = self.shared.map.cut(range).filter(|(_, r)| !r.is_empty()).collect();
        if cut.is_empty() {
            return Err(Fault::Break("has none of these bytes".into()).into());
        }
        for (part, want) in cut {
            self.part(part, want).await?;
        }
        Ok(())
    }

    /// All of `want`, which lies within one part, over as many requests as it takes.
    async fn part(&mut self, part: usize, want: ByteRange) -> Result<(), End> {
        let (mut at, mut tries) = (want.start, 0);
        while at < want.end {
            let before = at;
            let ended = self.request(part, ByteRange::new(at, want.end), &mut at).await;
            if at - before >= PROGRESS {
                tries = 0;
            }
            if at >= want.end {
                break;
            }
            let wait = match ended {
                Err(End::Aborted) => return Err(End::Aborted),
                Err(End::Fault(fault @ Fault::Refused(_))) => return Err(fault.into()),
                Err(End::Fault(Fault::Busy { wait, reason })) if wait > SHORT_WAIT || tries >= BACKOFF.len() => {
                    return Err(Fault::Busy { wait, reason }.into());
                }
                Err(End::Fault(Fault::Busy { wait, .. })) => wait.max(BACKOFF[0]),
                Err(End::Fault(fault @ Fault::Break(_))) => match BACKOFF.get(tries) {
                    Some(wait) => *wait,
                    None => return Err(fault.into()),
                },
                // A server may answer with less than it was asked for, as long as it gets on with it.
                Ok(()) if at - before >= PROGRESS => continue,
                Ok(()) => match BACKOFF.get(tries) {
                    Some(wait) => *wait,
                    None => return Err(Fault::Refused("sends less than it is asked for".into()).into()),
                },
            };
            tries += 1;
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(End::Aborted),
                () = self.shared.down.cancelled() => return Err(self.refused()),
                () = tokio::time::sleep(wait) => {}
            }
        }
        Ok(())
    }

    /// One request and its response; `at` follows the bytes that were told.
    async fn request(&mut self, part: usize, want: ByteRange, at: &mut u64) -> Result<(), End> {
        let (shared, grants) = (self.shared.clone(), self.grants.clone());
        let _permit = tokio::select! {
            biased;
            () = self.cancel.cancelled() => return Err(End::Aborted),
            permit = shared.permits.acquire() => permit.map_err(|_| End::Aborted)?,
        };
        shared.connection_taken();
        let asked = shared.ask(part, want, &grants);
        tokio::pin!(asked);
        let (mut opened, told) = tokio::select! {
            biased;
            () = self.cancel.cancelled() => {
                if want.len() <= DRAIN
                    && let Ok(Ok((opened, told))) = timeout(DRAIN_WAIT, asked).await
                {
                    drain(&shared, opened, told.body.len()).await;
                }
                shared.keep_one_warm();
                return Err(End::Aborted);
            }
            () = shared.down.cancelled() => return Err(self.refused()),
            answer = &mut asked => answer?,
        };
        shared.mark_up(Some(opened.round_trip())).await;
        if opened.owns_connection() {
            shared.keep_one_warm();
        }
        let end = told.body.end;
        let ended = self.body(&mut opened, &told, at).await;
        match &ended {
            Ok(()) if opened.owns_connection() => shared.connection_free(&opened.clients),
            Err(End::Aborted) if opened.owns_connection() => {
                drain(&shared, opened, end.saturating_sub(*at)).await;
                shared.keep_one_warm();
            }
            _ => {}
        }
        ended
    }

    /// Tells a response's bytes as they arrive, and holds it to the length it told.
    async fn body(&mut self, opened: &mut Opened, told: &Told, at: &mut u64) -> Result<(), End> {
        let end = told.body.end;
        while *at < end {
            let chunk = tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(End::Aborted),
                () = self.shared.down.cancelled() => return Err(self.refused()),
                chunk = timeout(STALL_TIMEOUT, opened.response.chunk()) => chunk,
            };
            let mut bytes = match chunk {
                Err(_) => return Err(Fault::Break("sends nothing any more".into()).into()),
                Ok(Err(e)) => return Err(Fault::Break(describe(&e)).into()),
                Ok(Ok(None)) => return Err(Fault::Break("ended a response early".into()).into()),
                Ok(Ok(Some(bytes))) => bytes,
            };
            let room = usize::try_from(end - *at).unwrap_or(usize::MAX);
            if bytes.len() > room {
                // Its length was told and is not kept: nothing else it says can be relied on either.
                return Err(Fault::Refused("sends more than it says".into()).into());
            }
            while !bytes.is_empty() {
                let data = bytes.split_to(bytes.len().min(CHUNK));
                let n = data.len() as u64;
                self.tell_bytes(*at, data).await?;
                *at += n;
            }
        }
        match timeout(EPILOGUE, opened.response.chunk()).await {
            Ok(Ok(Some(more))) if !more.is_empty() => Err(Fault::Refused("sends more than it says".into()).into()),
            // All bytes are there; how the response ends is the connection's affair.
            _ => Ok(()),
        }
    }

    async fn tell_bytes(&mut self, offset: u64, data: Bytes) -> Result<(), End> {
        self.got += data.len() as u64;
        let event = OriginEvent::Bytes { fetch: self.fetch, offset, data };
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(End::Aborted),
            () = self.shared.tell(event) => Ok(()),
        }
    }

    fn refused(&self) -> End {
        Fault::Break(self.shared.unavailable().unwrap_or_else(|| "was left alone".into())).into()
    }
}

/// Reads what little is left of a response that nobody wants, so that its connection can be used again.
async fn drain(shared: &Shared, mut opened: Opened, left: u64) {
    if left > DRAIN || !opened.owns_connection() {
        return;
    }
    let read = async {
        let mut got = 0;
        while let Ok(Some(bytes)) = opened.response.chunk().await {
            got += bytes.len() as u64;
            if got > left {
                return false;
            }
        }
        got == left
    };
    if timeout(DRAIN_WAIT, read).await == Ok(true) {
        shared.connection_free(&opened.clients);
    }
}
