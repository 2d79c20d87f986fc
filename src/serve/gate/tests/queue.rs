//! The queue under a clock of its own: the rate, the classes, and fairness among flows.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::serve::gate::queue::{Claim, Class, Flow, LAG, Queue, Ticket};
use crate::units::Instant;

const MS: Duration = Duration::from_millis(1);

/// One connection: it asks for its next chunk so long after the last was served.
#[derive(Clone)]
struct Conn {
    class: Class,
    flow: Flow,
    pause: Duration,
    most: usize,
    ticket: Option<Ticket>,
    ask_at: Instant,
    served: u64,
}

fn conn(class: Class, flow: Flow) -> Conn {
    let pause = Duration::from_micros(300);
    Conn { class, flow, pause, most: 1 << 20, ticket: None, ask_at: Instant::ZERO, served: 0 }
}

fn viewer(v: u128) -> Conn {
    conn(Class::Granted, Flow::Viewer(v))
}

fn leftover(a: u128) -> Conn {
    conn(Class::Leftover, Flow::Address(a))
}

/// Runs for `seconds` in steps of the timer's grain, and gives the bytes served in each of them.
fn run(rate: f64, conns: &mut [Conn], seconds: f64) -> Vec<u64> {
    let mut queue: Queue<usize> = Queue::new(rate, Instant::ZERO);
    let (mut now, mut steps) = (Instant::ZERO, Vec::new());
    while now.as_secs_f64() < seconds {
        let mut woken = Vec::new();
        queue.pump(now, &mut woken);
        let mut sent = 0;
        for (i, c) in conns.iter_mut().enumerate() {
            if let Some(ticket) = c.ticket
                && let Claim::Served(n) = queue.claim(ticket, || i)
            {
                c.ticket = None;
                c.served += n as u64;
                sent += n as u64;
                c.ask_at = now + c.pause;
            }
            // As often as it gets its bytes at once, it asks again.
            while c.ticket.is_none() && c.ask_at <= now {
                match queue.ask(now, (c.class, c.flow), c.most, || i, &mut woken) {
                    Ok(n) => {
                        c.served += n as u64;
                        sent += n as u64;
                        c.ask_at = now + c.pause;
                    }
                    Err(ticket) => c.ticket = Some(ticket),
                }
            }
        }
        assert_eq!(queue.check(), Ok(()));
        steps.push(sent);
        now = now + MS;
    }
    steps
}

fn by_flow(conns: &[Conn]) -> Vec<u64> {
    let mut sums: Vec<(Flow, u64)> = Vec::new();
    for c in conns {
        match sums.iter_mut().find(|s| s.0 == c.flow) {
            Some(s) => s.1 += c.served,
            None => sums.push((c.flow, c.served)),
        }
    }
    sums.into_iter().map(|s| s.1).collect()
}

#[test]
fn the_rate_is_kept_over_any_stretch() {
    for rate in [8e3, 100e3, 1e6, 12.5e6, 125e6] {
        let mut conns: Vec<Conn> = (0..20).map(viewer).collect();
        let steps = run(rate, &mut conns, 10.0);
        let total: u64 = steps.iter().sum();
        let burst = (rate * 0.05).max(16.0 * 1024.0);
        assert!(total as f64 <= rate * 10.0 + burst, "{rate}: {total}");
        assert!(total as f64 >= rate * 10.0 * 0.98 - 16384.0, "{rate}: {total}");
        for window in [10, 100, 1000] {
            let most = steps.windows(window).map(|w| w.iter().sum::<u64>()).max().unwrap();
            let may = rate * window as f64 / 1000.0 + burst + 1.0;
            assert!(most as f64 <= may, "{rate}: {most} in {window} ms, {may} allowed");
        }
    }
}

#[test]
fn many_connections_get_no_more_than_one() {
    for rate in [100e3, 2e6, 20e6] {
        let mut conns: Vec<Conn> = vec![viewer(1); 16];
        conns.push(viewer(2));
        conns.push(viewer(3));
        run(rate, &mut conns, 10.0);
        let flows = by_flow(&conns);
        let fair = flows.iter().sum::<u64>() as f64 / 3.0;
        let owed = (LAG + 16 * 1024) as f64;
        assert!(flows.iter().all(|f| (*f as f64 - fair).abs() < owed + fair * 0.01), "{rate}: {flows:?}");
    }
}

#[test]
fn small_chunks_cost_a_flow_nothing_and_gain_it_nothing() {
    let mut conns = vec![viewer(1), Conn { most: 700, pause: Duration::ZERO, ..viewer(2) }];
    run(200e3, &mut conns, 20.0);
    let flows = by_flow(&conns);
    assert!((flows[0] as f64 / flows[1] as f64 - 1.0).abs() < 0.1, "{flows:?}");
}

#[test]
fn leftover_is_what_granted_leaves_and_goes_evenly_between_addresses() {
    // One granted viewer that takes half; leftover from two addresses, one of them with eight connections.
    let half = Conn { most: 5_000, pause: Duration::from_millis(9), ..viewer(1) };
    let mut conns = vec![half, leftover(1)];
    conns.extend(vec![leftover(2); 8]);
    run(1e6, &mut conns, 20.0);
    let flows = by_flow(&conns);
    assert!((flows[0] as f64 - 10e6).abs() < 1e6, "{flows:?}");
    assert!((flows[1] as f64 / flows[2] as f64 - 1.0).abs() < 0.05, "{flows:?}");
    // Granted ones that take all leave nothing.
    let mut conns: Vec<Conn> = (0..8).map(viewer).collect();
    conns.push(leftover(9));
    run(1e6, &mut conns, 20.0);
    let burst = 64 * 1024;
    assert!(conns[8].served < burst, "{}", conns[8].served);
}

#[test]
fn a_newcomer_does_not_wait_behind_the_backlog_of_others() {
    let mut queue: Queue<usize> = Queue::new(1e6, Instant::ZERO);
    let mut woken = Vec::new();
    for i in 0..500 {
        let flow = Flow::Viewer(i % 10);
        let _ = queue.ask(Instant::ZERO, (Class::Granted, flow), 16_384, || i as usize, &mut woken);
    }
    let new = queue.ask(Instant::ZERO, (Class::Granted, Flow::Viewer(77)), 16_384, || 9999, &mut woken).unwrap_err();
    let mut now = Instant::ZERO;
    let mut before = 0;
    while queue.claim(new, || 9999) == Claim::Waits {
        now = now + MS;
        queue.pump(now, &mut woken);
        before += 1;
        assert!(before < 1000, "it is never served");
    }
    // Ten flows at 1 MB/s with chunks of 16 KiB or less: at most one round.
    assert!(before <= 11 * 17, "{before} ms");
}

#[test]
fn who_leaves_is_passed_over_and_what_it_held_is_sent_by_others() {
    let mut queue: Queue<usize> = Queue::new(100e3, Instant::ZERO);
    let mut woken = Vec::new();
    let tickets: Vec<Ticket> = (0..50)
        .filter_map(|i| queue.ask(Instant::ZERO, (Class::Granted, Flow::Viewer(i % 3)), 4096, || 0, &mut woken).err())
        .collect();
    for ticket in tickets.iter().skip(1) {
        queue.leave(*ticket);
        assert_eq!(queue.check(), Ok(()));
    }
    assert_eq!(queue.sizes().1, 1);
    let at = queue.due().unwrap();
    queue.pump(at + MS, &mut woken);
    assert!(queue.due().is_none());
    // Served and never fetched: the bytes are there for the next.
    queue.leave(tickets[0]);
    assert!(queue.ask(at + MS, (Class::Granted, Flow::Viewer(9)), 2_000, || 0, &mut woken).is_ok());
    assert_eq!(queue.sizes().1, 0);
}

#[test]
fn flows_that_are_gone_are_forgotten() {
    let mut queue: Queue<usize> = Queue::new(1e9, Instant::ZERO);
    let mut woken = Vec::new();
    let mut now = Instant::ZERO;
    for i in 0..200_000u128 {
        now = now + Duration::from_micros(20);
        let _ = queue.ask(now, (Class::Leftover, Flow::Address(i)), 16_384, || 0, &mut woken);
    }
    assert!(queue.sizes().0 <= 65_537, "{:?}", queue.sizes());
}

#[derive(Debug, Clone)]
enum Step {
    Ask(bool, u128, usize),
    Claim(usize),
    Leave(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<bool>(), 0u128..6, 0usize..300_000).prop_map(|(c, f, n)| Step::Ask(c, f, n)),
        2 => (0usize..64).prop_map(Step::Claim),
        2 => (0usize..64).prop_map(Step::Leave),
        2 => (0u64..200_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_is_lost_and_the_rate_is_kept_whatever_comes(steps in steps(), rate in 1_000f64..1e8) {
        let mut queue: Queue<usize> = Queue::new(rate, Instant::ZERO);
        let mut held: HashMap<usize, Ticket> = HashMap::new();
        let (mut now, mut sent, mut next) = (Instant::ZERO, 0u64, 0usize);
        let mut woken = Vec::new();
        for step in steps {
            match step {
                Step::Ask(granted, flow, most) => {
                    let who = if granted { (Class::Granted, Flow::Viewer(flow)) } else { (Class::Leftover, Flow::Address(flow)) };
                    match queue.ask(now, who, most, || next, &mut woken) {
                        Ok(n) => sent += n as u64,
                        Err(ticket) => {
                            held.insert(next, ticket);
                        }
                    }
                    next += 1;
                }
                Step::Claim(i) => {
                    let key = held.keys().copied().nth(i % held.len().max(1));
                    if let Some(key) = key && let Claim::Served(n) = queue.claim(held[&key], || key) {
                        sent += n as u64;
                        held.remove(&key);
                    }
                }
                Step::Leave(i) => {
                    if let Some(key) = held.keys().copied().nth(i % held.len().max(1)) {
                        queue.leave(held.remove(&key).unwrap());
                    }
                }
                Step::Wait(us) => {
                    now = now + Duration::from_micros(us);
                    queue.pump(now, &mut woken);
                }
            }
            prop_assert_eq!(queue.check(), Ok(()));
            let burst = (rate * 0.05).max(16.0 * 1024.0);
            prop_assert!(sent as f64 <= rate * now.as_secs_f64() + burst + 1.0);
        }
        // Whoever still waits is served in the end.
        for _ in 0..100_000 {
            let Some(due) = queue.due() else { break };
            now = now.max(due) + MS;
            queue.pump(now, &mut woken);
        }
        for (key, ticket) in held {
            prop_assert!(matches!(queue.claim(ticket, || key), Claim::Served(_)));
        }
        prop_assert_eq!(queue.sizes().1, 0);
    }
}
