//! The body of an answer, byte by byte in the gate's turns.
//!
//! Invariant: nothing is read before it may be sent, so that an answer that waits, for the gate or for its reader, holds no more
//! than one chunk; an answer that cannot be finished breaks its connection, and never looks whole.

use std::collections::VecDeque;
use std::io;

use axum::body::{Body, Bytes};
use futures::stream;
use tokio::sync::OwnedSemaphorePermit;

use super::Visit;
use super::connections::InAnswer;
use super::log::Told;
use crate::serve::gate::Turn;
use crate::serve::source::Object;
use crate::units::ByteRange;

/// A piece of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The head of a part of a multipart, or its end.
    Text(Bytes),
    /// Of the file.
    File(ByteRange),
}

impl Part {
    pub fn len(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::File(range) => range.len(),
        }
    }
}

struct Sending {
    parts: VecDeque<Part>,
    object: Object,
    turn: Turn,
    /// Bytes that may go and were not read yet.
    may: usize,
    answer: InAnswer,
    told: Told,
    /// Of those that may have files open at a time.
    _room: OwnedSemaphorePermit,
}

/// A body of `parts`. What is told of it in the log, and that it is under way, ends with it.
pub fn body(parts: Vec<Part>, object: Object, turn: Turn, visit: Visit, room: OwnedSemaphorePermit) -> Body {
    let Visit { answer, told, .. } = visit;
    let sending = Sending { parts: parts.into(), object, turn, may: 0, answer, told, _room: room };
    Body::from_stream(stream::unfold(Some(sending), |sending| async move {
        let mut sending = sending?;
        sending.answer.asked();
        let next = sending.next().await;
        sending.answer.handed();
        match next {
            Ok(None) => None,
            Ok(Some(bytes)) => {
                sending.told.sent(bytes.len());
                // With the last byte: nobody asks whether there are more than were told.
                if sending.parts.iter().all(|p| p.len() == 0) {
                    sending.told.whole();
                }
                Some((Ok(bytes), Some(sending)))
            }
            Err(e) => {
                sending.told.broken(&e);
                Some((Err(e), None))
            }
        }
    }))
}

impl Sending {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let Some(part) = self.parts.front_mut() else { return Ok(None) };
            if part.len() == 0 {
                self.parts.pop_front();
                continue;
            }
            if self.may == 0 {
                self.may = self.turn.take(usize::try_from(part.len()).unwrap_or(usize::MAX)).await?;
            }
            let bytes = match part {
                Part::Text(text) => text.split_to(text.len().min(self.may)),
                Part::File(range) => {
                    let most = usize::try_from(range.len()).unwrap_or(usize::MAX).min(self.may);
                    let bytes = self.object.read(range.start, most).await?;
                    range.start += bytes.len() as u64;
                    bytes
                }
            };
            self.may = self.may.saturating_sub(bytes.len());
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }
}
