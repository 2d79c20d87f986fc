//! Every peer, both ways, by each way to travel that it knows.

use sluicegate::stream::StreamPeer;

use crate::aria2::Aria2;
use crate::content::Content;
use crate::foreign::{self, Foreign, Given, Via};
use crate::libtorrent::{self, Libtorrent};
use crate::ours::{Ours, by};
use crate::rqbit::Rqbit;
use crate::rtorrent::Rtorrent;
use crate::transmission::Transmission;

/// Waits for the link to the program of this name, which must be what it is to be.
fn goes(ours: &Ours, name: &str, via: Via) {
    let of = |p: &StreamPeer| p.info.client.contains(name).then_some((p.info.utp, p.info.encrypted));
    let (utp, encrypted) = ours.wait(name, |s| s.peers.iter().find_map(of));
    assert_eq!((utp, encrypted), (via.is_utp(), via.is_encrypted()), "uTP, encrypted");
}

/// We have nothing, or only a magnet link, and it has all.
fn we_fetch(from: &mut dyn Foreign, content: &Content, given: Given, via: Via, name: &str) {
    let ours = Ours::start(content, given, &[from.addr()], false, by(via));
    // Before anything is complete: some hang up then.
    goes(&ours, name, via);
    ours.fetches(content, from);
}

/// We have all; it dials us, takes all, and what it has then is right.
fn it_fetches<F: Foreign>(content: &Content, via: Via, name: &str, start: impl FnOnce(&Ours) -> F) {
    let ours = Ours::seed(content, via);
    let mut it = start(&ours);
    // While it lasts: some hang up once they have all.
    goes(&ours, name, via);
    it.completes(content);
    let uploaded = ours.wait("bytes to be counted as uploaded", |s| {
        let sent = s.engine.totals.uploaded;
        (sent >= content.len()).then_some(sent)
    });
    // Nothing is sent twice but what an end game asks for, or what came late on a slow machine.
    assert!(uploaded <= content.len() * 2, "{uploaded} bytes were sent for {}", content.len());
}

mod over_tcp {
    use super::*;

    #[test]
    fn from_transmission() {
        if foreign::is_here("transmission-daemon") {
            let c = Content::folder();
            we_fetch(&mut Transmission::seed(&c, Via::Tcp), &c, Given::Torrent, Via::Tcp, "Transmission");
        }
    }

    #[test]
    fn to_transmission() {
        if foreign::is_here("transmission-daemon") {
            transmission_fetches(Given::Torrent, Via::Tcp);
        }
    }

    #[test]
    fn from_libtorrent() {
        if libtorrent::is_here() {
            let c = Content::folder();
            we_fetch(&mut Libtorrent::seed(&c, Via::Tcp), &c, Given::Torrent, Via::Tcp, "libtorrent");
        }
    }

    #[test]
    fn to_libtorrent() {
        if libtorrent::is_here() {
            let c = Content::folder();
            it_fetches(&c, Via::Tcp, "libtorrent", |o| Libtorrent::fetch(&c, Given::Torrent, Via::Tcp, o.addr));
        }
    }

    #[test]
    fn from_aria2() {
        if foreign::is_here("aria2c") {
            let c = Content::folder();
            we_fetch(&mut Aria2::seed(&c, Via::Tcp), &c, Given::Torrent, Via::Tcp, "aria2");
        }
    }

    #[test]
    fn to_aria2() {
        if foreign::is_here("aria2c") {
            let c = Content::folder();
            it_fetches(&c, Via::Tcp, "aria2", |o| Aria2::fetch(&c, Given::Torrent, Via::Tcp, o.addr));
        }
    }

    #[test]
    fn from_rtorrent() {
        if foreign::is_here("rtorrent") {
            let c = Content::folder();
            we_fetch(&mut Rtorrent::seed(&c, Via::Tcp), &c, Given::Torrent, Via::Tcp, "libTorrent");
        }
    }

    #[test]
    fn to_rtorrent() {
        if foreign::is_here("rtorrent") {
            let c = Content::folder();
            it_fetches(&c, Via::Tcp, "libTorrent", |o| Rtorrent::fetch(&c, Given::Torrent, Via::Tcp, o.addr));
        }
    }

    #[test]
    fn from_librqbit() {
        let c = Content::folder();
        we_fetch(&mut Rqbit::seed(&c, Via::Tcp), &c, Given::Torrent, Via::Tcp, "rqbit");
    }

    #[test]
    fn to_librqbit() {
        let c = Content::folder();
        it_fetches(&c, Via::Tcp, "rqbit", |o| Rqbit::fetch(&c, Given::Torrent, Via::Tcp, o.addr));
    }
}

fn transmission_fetches(given: Given, via: Via) {
    let content = Content::folder();
    let mut it = Transmission::fetch(&content, given, via);
    let ours = Ours::seed_for(&content, via, &[it.addr()]);
    goes(&ours, "Transmission", via);
    it.completes(&content);
}

mod by_magnet {
    use super::*;

    #[test]
    fn from_transmission() {
        if foreign::is_here("transmission-daemon") {
            let c = Content::folder();
            we_fetch(&mut Transmission::seed(&c, Via::Tcp), &c, Given::Magnet, Via::Tcp, "Transmission");
        }
    }

    #[test]
    fn to_transmission() {
        if foreign::is_here("transmission-daemon") {
            transmission_fetches(Given::Magnet, Via::Tcp);
        }
    }

    #[test]
    fn from_libtorrent() {
        if libtorrent::is_here() {
            let c = Content::folder();
            we_fetch(&mut Libtorrent::seed(&c, Via::Tcp), &c, Given::Magnet, Via::Tcp, "libtorrent");
        }
    }

    #[test]
    fn to_libtorrent() {
        if libtorrent::is_here() {
            let c = Content::folder();
            it_fetches(&c, Via::Tcp, "libtorrent", |o| Libtorrent::fetch(&c, Given::Magnet, Via::Tcp, o.addr));
        }
    }

    #[test]
    fn from_aria2() {
        if foreign::is_here("aria2c") {
            let c = Content::folder();
            we_fetch(&mut Aria2::seed(&c, Via::Tcp), &c, Given::Magnet, Via::Tcp, "aria2");
        }
    }

    #[test]
    fn to_aria2() {
        if foreign::is_here("aria2c") {
            let c = Content::folder();
            it_fetches(&c, Via::Tcp, "aria2", |o| Aria2::fetch(&c, Given::Magnet, Via::Tcp, o.addr));
        }
    }

    #[test]
    fn from_rtorrent() {
        if foreign::is_here("rtorrent") {
            let c = Content::folder();
            we_fetch(&mut Rtorrent::seed(&c, Via::Tcp), &c, Given::Magnet, Via::Tcp, "libTorrent");
        }
    }

    #[test]
    fn to_rtorrent() {
        if foreign::is_here("rtorrent") {
            let c = Content::folder();
            it_fetches(&c, Via::Tcp, "libTorrent", |o| Rtorrent::fetch(&c, Given::Magnet, Via::Tcp, o.addr));
        }
    }

    #[test]
    fn from_librqbit() {
        let c = Content::folder();
        we_fetch(&mut Rqbit::seed(&c, Via::Tcp), &c, Given::Magnet, Via::Tcp, "rqbit");
    }

    #[test]
    fn to_librqbit() {
        let c = Content::folder();
        it_fetches(&c, Via::Tcp, "rqbit", |o| Rqbit::fetch(&c, Given::Magnet, Via::Tcp, o.addr));
    }
}

mod over_utp {
    use super::*;

    #[test]
    fn from_libtorrent() {
        if libtorrent::is_here() {
            let c = Content::folder();
            we_fetch(&mut Libtorrent::seed(&c, Via::Utp), &c, Given::Torrent, Via::Utp, "libtorrent");
        }
    }

    #[test]
    fn to_libtorrent() {
        if libtorrent::is_here() {
            let c = Content::folder();
            it_fetches(&c, Via::Utp, "libtorrent", |o| Libtorrent::fetch(&c, Given::Magnet, Via::Utp, o.addr));
        }
    }

    #[test]
    fn from_libtorrent_encrypted() {
        if libtorrent::is_here() {
            let c = Content::folder();
            we_fetch(&mut Libtorrent::seed(&c, Via::UtpMse), &c, Given::Magnet, Via::UtpMse, "libtorrent");
        }
    }

    #[test]
    fn to_libtorrent_encrypted() {
        if libtorrent::is_here() {
            let c = Content::folder();
            it_fetches(&c, Via::UtpMse, "libtorrent", |o| Libtorrent::fetch(&c, Given::Torrent, Via::UtpMse, o.addr));
        }
    }

    #[test]
    fn from_librqbit() {
        let c = Content::folder();
        we_fetch(&mut Rqbit::seed(&c, Via::Utp), &c, Given::Torrent, Via::Utp, "rqbit");
    }

    #[test]
    fn to_librqbit() {
        let c = Content::folder();
        it_fetches(&c, Via::Utp, "rqbit", |o| Rqbit::fetch(&c, Given::Torrent, Via::Utp, o.addr));
    }
}

mod encrypted {
    use super::*;

    #[test]
    fn from_transmission() {
        if foreign::is_here("transmission-daemon") {
            let c = Content::folder();
            we_fetch(&mut Transmission::seed(&c, Via::Mse), &c, Given::Torrent, Via::Mse, "Transmission");
        }
    }

    #[test]
    fn to_transmission() {
        if foreign::is_here("transmission-daemon") {
            transmission_fetches(Given::Torrent, Via::Mse);
        }
    }

    #[test]
    fn from_libtorrent() {
        if libtorrent::is_here() {
            let c = Content::folder();
            we_fetch(&mut Libtorrent::seed(&c, Via::Mse), &c, Given::Torrent, Via::Mse, "libtorrent");
        }
    }

    #[test]
    fn to_libtorrent() {
        if libtorrent::is_here() {
            let c = Content::folder();
            it_fetches(&c, Via::Mse, "libtorrent", |o| Libtorrent::fetch(&c, Given::Magnet, Via::Mse, o.addr));
        }
    }

    #[test]
    fn from_aria2() {
        if foreign::is_here("aria2c") {
            let c = Content::folder();
            we_fetch(&mut Aria2::seed(&c, Via::Mse), &c, Given::Torrent, Via::Mse, "aria2");
        }
    }

    #[test]
    fn to_aria2() {
        if foreign::is_here("aria2c") {
            let c = Content::folder();
            it_fetches(&c, Via::Mse, "aria2", |o| Aria2::fetch(&c, Given::Torrent, Via::Mse, o.addr));
        }
    }

    #[test]
    fn from_rtorrent() {
        if foreign::is_here("rtorrent") {
            let c = Content::folder();
            we_fetch(&mut Rtorrent::seed(&c, Via::Mse), &c, Given::Torrent, Via::Mse, "libTorrent");
        }
    }

    #[test]
    fn to_rtorrent() {
        if foreign::is_here("rtorrent") {
            let c = Content::folder();
            it_fetches(&c, Via::Mse, "libTorrent", |o| Rtorrent::fetch(&c, Given::Torrent, Via::Mse, o.addr));
        }
    }

    /// It takes nothing else, and we were told nothing of it: the plain handshake fails, and the other follows at once.
    #[test]
    fn a_peer_that_wants_it_is_found_out() {
        if libtorrent::is_here() {
            let c = Content::folder();
            let mut seed = Libtorrent::seed(&c, Via::Mse);
            let ours = Ours::start(&c, Given::Magnet, &[seed.addr()], false, |_| ());
            goes(&ours, "libtorrent", Via::Mse);
            ours.fetches(&c, &mut seed);
        }
    }
}
