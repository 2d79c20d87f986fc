//! The ledger over time: what is promised is kept, and shares are fair, whatever the bids.

use std::time::Duration;

use proptest::prelude::*;

use crate::engine::Bid;
use crate::serve::allocate::{AddressKey, Allocation, Bidder, Grant, GrantId, Ledger, QUANTUM, Refusal, ViewerKey};
use crate::units::Instant;

const MBIT: u64 = 1_000_000;

fn who(viewer: u128) -> Bidder {
    Bidder { viewer: ViewerKey(viewer), address: AddressKey(viewer) }
}

fn at(s: f64) -> Instant {
    Instant::from_secs_f64(s)
}

fn bid(bits: u64) -> Bid {
    Bid { max_bits: bits, due_bits: Vec::new() }
}

fn ledger(capacity: u64) -> Ledger {
    Ledger::new(Allocation { capacity: Some(capacity), ..Allocation::default() })
}

fn spend(ledger: &mut Ledger, now: Instant, viewer: u128, grant: &Grant, bits: u64) -> u64 {
    ledger.spend(now, grant.id, grant.bits, grant.expires, ViewerKey(viewer), bits)
}

/// Runs `needs` (bits that each bids for, every second, at its own moment) for some seconds, each spending `used` of what it is
/// granted, and gives what each was granted and spent per second, after the first ten.
fn run(ledger: &mut Ledger, needs: &[u64], used: impl Fn(usize, u64) -> u64) -> (Vec<f64>, Vec<f64>) {
    let (mut granted, mut spent) = (vec![0.0; needs.len()], vec![0.0; needs.len()]);
    let seconds = 40;
    for s in 0..seconds {
        for (i, need) in needs.iter().enumerate() {
            // A little early, a little late.
            let jitter = ((s * 7 + i * 13) % 11) as f64 * 0.002;
            let now = at(s as f64 + i as f64 / needs.len() as f64 * 0.97 + jitter);
            let grant = ledger.bid(now, who(i as u128), &bid(*need)).unwrap();
            let took = spend(ledger, now, i as u128, &grant, used(i, grant.bits));
            if s >= 10 {
                granted[i] += grant.bits as f64 / (seconds - 10) as f64;
                spent[i] += took as f64 / (seconds - 10) as f64;
            }
        }
    }
    (granted, spent)
}

fn jain(x: &[f64]) -> f64 {
    x.iter().sum::<f64>().powi(2) / (x.len() as f64 * x.iter().map(|v| v * v).sum::<f64>())
}

#[test]
fn enough_for_all_is_granted_in_full_at_once() {
    let mut l = ledger(100 * MBIT);
    for i in 0..10 {
        assert_eq!(l.bid(at(0.001 * i as f64), who(i), &bid(4 * MBIT)).unwrap().bits, 4 * MBIT);
    }
    assert_eq!(l.standing().level, None);
    assert_eq!((l.standing().viewers, l.standing().bidding), (10, 10));
}

#[test]
fn without_a_capacity_every_bid_is_granted_up_to_what_is_absurd() {
    let mut l = Ledger::new(Allocation::default());
    assert_eq!(l.bid(at(0.0), who(1), &bid(5)).unwrap().bits, 5);
    assert_eq!(l.bid(at(1.0), who(1), &bid(u64::MAX)).unwrap().bits, Allocation::default().bid_most);
}

#[test]
fn over_capacity_equal_bids_get_equal_parts_of_all_of_it() {
    for n in [2usize, 3, 10, 100] {
        let mut l = ledger(40 * MBIT);
        let (granted, _) = run(&mut l, &vec![60 * MBIT; n], |_, bits| bits);
        let sum: f64 = granted.iter().sum();
        assert!((sum / 40e6 - 1.0).abs() < 0.02, "{n}: {sum}");
        assert!(jain(&granted) > 0.995, "{n}: {granted:?}");
    }
}

#[test]
fn a_share_below_a_block_comes_as_a_block_in_turn() {
    // 400 viewers of 4 Mbit/s: 10 kbit/s each, a block every 13 s.
    let mut l = ledger(4 * MBIT);
    let needs = vec![60 * MBIT; 400];
    let (mut sums, mut total) = (vec![0u64; 400], 0);
    for s in 0..200 {
        for i in 0..400u128 {
            let g = l.bid(at(s as f64 + i as f64 * 0.0024), who(i), &bid(needs[i as usize])).unwrap();
            assert!(g.bits == 0 || g.bits >= QUANTUM, "{} bits are of no use", g.bits);
            if s >= 20 {
                sums[i as usize] += g.bits;
                total += g.bits;
                spend(&mut l, at(s as f64 + i as f64 * 0.0024), i, &g, g.bits);
            }
        }
    }
    assert!((total as f64 / (180.0 * 4e6) - 1.0).abs() < 0.02, "{total}");
    assert!(sums.iter().all(|s| *s > 0), "nobody gets nothing");
    let fair = jain(&sums.iter().map(|s| *s as f64).collect::<Vec<_>>());
    assert!(fair > 0.95, "{fair}");
}

#[test]
fn who_bids_ten_times_its_need_gains_nothing_and_costs_nobody() {
    // Ten need 2 Mbit/s each, of 16; one of them bids 20.
    let honest = vec![2 * MBIT; 10];
    let (_, plain) = run(&mut ledger(16 * MBIT), &honest, |_, bits| bits);
    let mut needs = honest.clone();
    needs[3] *= 10;
    let (_, spent) = run(&mut ledger(16 * MBIT), &needs, |_, bits| bits.min(2 * MBIT));
    assert!(spent[3] <= plain[3] * 1.02, "{} {}", spent[3], plain[3]);
    for (i, (s, p)) in spent.iter().zip(&plain).enumerate() {
        assert!(*s >= p * 0.98, "{i}: {s} {p}");
    }
    // With enough for the honest needs, the greedy one gets what is spare and the others all they need.
    let (granted, _) = run(&mut ledger(30 * MBIT), &needs, |_, bits| bits.min(2 * MBIT));
    assert!(granted.iter().enumerate().all(|(i, g)| i == 3 || *g >= 2e6 * 0.99), "{granted:?}");
}

#[test]
fn bidding_five_times_a_second_gains_nothing() {
    let mut l = ledger(10 * MBIT);
    let mut sums = [0u64; 5];
    for step in 0..200 {
        let now = at(step as f64 * 0.2);
        for (i, sum) in sums.iter_mut().enumerate() {
            // The first bids at each step, the others at each fifth.
            if i == 0 || step % 5 == i {
                let g = l.bid(now, who(i as u128), &bid(20 * MBIT)).unwrap();
                *sum += if step >= 50 { g.bits } else { 0 };
                spend(&mut l, now, i as u128, &g, g.bits);
            }
        }
    }
    let fair = 2.0 * MBIT as f64 * 30.0;
    assert!(sums.iter().all(|s| (*s as f64 / fair - 1.0).abs() < 0.05), "{sums:?}");
}

#[test]
fn a_crowd_that_comes_at_once_is_served_to_the_last() {
    let mut l = ledger(1000 * MBIT);
    let mut got = vec![0u64; 2000];
    for s in 0..6 {
        for (i, got) in got.iter_mut().enumerate() {
            let now = at(s as f64 + i as f64 * 0.0005);
            let g = l.bid(now, who(i as u128), &bid(30 * MBIT)).unwrap();
            spend(&mut l, now, i as u128, &g, g.bits);
            *got += g.bits;
            assert!(l.standing().promised <= 2000 * MBIT, "what is promised cannot be kept");
        }
        if s == 1 {
            let nothing = got.iter().filter(|g| **g == 0).count();
            assert!(nothing == 0, "{nothing} viewers got nothing for two seconds");
        }
    }
}

#[test]
fn what_a_crowd_was_promised_ahead_is_made_up_for() {
    let mut l = ledger(400 * MBIT);
    for s in 0..20 {
        for i in 0..2000u128 {
            let now = at(s as f64 + i as f64 * 0.0005);
            let g = l.bid(now, who(i), &bid(MBIT / 2)).unwrap();
            spend(&mut l, now, i, &g, g.bits);
        }
        let ahead = l.standing().promised;
        assert!(s < 10 || ahead < 250 * MBIT, "{ahead} at {s}");
    }
}

#[test]
fn what_lapses_is_granted_to_others() {
    // Half of the viewers never use what they are granted.
    let (_, spent) = run(&mut ledger(20 * MBIT), &[10 * MBIT; 10], |i, bits| if i % 2 == 0 { bits } else { 0 });
    let used: f64 = spent.iter().sum();
    assert!(used > 19e6, "{used}: what one half leaves is not wasted");
}

#[test]
fn a_grant_is_spent_once_by_its_viewer_and_in_its_time() {
    let mut l = ledger(10 * MBIT);
    let g = l.bid(at(0.0), who(1), &bid(3 * MBIT)).unwrap();
    assert_eq!(spend(&mut l, at(0.1), 2, &g, MBIT), 0, "another's");
    assert_eq!(spend(&mut l, at(0.1), 1, &g, MBIT), MBIT);
    assert_eq!(spend(&mut l, at(0.2), 1, &g, 5 * MBIT), 2 * MBIT);
    assert_eq!(spend(&mut l, at(0.3), 1, &g, 1), 0, "used up");
    l.give_back(g.id, MBIT / 2);
    assert_eq!(spend(&mut l, at(0.4), 1, &g, MBIT), MBIT / 2, "what was not sent may be asked for again");
    let g = l.bid(at(1.0), who(1), &bid(3 * MBIT)).unwrap();
    assert_eq!(spend(&mut l, at(3.0), 1, &g, MBIT), 0, "lapsed");
    assert_eq!(l.standing().lapsed_bits, 3 * MBIT);
    l.give_back(g.id, MBIT);
    assert_eq!(l.standing().returned_bits, MBIT / 2, "too late");
    let made_up = Grant { id: GrantId { instance: 0, serial: 99 }, bits: MBIT, expires: at(4.0) };
    assert_eq!(spend(&mut l, at(3.0), 1, &made_up, MBIT), 0, "never granted");
}

#[test]
fn another_servers_grant_is_honoured_once() {
    let mut l = ledger(10 * MBIT);
    let g = Grant { id: GrantId { instance: 7, serial: 1 }, bits: MBIT, expires: at(2.0) };
    assert_eq!(spend(&mut l, at(0.5), 1, &g, MBIT), MBIT);
    assert_eq!(spend(&mut l, at(0.6), 1, &g, MBIT), 0, "shown again");
    assert_eq!(spend(&mut l, at(2.5), 1, &g, MBIT), 0, "shown again after it lapsed");
    let far = Grant { expires: at(60.0), id: GrantId { instance: 7, serial: 2 }, bits: MBIT };
    assert_eq!(spend(&mut l, at(3.0), 1, &far, MBIT), 0, "valid for longer than grants are");
}

#[test]
fn bids_that_come_too_often_are_refused_and_say_when() {
    let mut l = ledger(10 * MBIT);
    assert!(l.bid(at(0.0), who(1), &bid(MBIT)).is_ok());
    assert!(l.bid(at(0.12), who(1), &bid(MBIT)).is_ok(), "a little early");
    assert_eq!(l.bid(at(0.15), who(1), &bid(MBIT)), Err(Refusal::TooSoon { wait: Duration::from_millis(150) }));
    assert!(l.bid(at(0.31), who(1), &bid(MBIT)).is_ok());
    assert!(l.bid(at(0.31), who(2), &bid(MBIT)).is_ok(), "others are not held up");
    let long = Bid { max_bits: 1, due_bits: vec![0; 61] };
    assert_eq!(l.bid(at(5.0), who(1), &long), Err(Refusal::Horizon));
}

#[test]
fn what_never_falls_due_is_not_granted() {
    let mut l = ledger(100 * MBIT);
    let b = Bid { max_bits: 50 * MBIT, due_bits: vec![0, MBIT, MBIT] };
    assert_eq!(l.bid(at(0.0), who(1), &b).unwrap().bits, 2 * MBIT + QUANTUM);
    let b = Bid { max_bits: MBIT, due_bits: vec![u64::MAX, u64::MAX] };
    assert_eq!(l.bid(at(1.0), who(1), &b).unwrap().bits, MBIT);
}

#[test]
fn made_up_viewers_of_one_address_share_what_it_has() {
    let mut l = ledger(18 * MBIT);
    // Ten honest viewers; a hundred made up at one address.
    let mut got = [0u64; 110];
    for s in 0..30 {
        for (i, got) in got.iter_mut().enumerate() {
            let address = if i < 10 { i } else { 99 };
            let who = Bidder { viewer: ViewerKey(i as u128), address: AddressKey(address as u128) };
            let now = at(s as f64 + i as f64 * 0.009);
            let g = l.bid(now, who, &bid(30 * MBIT)).unwrap();
            spend(&mut l, now, i as u128, &g, g.bits);
            *got += if s >= 10 { g.bits } else { 0 };
        }
    }
    // Eighteen shares: one each for the honest, eight for the address.
    let (honest, made_up) = (got[..10].iter().sum::<u64>(), got[10..].iter().sum::<u64>());
    let part = honest as f64 / (honest + made_up) as f64;
    assert!((part - 10.0 / 18.0).abs() < 0.02, "{part}");
}

#[test]
fn viewers_made_up_anew_for_each_bid_gain_nothing_either() {
    let mut l = ledger(18 * MBIT);
    let (mut honest, mut made_up) = (0, 0);
    for i in 0..60_000u128 {
        let now = at(i as f64 * 0.001);
        let b = Bidder { viewer: ViewerKey(1000 + i), address: AddressKey(99) };
        let fresh =
            l.bid(now, b, &bid(30 * MBIT)).map_or(0, |g| l.spend(now, g.id, g.bits, g.expires, b.viewer, g.bits));
        made_up += if i > 10_000 { fresh } else { 0 };
        if i % 100 == 0 {
            let v = i / 100 % 10;
            let g = l.bid(now, who(v), &bid(30 * MBIT)).unwrap();
            spend(&mut l, now, v, &g, g.bits);
            honest += if i > 10_000 { g.bits } else { 0 };
        }
    }
    let part = honest as f64 / (honest + made_up) as f64;
    assert!(part > 0.5, "{part}");
}

#[test]
fn it_forgets_who_is_gone_and_is_bounded() {
    let mut l =
        Ledger::new(Allocation { capacity: Some(MBIT), viewers_most: 50, address_most: 20, ..Allocation::default() });
    let from = |v: u128, a: u128| Bidder { viewer: ViewerKey(v), address: AddressKey(a) };
    for i in 0..20 {
        assert!(l.bid(at(0.0), from(i, 1), &bid(MBIT)).is_ok());
    }
    assert_eq!(l.bid(at(0.0), from(20, 1), &bid(MBIT)), Err(Refusal::AddressCrowded));
    assert_eq!(l.bid_and_spend(at(0.0), from(20, 1), MBIT), Err(Refusal::AddressCrowded));
    for i in 100..130 {
        assert!(l.bid(at(0.0), from(i, i), &bid(MBIT)).is_ok());
    }
    assert_eq!(l.bid(at(0.0), from(200, 200), &bid(MBIT)), Err(Refusal::Crowded));
    l.tick(at(1.5));
    assert_eq!((l.standing().viewers, l.standing().bidding), (50, 0));
    l.tick(at(12.5));
    assert_eq!(l.standing().viewers, 0);
    assert_eq!(l.sizes(), [0; 4]);
}

#[test]
fn a_request_without_a_grant_is_a_bid_for_itself() {
    let mut l = ledger(10 * MBIT);
    assert_eq!(l.bid_and_spend(at(0.0), who(1), 2 * MBIT), Ok(2 * MBIT));
    let standing = l.standing();
    assert_eq!((standing.granted_bits, standing.spent_bits), (2 * MBIT, 2 * MBIT));
    l.unbid(at(0.0), ViewerKey(1), MBIT);
    assert_eq!(l.standing().returned_bits, MBIT);
    // It counts to the viewer's share as a bid does.
    let mut l = ledger(4 * MBIT);
    let mut sums = [0u64; 2];
    for step in 0..400 {
        let now = at(step as f64 * 0.1);
        sums[0] += l.bid_and_spend(now, who(0), MBIT).unwrap();
        if step % 10 == 5 {
            sums[1] += l.bid(now, who(1), &bid(10 * MBIT)).unwrap().bits;
        }
    }
    let part = sums[0] as f64 / (sums[0] + sums[1]) as f64;
    assert!((part - 0.5).abs() < 0.05, "{part}");
}

#[derive(Debug, Clone)]
enum Step {
    Bid(u128, u64),
    Get(u128, u64),
    Spend(usize, u64),
    Back(usize, u64),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bits = prop_oneof![0..MBIT, 0..20 * MBIT, Just(u64::MAX)];
    let step = prop_oneof![
        4 => (0u128..12, bits.clone()).prop_map(|(v, b)| Step::Bid(v, b)),
        1 => (0u128..12, bits.clone()).prop_map(|(v, b)| Step::Get(v, b)),
        3 => (0usize..50, bits.clone()).prop_map(|(g, b)| Step::Spend(g, b)),
        1 => (0usize..50, bits).prop_map(|(g, b)| Step::Back(g, b)),
        2 => prop_oneof![1u64..400, 500u64..3_000].prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn promises_can_be_kept_whatever_is_bid(steps in steps(), capacity in 100_000u64..20_000_000) {
        let mut l = ledger(capacity);
        let (mut now, mut granted) = (Instant::ZERO, 0u64);
        let mut grants: Vec<(u128, Grant, u64)> = Vec::new();
        for step in steps {
            match step {
                Step::Bid(v, bits) => {
                    // Viewers 0 to 5 share two addresses.
                    let address = if v < 6 { v % 2 + 100 } else { v };
                    let b = Bidder { viewer: ViewerKey(v), address: AddressKey(address) };
                    if let Ok(g) = l.bid(now, b, &bid(bits)) {
                        prop_assert!(g.bits <= bits);
                        prop_assert!(g.bits == 0 || g.bits >= QUANTUM.min(bits));
                        granted += g.bits;
                        grants.push((v, g, 0));
                    }
                }
                Step::Get(v, bits) => granted += l.bid_and_spend(now, who(v), bits).unwrap(),
                Step::Spend(i, bits) => {
                    if let Some((v, g, spent)) = grants.get_mut(i) {
                        *spent += spend(&mut l, now, *v, g, bits);
                        prop_assert!(*spent <= g.bits);
                    }
                }
                Step::Back(i, bits) => {
                    if let Some((_, g, spent)) = grants.get_mut(i) && g.expires > now {
                        l.give_back(g.id, bits);
                        *spent = spent.saturating_sub(bits);
                    }
                }
                Step::Wait(ms) => now = now + Duration::from_millis(ms),
            }
            prop_assert_eq!(l.check(), Ok(()));
            // Never more than the server carries, and what lapses granted once more, and what it may promise ahead.
            let most = 2.0 * capacity as f64 * now.as_secs_f64() + (2 * capacity).max(2 * QUANTUM) as f64;
            prop_assert!(granted as f64 <= most + 1.0, "{} {}", granted, most);
        }
    }
}
