//! The level against the plain way to find it, and what max-min fairness promises.

use proptest::prelude::*;

use crate::serve::allocate::{Level, Need};

fn level(capacity: u64, needs: &[Need]) -> Level {
    let mut level = Level::new(capacity);
    for need in needs {
        level.insert(*need);
        level.check().unwrap();
    }
    level
}

/// Progressive filling as the textbook has it: fill all alike, and leave out who is full.
fn plain(capacity: u64, needs: &[Need]) -> Option<f64> {
    let mut sorted = needs.to_vec();
    sorted.sort_by(|a, b| (a.bits * b.weight).cmp(&(b.bits * a.weight)));
    let mut left = capacity as f64;
    let mut weight: u64 = needs.iter().map(|n| n.weight).sum();
    for n in sorted {
        let height = left / weight as f64;
        if n.bits as f64 > height * n.weight as f64 {
            return Some(height);
        }
        left -= n.bits as f64;
        weight -= n.weight;
    }
    None
}

fn needs() -> impl Strategy<Value = Vec<Need>> {
    let one = (prop_oneof![0u64..50, 0u64..5_000, 1_000u64..1_000_000], 1u64..5);
    prop::collection::vec(one.prop_map(|(bits, weight)| Need { bits, weight }), 0..40)
}

#[test]
fn as_a_picture() {
    let shares = |capacity, bits: &[u64]| {
        let needs: Vec<Need> = bits.iter().map(|b| Need::of(*b)).collect();
        let l = level(capacity, &needs);
        needs.iter().map(|n| l.share(*n)).collect::<Vec<_>>()
    };
    assert_eq!(shares(100, &[10, 20, 30]), [10, 20, 30]);
    assert_eq!(shares(60, &[10, 20, 30]), [10, 20, 30]);
    assert_eq!(shares(50, &[10, 20, 30]), [10, 20, 20]);
    assert_eq!(shares(30, &[10, 20, 30]), [10, 10, 10]);
    assert_eq!(shares(9, &[10, 20, 30]), [3, 3, 3]);
    assert_eq!(shares(0, &[10, 0]), [0, 0]);
}

proptest! {
    #[test]
    fn it_is_the_textbooks(needs in needs(), capacity in 0u64..2_000_000) {
        let level = level(capacity, &needs);
        match (level.height(), plain(capacity, &needs)) {
            (None, None) => {}
            // A bit of rounding for each who asks.
            (Some(h), Some(p)) => prop_assert!((h as f64 - p).abs() <= needs.len() as f64 + 1.0, "{h} {p}"),
            // On the edge the two may differ by that rounding: then what is left over is next to nothing.
            (got, plain) => {
                let sum: u64 = needs.iter().map(|n| level.share(*n)).sum();
                prop_assert!(capacity.abs_diff(sum) <= 5 * needs.len() as u64, "{got:?} {plain:?}");
            }
        }
    }

    #[test]
    fn all_of_it_is_shared_out_and_no_more(needs in needs(), capacity in 0u64..2_000_000) {
        let level = level(capacity, &needs);
        let sum: u64 = needs.iter().map(|n| level.share(*n)).sum();
        let asked: u64 = needs.iter().map(|n| n.bits).sum();
        prop_assert!(sum <= capacity);
        let weights: u64 = needs.iter().map(|n| n.weight).sum();
        prop_assert!(sum + weights >= capacity.min(asked));
    }

    #[test]
    fn nobody_gets_nothing(needs in needs(), more in 1u64..1_000_000) {
        let weights: u64 = needs.iter().map(|n| n.weight).sum();
        let level = level(weights + more, &needs);
        prop_assert!(needs.iter().all(|n| n.bits == 0 || level.share(*n) > 0));
    }

    /// Who asks for more than it needs gets no more of what it needs, and who asks for less loses nothing it asks for.
    #[test]
    fn nobody_gains_by_asking_for_more(needs in needs(), capacity in 0u64..2_000_000, times in 2u64..10) {
        let mut level = level(capacity, &needs);
        for &need in &needs {
            let honest = level.share(need);
            let greedy = Need { bits: need.bits * times, ..need };
            level.remove(need);
            level.insert(greedy);
            let of_use = level.share(greedy).min(need.bits);
            prop_assert!(of_use <= honest + need.weight, "{of_use} > {honest}");
            level.remove(greedy);
            level.insert(need);
        }
    }

    /// More capacity takes from nobody; another bidder gives to nobody.
    #[test]
    fn it_is_monotone(needs in needs(), capacity in 0u64..2_000_000, more in 0u64..100_000, other in 0u64..100_000) {
        let mut level = level(capacity, &needs);
        let before: Vec<u64> = needs.iter().map(|n| level.share(*n)).collect();
        level.set_capacity(capacity + more);
        level.check().unwrap();
        prop_assert!(needs.iter().zip(&before).all(|(n, b)| level.share(*n) >= *b));
        level.set_capacity(capacity);
        level.insert(Need::of(other));
        prop_assert!(needs.iter().zip(&before).all(|(n, b)| level.share(*n) <= *b));
    }

    #[test]
    fn it_stays_level_through_any_changes(
        steps in prop::collection::vec((any::<prop::sample::Index>(), 0u64..3_000, 1u64..4, 0u64..20_000), 1..200)
    ) {
        let mut level = Level::new(5_000);
        let mut there: Vec<Need> = Vec::new();
        for (which, bits, weight, capacity) in steps {
            match bits % 4 {
                0 if !there.is_empty() => {
                    let need = there.swap_remove(which.index(there.len()));
                    level.remove(need);
                }
                1 => level.set_capacity(capacity),
                _ => {
                    there.push(Need { bits, weight });
                    level.insert(Need { bits, weight });
                }
            }
            prop_assert_eq!(level.check(), Ok(()));
        }
        // What was never there takes nothing along.
        level.remove(Need { bits: 1_000_000, weight: 1 });
        prop_assert_eq!(level.check(), Ok(()));
    }
}
