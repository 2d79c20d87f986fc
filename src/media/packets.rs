//! Demuxed packets waiting for a decoder. Invariant: bytes and span are those of exactly what is queued.

use std::collections::VecDeque;

use ffmpeg_next::Packet;

/// A packet with its decoding time on the media clock, microseconds.
pub(super) struct Queued {
    pub packet: Packet,
    pub dts: i64,
}

/// Packets of one stream, all of the current serial.
#[derive(Default)]
pub(super) struct PacketQueue {
    items: VecDeque<Queued>,
    bytes: usize,
    /// The demuxer has no more for this serial.
    pub ended: bool,
}

impl PacketQueue {
    pub(super) fn push(&mut self, item: Queued) {
        self.bytes += item.packet.size();
        self.items.push_back(item);
    }

    pub(super) fn pop(&mut self) -> Option<Queued> {
        let item = self.items.pop_front()?;
        self.bytes -= item.packet.size();
        Some(item)
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        (self.bytes, self.ended) = (0, false);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Media time from the first packet to the last, microseconds.
    pub(super) fn span(&self) -> i64 {
        match (self.items.front(), self.items.back()) {
            (Some(a), Some(b)) => b.dts.saturating_sub(a.dts).max(0),
            _ => 0,
        }
    }
}
