//! How peers meet: by other peers (PEX), the DHT, the local network, a tracker. And what the fast extension says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use serde_json::{Value, json};

use sluicegate::swarm::api::LinkSource;

use crate::content::Content;
use crate::foreign::{self, Foreign, Given, PATIENCE, Via};
use crate::libtorrent::{self, Libtorrent, settings};
use crate::ours::{Ours, by};
use crate::support::seed::{Daemon, Ways};
use crate::support::{temp_dir, text, wait_for};
use crate::tracker::Tracker;

/// libtorrent's settings for TCP, with `more` over them.
fn with(more: Value) -> Value {
    let mut all = settings(Via::Tcp);
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

/// A leech that will not be done while a test runs: others have a reason to tell of it and to dial it.
fn slow() -> Value {
    with(json!({"rate": 5_000}))
}

fn is_linked(now: &Value, to: SocketAddr, by: &str) -> Option<()> {
    let peers = now["peers"].as_array()?;
    let named =
        |p: &&Value| p["addr"] == to.to_string() && p["from"].as_array().is_some_and(|f| f.contains(&json!(by)));
    peers.iter().find(named).map(|_| ())
}

/// We are linked to both; they hear of each other from us alone.
#[test]
fn libtorrent_hears_of_another_from_us() {
    if !libtorrent::is_here() {
        return;
    }
    let content = Content::folder();
    let mut seed = Libtorrent::seed(&content, Via::Tcp);
    let mut leech = Libtorrent::start(&content, Given::Torrent, false, &[], "127.0.0.1", slow());
    let ours = Ours::start(&content, Given::Torrent, &[seed.addr(), leech.addr()], false, |c| c.pex = true);
    ours.wait("both links", |s| (s.peers.len() == 2).then_some(()));
    // Whichever of them dials first.
    let (to_seed, to_leech) = (seed.addr(), leech.addr());
    seed.wait("the other, by PEX from us", |now| {
        is_linked(now, to_leech, "pex").or_else(|| is_linked(&leech.now(), to_seed, "pex"))
    });
}

/// The seed is linked to a leech; we know the seed alone, hear of the leech, and dial it.
#[test]
fn we_hear_of_another_from_libtorrent() {
    if !libtorrent::is_here() {
        return;
    }
    let content = Content::folder();
    let seed = Libtorrent::seed(&content, Via::Tcp);
    let mut leech = Libtorrent::start(&content, Given::Torrent, false, &[seed.addr()], "127.0.0.1", slow());
    leech.wait("the seed", |now| (!now["peers"].as_array()?.is_empty()).then_some(()));
    let ours = Ours::start(&content, Given::Magnet, &[seed.addr()], false, |c| c.pex = true);
    ours.wait("the leech, by PEX", |s| {
        s.peers.iter().find(|p| p.info.addr == leech.addr() && p.info.source == LinkSource::Pex).map(|_| ())
    });
}

/// Three nodes on loopback and nobody else: one that all join at, a seed, and us. We find; that we are found cannot be had so: our
/// node announces only to nodes whose ids are near the torrent's, and among three none is.
#[test]
fn the_dht() {
    if !libtorrent::is_here() {
        return;
    }
    let (content, other) = (Content::folder(), Content::folder());
    let alone = |join: &str| {
        // Nodes on one address are one attacker elsewhere; here they are all there is.
        with(json!({
            "enable_dht": true, "dht_bootstrap_nodes": join, "dht_restrict_routing_ips": false,
            "dht_restrict_search_ips": false, "dht_prefer_verified_node_ids": false, "dht_enforce_node_id": false,
            "dht_ignore_dark_internet": false, "enable_incoming_utp": true,
            // Errors, status, connections, and what the DHT is told.
            "alert_mask": 0x1 | 0x40 | 0x20 | 0x400,
        }))
    };
    let mut meeting_point = Libtorrent::start(&other, Given::Torrent, true, &[], "127.0.0.1", alone(""));
    meeting_point.wait("the first node", |now| now["dht"].as_bool().filter(|on| *on));
    let join = meeting_point.addr().to_string();
    let mut seed = Libtorrent::start(&content, Given::Torrent, true, &[], "127.0.0.1", alone(&join));
    // We ask at once, and then not so soon again.
    wait_for("the seed to announce itself", PATIENCE, || meeting_point.log().contains("# dht_announce ").then_some(()));
    let ours = Ours::start(&content, Given::Magnet, &[], false, |c| {
        c.dht = true;
        c.network.dht_bootstrap = vec![join.clone()];
    });
    ours.wait("the seed, by the DHT", |s| {
        s.peers.iter().find(|p| p.info.addr == seed.addr() && p.info.source == LinkSource::Dht).map(|_| ())
    });
    ours.fetches(&content, &mut seed);
}

/// This machine's address on its network; `None` where there is none. No packet is sent.
fn own_address() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(ip) if !ip.is_loopback() && !ip.is_unspecified() => Some(ip),
        _ => None,
    }
}

fn without_a_network() {
    eprintln!("this machine has no address but loopback: nothing was tested");
}

/// Both announce themselves to the group of BEP 14, on loopback.
#[test]
fn the_local_network() {
    if !libtorrent::is_here() {
        return;
    }
    let content = Content::folder();
    let lsd = with(json!({"enable_lsd": true}));
    let mut seed = Libtorrent::start(&content, Given::Torrent, true, &[], "127.0.0.1", lsd);
    seed.wait("its files to be checked", |now| (now["seeding"] == true).then_some(()));
    let ours = Ours::start(&content, Given::Magnet, &[], false, |c| c.lsd = true);
    ours.fetches(&content, &mut seed);
}

/// Transmission refuses addresses of loopback that others tell it, so this goes by the machine's own. It dials us: by uTP, as it
/// prefers, encrypted or not.
fn transmission_dials_us(via: Via) {
    let Some(ip) = own_address().filter(|_| foreign::is_here("transmission-daemon")) else {
        return without_a_network();
    };
    let content = Content::folder();
    let ours = Ours::start(&content, Given::Torrent, &[], true, |c| {
        by(via)(c);
        c.listen = Some((ip, c.listen.unwrap().port()).into());
    });
    ours.is_whole();
    let tracker = Tracker::start(&[ours.addr]);
    let ways = Ways {
        utp: via.is_utp(),
        encryption: if via.is_encrypted() { 2 } else { 0 },
        host: ip.into(),
        down_kb_per_s: Some(foreign::FETCH_RATE / 1000),
        ..Ways::default()
    };
    let it = Daemon::start(temp_dir(), &ways);
    it.add(text(&content.torrent.with_tracker(&tracker.url()).path));
    let way = ours.wait("Transmission", |s| {
        let p = s.peers.iter().find(|p| p.info.client.contains("Transmission"))?;
        Some((p.info.outgoing, p.info.utp, p.info.encrypted))
    });
    assert_eq!(way, (false, via.is_utp(), via.is_encrypted()), "dialled by us, uTP, encrypted");
    wait_for("Transmission to have all", PATIENCE, || (it.torrent()["percentDone"] == 1.0).then_some(()));
    wait_for("what it has to be right", PATIENCE, || content.is_in(it.folder()).ok());
}

#[test]
fn transmission_dials_us_over_tcp() {
    transmission_dials_us(Via::Tcp);
}

#[test]
fn transmission_dials_us_encrypted() {
    transmission_dials_us(Via::Mse);
}

#[test]
fn transmission_dials_us_over_utp() {
    transmission_dials_us(Via::Utp);
}

#[test]
fn transmission_dials_us_over_utp_encrypted() {
    transmission_dials_us(Via::UtpMse);
}

/// BEP 6 as libtorrent sees it, of a seed of ours and of a leech.
#[test]
fn the_fast_extension() {
    if !libtorrent::is_here() {
        return;
    }
    let content = Content::folder();
    // Its log of each message.
    let log = with(json!({"alert_mask": 0x8000 | 0x20 | 0x40}));
    let ours = Ours::seed(&content, Via::Tcp);
    let mut it = Libtorrent::start(&content, Given::Torrent, false, &[ours.addr], "127.0.0.1", log.clone());
    it.completes(&content);
    has_lines(&it.log(), &["<== EXTENSIONS [ ", "FAST extension", "==> HAVE_NONE", "<== HAVE_ALL"]);
    drop((it, ours));
    let mut seed = Libtorrent::start(&content, Given::Torrent, true, &[], "127.0.0.1", log);
    seed.wait("its files to be checked", |now| (now["seeding"] == true).then_some(()));
    let ours = Ours::start(&content, Given::Torrent, &[seed.addr()], false, by(Via::Tcp));
    ours.fetches(&content, &mut seed);
    has_lines(&seed.log(), &["<== EXTENSIONS [ ", "FAST extension", "==> HAVE_ALL", "==> ALLOWED_FAST"]);
}

fn has_lines(log: &str, parts: &[&str]) {
    for part in parts {
        assert!(log.contains(part), "no {part} in {log}");
    }
    assert!(!log.contains("# peer_error "), "libtorrent found fault: {log}");
}
