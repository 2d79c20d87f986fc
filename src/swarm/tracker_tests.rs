//! Trackers on loopback: which is asked when.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::super::tests::{LIMIT, Side, config, known};
use super::super::{KnownTorrent, SwarmConfig};
use super::*;
use crate::units::PieceIndex;

fn listed(tiers: &[&[&str]]) -> Vec<Vec<Tracker>> {
    tiers_of(tiers.iter().map(|t| t.iter().map(|u| (*u).to_owned()).collect()).collect())
}

fn tiers_of(config: Vec<Vec<String>>) -> Vec<Vec<Tracker>> {
    tiers(&config)
}

fn hosts(trackers: &[Tracker]) -> String {
    trackers.iter().filter_map(|t| t.url.host_str()).collect()
}

#[test]
fn a_passkey_is_not_shown() {
    let url = Url::parse("https://user:pw@tracker.example:8443/0123456789abcdef/announce?auth=x").unwrap();
    assert_eq!(display(&url), "https://tracker.example:8443");
    assert_eq!(display(&Url::parse("udp://[2001:db8::1]:6969").unwrap()), "udp://[2001:db8::1]:6969");
}

#[test]
fn tiers_keep_their_order_and_each_tracker_is_there_once() {
    let tiers = listed(&[&["udp://a", "wss://no", "udp://a"], &["rubbish"], &["http://a", "udp://a", "http://b/"]]);
    assert_eq!(tiers.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 2]);
    let many: Vec<String> = (0..500).map(|i| format!("udp://t{i}")).collect();
    assert_eq!(tiers_of(vec![many.clone()]).iter().map(Vec::len).sum::<usize>(), MAX_TRACKERS);
    // Shuffled (BEP 12).
    let order = || tiers_of(vec![many.clone()]).first().map(|t| hosts(t)).unwrap();
    assert_ne!(order(), order());
}

#[test]
fn whoever_answers_moves_to_the_front_of_its_own_tier() {
    let mut all: Vec<Tracker> = listed(&[&["udp://a"], &["udp://b"], &["udp://c"]]).into_iter().flatten().collect();
    for (t, tier) in all.iter_mut().zip([0, 1, 1]) {
        t.tier = tier;
    }
    assert_eq!((promote(&mut all, 2), hosts(&all).as_str()), (1, "acb"));
    assert_eq!((promote(&mut all, 0), hosts(&all).as_str()), (0, "acb"));
}

#[test]
fn pauses_grow_and_no_interval_is_absurd() {
    let silent = |n| pause_after(n, &TrackerError::Silent).as_secs();
    assert_eq!([1, 2, 3, 9, 1000].map(silent), [3, 6, 12, 768, 900]);
    assert_eq!(pause_after(1, &TrackerError::Refused(String::new())), LEAST);
    let s = Duration::from_secs;
    let answer =
        |interval, min: Option<u64>| Answer { interval: s(interval), min_interval: min.map(s), ..Answer::default() };
    assert_eq!(pause_until_next(&answer(1800, Some(300)), false), s(1800));
    assert_eq!(pause_until_next(&answer(1800, Some(300)), true), s(300));
    assert_eq!(pause_until_next(&answer(1800, None), true), s(1800));
    assert_eq!(pause_until_next(&answer(0, Some(0)), true), LEAST);
    assert_eq!(pause_until_next(&answer(u64::MAX, Some(u64::MAX)), true), MOST);
}

#[test]
fn a_line_says_what_there_is_to_say() {
    let answer = Answer {
        counts: Some(Counts { seeds: 1, others: 3 }),
        warning: Some("old client".into()),
        ..Answer::default()
    };
    assert_eq!(said(&answer), "0 peers · 1 seed, 3 others · it says: old client");
}

/// A tracker that answers `body` to every request, and says what it was asked.
async fn tracker(body: &'static [u8]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/announce", listener.local_addr().unwrap());
    let (asked, requests) = mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((mut s, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let n = s.read(&mut request).await.unwrap_or(0);
            let line = String::from_utf8_lossy(&request[..n]).lines().next().unwrap_or_default().to_owned();
            let _ = asked.send(line).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = s.write_all(&[head.as_bytes(), body].concat()).await;
        }
    });
    (url, requests)
}

async fn next(requests: &mut mpsc::Receiver<String>) -> String {
    timeout(LIMIT, requests.recv()).await.expect("not asked").unwrap()
}

fn side(trackers: Vec<Vec<String>>, torrent: KnownTorrent, hash: [u8; 20]) -> Side {
    let private = torrent.private;
    Side::start(SwarmConfig { trackers, private, ..config(hash, vec![]) }, Some(torrent))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_of_a_tier_is_asked_when_the_first_fails_and_every_tier_at_once() {
    let (refusing, mut refused) = tracker(b"d14:failure reason2:noe").await;
    let (good, mut asked) = tracker(b"d8:completei3e10:incompletei4e8:intervali900e5:peers0:10:tracker id2:ide").await;
    let (second, mut second_asked) = tracker(b"d8:intervali900e5:peers0:e").await;
    let (t, hash) = known(2, [0]);
    // The one that refuses may come first or last in its tier: the order is random.
    let mut side = side(vec![vec![refusing, good], vec![second]], t, hash);
    assert!(next(&mut asked).await.contains("event=started"));
    assert!(next(&mut second_asked).await.contains("event=started"));
    // No counts in the announce: a scrape follows.
    assert!(next(&mut second_asked).await.starts_with("GET /scrape?info_hash="));
    let counted = async {
        while side.swarm.status().seeds != Some(3) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, counted).await.expect("not counted");
    assert_eq!(side.swarm.status().others, Some(4));
    // Completing it is news, told at once and not with the next interval.
    side.swarm.shared.traffic.payload_in.fetch_add(1, Ordering::Relaxed);
    side.swarm.announce(PieceIndex(1));
    let told = next(&mut asked).await;
    assert!(told.contains("event=completed") && told.contains("left=0&") && told.contains("trackerid=id"), "{told}");
    side.swarm.shutdown().await;
    let last = next(&mut asked).await;
    assert!(last.contains("event=stopped") && last.contains("numwant=0&"), "{last}");
    while let Ok(line) = refused.try_recv() {
        assert!(!line.contains("event=stopped"), "it never knew of us: {line}");
    }
    side.events.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_torrent_has_one_tracker_at_a_time() {
    let (first, mut asked) = tracker(b"d8:completei0e10:incompletei0e8:intervali900e5:peers0:e").await;
    let (second, mut never) = tracker(b"d8:intervali900e5:peers0:e").await;
    let (t, hash) = known(2, []);
    let side = side(vec![vec![first], vec![second.clone()]], KnownTorrent { private: true, ..t }, hash);
    assert!(next(&mut asked).await.contains("event=started"));
    // Only one that answered is told that we leave.
    let answered = async {
        while !side.swarm.status().sources.iter().any(|l| l.contains("0 peers")) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, answered).await.expect("no answer");
    side.swarm.shutdown().await;
    assert!(next(&mut asked).await.contains("event=stopped"));
    assert!(never.try_recv().is_err());
    let lines = side.swarm.status().sources;
    assert!(
        lines.iter().any(|l| l.ends_with("in reserve") && second.starts_with(l.split(' ').next().unwrap())),
        "{lines:?}"
    );
}
