//! Finds out whether a server is of use, at the start and again after each rest.

use std::sync::Arc;
use std::time::Duration;

use super::client::{STALL_TIMEOUT, describe};
use super::error::Fault;
use super::fetch::SHORT_WAIT;
use super::state::Shared;
use crate::units::ByteRange;

/// Waits between probes of a server that cannot be reached; the last one repeats.
const BACKOFF: [Duration; 5] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(10),
    Duration::from_secs(30),
];
/// Failed probes until the user is told; probing goes on.
const TELL_AFTER: usize = 3;

/// Probes until the server is up, then again whenever it comes out of a rest; ends when it is refused for good.
pub(super) async fn supervise(shared: Arc<Shared>) {
    let (root, down) = (shared.root.clone(), shared.down.clone());
    tokio::select! {
        () = root.cancelled() => {}
        () = down.cancelled() => {}
        () = watch(&shared) => {}
    }
}

async fn watch(shared: &Shared) {
    let mut failed = 0;
    loop {
        match first_byte(shared).await {
            Ok(rtt) => {
                failed = 0;
                shared.mark_up(rtt).await;
                await_rest(shared).await;
            }
            Err(Fault::Refused(reason)) => return shared.mark_down(&reason).await,
            Err(Fault::Busy { wait, .. }) if wait <= SHORT_WAIT && failed < TELL_AFTER => {
                failed += 1;
                tokio::time::sleep(wait.max(BACKOFF[0])).await;
            }
            Err(Fault::Busy { wait, reason }) => {
                shared.mark_resting(&reason, wait, false).await;
                tokio::time::sleep(wait.max(BACKOFF[0])).await;
            }
            // A fetch got through in the meantime: no need to insist.
            Err(Fault::Break(_)) if shared.is_up() => await_rest(shared).await,
            Err(Fault::Break(reason)) => {
                failed += 1;
                if failed >= TELL_AFTER {
                    shared.mark_resting(&reason, Duration::ZERO, false).await;
                }
                let wait = BACKOFF.get(failed - 1).or(BACKOFF.last()).copied().unwrap_or_default();
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Until a fetch found that the server needs a rest, and through that rest.
async fn await_rest(shared: &Shared) {
    loop {
        shared.rest.notified().await;
        if let Some(wait) = shared.take_rest() {
            tokio::time::sleep(wait).await;
            return;
        }
    }
}

/// GETs the first byte of the largest file, and leaves the connection open behind it. Gives the round trip, roughly.
pub(super) async fn first_byte(shared: &Shared) -> Result<Option<Duration>, Fault> {
    let Some(part) = shared.map.largest() else { return Err(Fault::Refused("has none of the files".into())) };
    let start = shared.map.parts.get(part).map_or(0, |p| p.range.start);
    shared.connection_taken();
    let (mut opened, told) = shared.ask(part, ByteRange::new(start, start + 1), &[]).await?;
    let mut got = 0u64;
    loop {
        match tokio::time::timeout(STALL_TIMEOUT, opened.response.chunk()).await {
            Err(_) => return Err(Fault::Break("sends nothing".into())),
            Ok(Err(e)) => return Err(Fault::Break(describe(&e))),
            Ok(Ok(Some(bytes))) => got += bytes.len() as u64,
            Ok(Ok(None)) => break,
        }
        if got > told.body.len() {
            return Err(Fault::Refused("sends more than it says".into()));
        }
    }
    if got < told.body.len() {
        return Err(Fault::Break("sends less than it says".into()));
    }
    if opened.owns_connection() {
        shared.connection_free(&opened.clients);
    }
    Ok(Some(opened.round_trip()))
}
