//! Trackers that attack whoever asks them, on real sockets: a play beside one is the play without it, in bounded memory, and the
//! tracker gets neither many connections nor many bytes rid.
//!
//! Invariant: nothing here goes by the clock. The honest peer gives nothing until the tracker has done its worst.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::frames::{assert_same, reference};
use crate::support::peer::{Content, Link, Peer, Seen};
use crate::support::player::{Home, Played};
use crate::support::torrent::Torrent;
use crate::support::{TempDir, media, temp_dir};

/// What a play of this film holds, twice over.
const MEMORY: f64 = 150e6;
/// What both kernels' socket buffers may hold beyond what the player reads.
const BUFFERS: u64 = 16 << 20;

/// What a tracker saw.
#[derive(Debug, Default)]
struct Visits {
    requests: AtomicU64,
    /// Bytes it got rid of over one connection, at most.
    sent: AtomicU64,
    /// Answers that were given whole, or of which the player would have no more.
    over: AtomicU64,
    ending: AtomicBool,
}

/// A tracker that answers as a test has it, each connection in a thread of its own.
struct Tracker {
    addr: SocketAddr,
    visits: Arc<Visits>,
    thread: Option<JoinHandle<()>>,
}

impl Tracker {
    fn start(answer: impl Fn(&mut Answer) -> std::io::Result<()> + Send + Sync + 'static) -> Tracker {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (addr, visits, answer) = (listener.local_addr().unwrap(), Arc::new(Visits::default()), Arc::new(answer));
        let seen = visits.clone();
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if seen.ending.load(Ordering::Acquire) {
                    return;
                }
                let (visits, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut to = Answer { stream, addr, visits, sent: 0 };
                    if to.asked().is_ok() {
                        let _ = answer(&mut to);
                        to.visits.over.fetch_add(1, Ordering::Release);
                    }
                });
            }
        });
        Tracker { addr, visits, thread: Some(thread) }
    }

    fn count(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Acquire)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.visits.ending.store(true, Ordering::Release);
        // Wakes it.
        let _ = TcpStream::connect(self.addr);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// One request that is being answered.
struct Answer {
    stream: TcpStream,
    addr: SocketAddr,
    visits: Arc<Visits>,
    sent: u64,
}

impl Answer {
    fn asked(&mut self) -> std::io::Result<()> {
        let mut request = Vec::new();
        let mut buf = [0; 2048];
        while !request.windows(4).any(|w| w == b"\r\n\r\n") {
            match self.stream.read(&mut buf)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => request.extend_from_slice(&buf[..n]),
            }
        }
        self.visits.requests.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)?;
        self.sent += bytes.len() as u64;
        self.visits.sent.fetch_max(self.sent, Ordering::Release);
        Ok(())
    }

    fn head(&mut self, more: &str) -> std::io::Result<()> {
        self.send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{more}\r\n").as_bytes())
    }

    fn body(&mut self, more: &str, body: &[u8]) -> std::io::Result<()> {
        self.head(&format!("Content-Length: {}\r\n{more}", body.len()))?;
        self.send(body)
    }

    /// The same over and over, until the player will have no more.
    fn endlessly(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        while !self.visits.ending.load(Ordering::Acquire) {
            self.send(bytes)?;
        }
        Ok(())
    }
}

struct Shelf {
    _dir: TempDir,
    torrent: Torrent,
    content: Content,
}

impl Shelf {
    fn new() -> Shelf {
        let dir = temp_dir();
        let torrent = Torrent::of(&media::mp4(), dir.path(), 32);
        let content = Content::of(&torrent);
        Shelf { _dir: dir, torrent, content }
    }

    /// Plays the film of an honest peer that gives nothing before `when`.
    fn play(&self, tracker: &Tracker, when: impl Fn(&Visits) -> bool + Clone + Send + Sync + 'static) -> Played {
        let visits = tracker.visits.clone();
        let honest = Peer::listen(&self.content, move |mut link: Link| {
            let (visits, when) = (visits.clone(), when.clone());
            async move {
                link.open().await?;
                while !when(&visits) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                link.serve(Duration::ZERO, |_, _| ()).await
            }
        });
        let torrent = self.torrent.with_tracker(&format!("http://{}/announce", tracker.addr));
        let addr = honest.addr.to_string();
        let options = ["--no-clock", "--no-server", "--frames-md5", "frames.txt", "--peer", &addr];
        let played = Home::new().play(torrent.path, options).ok();
        assert_same(&played.frames, &reference(&media::mp4()));
        assert!(played.number("/rss_peak_bytes") < MEMORY, "{:#}", played.report);
        played
    }
}

fn once_over(v: &Visits) -> bool {
    Tracker::count(&v.over) > 0
}

#[test]
fn an_answer_without_an_end_is_hung_up_on() {
    for head in ["", "Transfer-Encoding: chunked\r\n", "Content-Length: 1000000000000\r\n"] {
        let chunked = head.starts_with("Transfer");
        let tracker = Tracker::start(move |to| {
            to.head(head)?;
            let chunk = vec![b'7'; 64 * 1024];
            if chunked {
                return to.endlessly(&[b"10000\r\n", &chunk[..], b"\r\n"].concat());
            }
            to.send(b"d5:peers99999999:")?;
            to.endlessly(&chunk)
        });
        Shelf::new().play(&tracker, once_over);
        let sent = Tracker::count(&tracker.visits.sent);
        assert!(sent < BUFFERS, "{sent} bytes were taken");
    }
}

#[test]
fn heads_without_an_end_are_hung_up_on() {
    let tracker = Tracker::start(|to| {
        to.send(b"HTTP/1.1 200 OK\r\n")?;
        to.endlessly(format!("X-{}: 1\r\n", "y".repeat(900)).as_bytes())
    });
    Shelf::new().play(&tracker, once_over);
    assert!(Tracker::count(&tracker.visits.sent) < BUFFERS);
}

#[test]
fn a_packed_answer_that_unpacks_without_an_end_fills_no_memory() {
    // Half a gigabyte in as many bytes as are read of an answer.
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![b'0'; 1 << 20];
    packer.write_all(b"d5:peers499999999:").unwrap();
    (0..490).for_each(|_| packer.write_all(&zeros).unwrap());
    let bomb = packer.finish().unwrap();
    assert!(bomb.len() < 512 * 1024, "{} bytes are not read at all", bomb.len());
    let tracker = Tracker::start(move |to| to.body("Content-Encoding: gzip\r\n", &bomb));
    Shelf::new().play(&tracker, once_over);
}

#[test]
fn redirects_in_a_circle_end() {
    let tracker = Tracker::start(|to| {
        let (addr, n) = (to.addr, Tracker::count(&to.visits.requests));
        let head = format!("HTTP/1.1 302 Found\r\nLocation: http://{addr}/announce?{n}\r\nContent-Length: 0\r\n");
        to.send(format!("{head}Connection: close\r\n\r\n").as_bytes())
    });
    // One round, and most likely the first of the second.
    Shelf::new().play(&tracker, |v| Tracker::count(&v.requests) > 10);
    // Ten hops a try, and a second try for a way that needs certificates; pauses grow from three seconds.
    let requests = Tracker::count(&tracker.visits.requests);
    assert!(requests < 200, "it was asked {requests} times");
}

#[test]
fn an_answer_that_comes_byte_by_byte_holds_nothing_up() {
    let tracker = Tracker::start(|to| {
        to.head("Content-Length: 100000\r\n")?;
        while !to.visits.ending.load(Ordering::Acquire) {
            to.send(b"d")?;
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    });
    Shelf::new().play(&tracker, |v| Tracker::count(&v.sent) > 80);
    // It is waited for, and asked again only after it was given up: every 23 s at most, in a play of three minutes at most.
    assert!(Tracker::count(&tracker.visits.requests) <= 10, "{:?}", tracker.visits);
}

/// 80,000 addresses, all of them of somebody who listens.
#[test]
fn of_a_flood_of_peers_few_are_dialled() {
    let shelf = Shelf::new();
    let crowd = Peer::crowd(1, &shelf.content, |mut link: Link| async move {
        link.shake().await?;
        link.drain().await
    });
    let (crowd, port) = (crowd.0, crowd.1[0].port());
    let peers: Vec<u8> = (0..80_000u32)
        .flat_map(|i| {
            let [_, a, b, c] = (i + 256).to_be_bytes();
            [127, 78 + a, b, c].into_iter().chain(port.to_be_bytes())
        })
        .collect();
    let answer = [format!("d8:intervali1e5:peers{}:", peers.len()).as_bytes(), &peers, b"e"].concat();
    assert!(answer.len() < 512 * 1024, "{} bytes are not read at all", answer.len());
    let tracker = Tracker::start(move |to| to.body("", &answer));
    let seen = crowd.seen.clone();
    shelf.play(&tracker, move |v| once_over(v) && Seen::get(&seen.links) > 20);
    let dialled = Seen::get(&crowd.seen.links);
    println!("{dialled} were dialled");
    // 500 are taken of one answer; who is let go may be dialled once more.
    assert!(dialled <= 1000, "{dialled} were dialled");
    // An interval of a second is not kept: it is told of start, completion and end, asked for a scrape each time, and in a play
    // of three minutes at most of nothing else but every half a minute.
    assert!(Tracker::count(&tracker.visits.requests) <= 6 + 2 * 6, "{:?}", tracker.visits);
}
