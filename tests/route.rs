//! Which way packets leave, watched from outside: plays in a network namespace with two ways out, of which one is forbidden.
//!
//! The default route is the forbidden one, so that whatever is not held back takes it. Needs the rights to make namespaces
//! (in CI we are root); where they are missing, the tests say so and pass.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

#[path = "route/services.rs"]
mod services;
#[path = "route/world.rs"]
mod world;

use std::path::PathBuf;
use std::time::Duration;

use services::{DNS, HTTP_TRACKER, PEER, SOCKS, Services, UDP_TRACKER, WEB};
use support::frames::{assert_same, reference};
use support::player::Home;
use support::seed::Seed;
use support::torrent::Torrent;
use support::{TempDir, media, temp_dir, wait_for};
use world::{Play, World};

/// A film whose torrent names an HTTP and a UDP tracker and a web seed, all by host names.
struct Film {
    torrent: PathBuf,
    content: PathBuf,
    _dir: TempDir,
}

fn film() -> Film {
    let (content, dir) = (media::mp4(), temp_dir());
    let torrent = Torrent::of(&content, dir.path(), 64);
    let torrent = torrent.with_web_seeds(&[format!("http://seed.test:{WEB}/clip.mp4")]);
    let mut bytes = std::fs::read(&torrent.path).unwrap();
    let url = |u: String| format!("l{}:{u}e", u.len());
    let trackers =
        [format!("http://tracker.test:{HTTP_TRACKER}/announce"), format!("udp://tracker.test:{UDP_TRACKER}")].map(url);
    // Keys are sorted, and this one comes first.
    bytes.splice(1..1, format!("13:announce-listl{}e", trackers.concat()).into_bytes());
    std::fs::write(&torrent.path, bytes).unwrap();
    Film { torrent: torrent.path, content, _dir: dir }
}

/// The world, or `None` with a word on why there is none.
fn world() -> Option<World> {
    let made = World::new();
    if let Err(e) = &made {
        eprintln!("not tested: network namespaces cannot be made here: {e}");
    }
    made.ok()
}

/// Waits until all that a play asks of the network was reached.
fn reach(play: &mut Play, services: &Services) {
    for what in ["http-tracker", "udp-tracker", "web", "peer", "dht"] {
        wait_for(what, Duration::from_secs(90), || {
            assert!(play.runs(), "ended before {what} was reached: {:#?}\n{}", services.seen(), play.said());
            services.seen().iter().any(|l| l.starts_with(what)).then_some(())
        });
    }
}

#[test]
fn without_a_choice_packets_take_the_default_route() {
    // Shows that the counter of the other tests counts.
    let Some(world) = world() else { return };
    let film = film();
    let services = Services::start(&world, &film.content);
    let mut play = Play::start(&world, &film.torrent, &["--no-dht", "--peer", &format!("10.99.0.1:{PEER}")]);
    wait_for("a peer to be dialled", Duration::from_secs(60), || {
        services.seen().iter().any(|l| l.starts_with("peer 10.77.2.2")).then_some(())
    });
    play.end();
    assert!(world.strayed() > 0);
}

#[test]
fn bound_to_an_interface_or_an_address_nothing_leaves_by_another() {
    let Some(world) = world() else { return };
    let film = film();
    let services = Services::start(&world, &film.content);
    for bind in ["good", "10.77.1.2"] {
        services.forget();
        let args = ["--bind", bind, "--name-server", "10.99.0.1"];
        let mut play = Play::start(&world, &film.torrent, &args);
        reach(&mut play, &services);
        play.end();
        let seen = services.seen();
        assert_eq!(world.strayed(), 0, "bound to {bind}: {seen:#?}\n{}", play.said());
        assert!(seen.iter().all(|l| l.contains(" 10.77.1.2")), "{seen:#?}");
        assert!(seen.iter().any(|l| l.starts_with("dns")), "{seen:#?}");
    }
}

#[test]
fn while_the_interface_is_away_nothing_leaves_at_all() {
    let Some(world) = world() else { return };
    let film = film();
    let services = Services::start(&world, &film.content);
    // It vanishes while something is going on.
    let mut play = Play::start(&world, &film.torrent, &["--bind", "good", "--name-server", "10.99.0.1"]);
    wait_for("the web seed to be asked", Duration::from_secs(60), || {
        services.seen().iter().any(|l| l.starts_with("web")).then_some(())
    });
    world.remove("good");
    services.forget();
    // It goes on trying: trackers are asked again after three seconds, the server after one.
    wait_for("the player to notice", Duration::from_secs(60), || {
        (play.age() > Duration::from_secs(8) || !play.runs()).then_some(())
    });
    play.end();
    assert_eq!(world.strayed(), 0, "{:#?}\n{}", services.seen(), play.said());
    assert_eq!(services.seen(), Vec::<String>::new());
    // It was never there: so it is said, and nothing is sent either.
    let mut play = Play::start(&world, &film.torrent, &["--bind", "good", "--name-server", "10.99.0.1"]);
    wait_for("the player to say so", Duration::from_secs(60), || {
        (play.age() > Duration::from_secs(4) || !play.runs()).then_some(())
    });
    play.end();
    assert_eq!((world.strayed(), services.seen().len()), (0, 0), "{}", play.said());
}

#[test]
fn a_peer_at_an_ipv6_address_plays() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("not tested: this machine has no IPv6");
        return;
    }
    let (film, dir) = (media::mp4(), temp_dir());
    let torrent = Torrent::of(&film, dir.path(), 32);
    let seed = Seed::start(&torrent, None);
    let peer = format!("[::1]:{}", seed.addr.port());
    let args = ["--peer", &peer, "--listen", "[::]:0", "--no-clock", "--frames-md5", "frames.txt"];
    let played = Home::new().play(torrent.path, args).ok();
    assert_same(&played.frames, &reference(&film));
}

#[test]
fn behind_a_proxy_only_the_proxy_hears_of_us() {
    let Some(world) = world() else { return };
    let film = film();
    let services = Services::start(&world, &film.content);
    let proxy = format!("socks5://me:p%40ss@10.99.0.1:{SOCKS}");
    let mut play = Play::start(&world, &film.torrent, &["--proxy", &proxy]);
    reach(&mut play, &services);
    play.end();
    let seen = services.seen();
    // Whoever else was reached was reached by the proxy, whose address this is.
    let strangers: Vec<_> = seen.iter().filter(|l| l.contains(" 10.77.") && !l.starts_with("socks")).collect();
    assert!(strangers.is_empty(), "{strangers:#?}\n{}", play.said());
    assert!(!seen.iter().any(|l| l.starts_with("dns")), "port {DNS} was asked: {seen:#?}");
    // And on the wire: nothing from us but to the proxy's port, and to the port it relays datagrams on.
    let relays = services.relays();
    let beside: Vec<_> = world
        .sniffed()
        .into_iter()
        .filter(|p| !(p.to == "10.99.0.1" && (p.port == SOCKS && p.is_tcp || relays.contains(&p.port) && !p.is_tcp)))
        .collect();
    assert!(beside.is_empty(), "{beside:#?}\n{}", play.said());
    assert!(seen.iter().any(|l| l == "socks name tracker.test"), "{seen:#?}");
}
