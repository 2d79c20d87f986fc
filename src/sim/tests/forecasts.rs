//! Forecasts against what came of them: what was said of each request when it was sent, and when its block was there.

use super::super::record::Calibration;
use super::super::scenario::Habits;
use super::{Report, named};

/// Of the links to peers of this habit only.
fn of(r: &Report, which: impl Fn(&Habits) -> bool) -> Calibration {
    let habits = |from: u32| r.habits.get(from as usize).and_then(Option::as_ref).is_some_and(&which);
    Calibration::of(r.outcomes.iter().flat_map(|o| &o.arrivals).filter(|a| habits(a.from)))
}

#[test]
fn on_steady_links_blocks_come_before_mean_and_four_deviations() {
    for seed in 1..2 {
        for name in ["ample", "swing", "scarce", "uneven", "churn", "rejects"] {
            let c = of(&named(name, seed), |_| true);
            assert!(c.known > 1000, "{name}: {c:?}");
            assert!(c.within_4 > 0.98 && c.within_2 > 0.90, "{name}: {c:?}");
            assert!(c.bias.abs() < 0.05 && c.error < 0.1, "{name}: {c:?}");
        }
    }
}

#[test]
fn a_pulsing_peer_is_forecast_within_its_pulse() {
    let c = of(&named("pulse", 1), |h| h.pulse > 0.0);
    assert!(c.known > 1000 && c.within_4 > 0.95, "{c:?}");
    assert!(c.bias.abs() < 0.1 && c.error < 0.5, "{c:?}");
}

#[test]
fn where_links_are_shared_and_choked_most_forecasts_still_hold() {
    for name in ["flipping", "flash"] {
        let c = named(name, 1).calibration();
        assert!(c.known > 1000 && c.within_4 > 0.92, "{name}: {c:?}");
        assert!(c.bias.abs() < 0.1, "{name}: {c:?}");
    }
}
