//! What the gate and the bids count, for Prometheus.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::queue::Class;
use crate::serve::allocate::{Ledger, Standing};

/// Seconds: from what is answered out of hand to what a player would have given up on.
const LATENCY: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Why a bid or a grant was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Reason {
    /// No JSON of the right form, or numbers that make no sense.
    Malformed,
    TooLarge,
    TooSlow,
    TooSoon,
    Crowded,
    UnknownTorrent,
    /// A grant that this server or its like never signed.
    Forged,
    /// A grant shown by another viewer, used up, or lapsed.
    Void,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    reason: Reason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
enum Kind {
    Granted,
    Leftover,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sent {
    class: Kind,
}

/// Counted over the life of the server.
#[derive(Debug)]
pub struct GateCounts {
    bids: Counter,
    refused: Family<Refused, Counter>,
    sent: [Counter; 2],
    latency: Histogram,
    ledger: Arc<Watched>,
}

impl GateCounts {
    pub fn register(registry: &mut Registry) -> Self {
        let sent = Family::<Sent, Counter>::default();
        let of = |class| sent.get_or_create_owned(&Sent { class });
        let counts = Self {
            bids: Counter::default(),
            refused: Family::default(),
            sent: [of(Kind::Granted), of(Kind::Leftover)],
            latency: Histogram::new(LATENCY),
            ledger: Arc::default(),
        };
        registry.register("bids", "Bids answered with a grant", counts.bids.clone());
        registry.register("bids_refused", "Bids and grants refused, by reason", counts.refused.clone());
        registry.register_with_unit("sent", "Bytes of files sent, by class", Unit::Bytes, sent);
        registry.register_with_unit(
            "bid_duration",
            "From a bid's head to its answer",
            Unit::Seconds,
            counts.latency.clone(),
        );
        registry.register_collector(Box::new(counts.ledger.clone()));
        counts
    }

    /// A bid was answered after so long.
    pub fn bid(&self, seconds: f64) {
        self.bids.inc();
        self.latency.observe(seconds);
    }

    pub fn refused(&self, reason: Reason) {
        self.refused.get_or_create(&Refused { reason }).inc();
    }

    pub(super) fn sent(&self, class: Class, bytes: usize) {
        if let Some(counter) = self.sent.get(class as usize) {
            counter.inc_by(bytes as u64);
        }
    }

    /// From now on the ledger's standing is told too.
    pub(super) fn watch(&self, ledger: &Arc<Mutex<Ledger>>) {
        let _ = self.ledger.0.set(Arc::downgrade(ledger));
    }
}

/// The ledger, asked when somebody looks.
#[derive(Default)]
struct Watched(OnceLock<Weak<Mutex<Ledger>>>);

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl Collector for Watched {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let Some(ledger) = self.0.get().and_then(Weak::upgrade) else { return Ok(()) };
        let standing: Standing = ledger.lock().standing();
        let gauges = [
            ("viewers", "Viewers remembered", None, standing.viewers as i64),
            ("viewers_bidding", "Viewers whose bid counts in the level now", None, standing.bidding as i64),
            ("promised", "Granted and not yet due to be carried", bits(), signed(standing.promised)),
            (
                "level",
                "Per second, what one viewer gets at most; absent while there is enough for all",
                bits(),
                standing.level.map_or(-1, signed),
            ),
        ];
        for (name, help, unit, value) in gauges {
            if value >= 0 {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?)?;
            }
        }
        let counters = [
            ("granted", "Granted to bids", standing.granted_bits),
            ("spent", "Of those granted, asked for in time", standing.spent_bits),
            ("returned", "Of those asked for, not sent after all", standing.returned_bits),
            ("lapsed", "Of those granted, never asked for", standing.lapsed_bits),
        ];
        for (name, help, value) in counters {
            let counter = ConstCounter::new(value);
            counter.encode(encoder.encode_descriptor(name, help, bits().as_ref(), counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// The unit of grants, which Prometheus has no name of its own for.
fn bits() -> Option<Unit> {
    Some(Unit::Other("bits".into()))
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
