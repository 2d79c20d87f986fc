//! Two namespaces: the player's, with an interface it may use ("good") and one it may not ("bad", the default route), and
//! the rest of the world, at 10.99.0.1 behind both.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::player::Home;
use crate::support::process::Guard;

/// An IPv4 packet that the player's machine sent to the world.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packet {
    pub to: String,
    /// 0 for what has none.
    pub port: u16,
    pub is_tcp: bool,
}

pub struct World {
    player: String,
    rest: String,
    sniffed: Arc<Mutex<BTreeSet<Packet>>>,
    /// Frames on the way that is forbidden which no socket sent: the kernel answers what comes for a connection that is closed with a
    /// bare reset, by the default route whatever the socket was bound to, and asks for the neighbour's address first.
    of_kernel: Arc<AtomicU64>,
}

impl World {
    pub fn new() -> io::Result<World> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = std::process::id();
        // Dropped, and with it whatever was made, when a step fails.
        let (player, rest) = (format!("sg{id}p{n}"), format!("sg{id}r{n}"));
        let world = World { player, rest, sniffed: Arc::default(), of_kernel: Arc::default() };
        let (p, r) = (world.player.as_str(), world.rest.as_str());
        for ns in [p, r] {
            ip(&["netns", "add", ns])?;
            // Neighbour and router discovery would be packets nobody asked for.
            inside(ns, || {
                for conf in ["all", "default"] {
                    // A kernel without IPv6 has none to switch off.
                    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{conf}/disable_ipv6"), "1");
                }
            })?;
            ip(&["-n", ns, "link", "set", "lo", "up"])?;
        }
        for (dev, net) in [("good", "10.77.1"), ("bad", "10.77.2")] {
            let far = format!("{dev}-far");
            ip(&["link", "add", dev, "netns", p, "type", "veth", "peer", "name", &far, "netns", r])?;
            ip(&["-n", p, "addr", "add", &format!("{net}.2/24"), "dev", dev])?;
            ip(&["-n", r, "addr", "add", &format!("{net}.1/24"), "dev", &far])?;
            ip(&["-n", r, "link", "set", &far, "up"])?;
            ip(&["-n", p, "link", "set", dev, "up"])?;
            let metric = if dev == "bad" { "10" } else { "100" };
            ip(&["-n", p, "route", "add", "default", "via", &format!("{net}.1"), "dev", dev, "metric", metric])?;
        }
        ip(&["-n", r, "addr", "add", "10.99.0.1/32", "dev", "lo"])?;
        world.sniff()?;
        Ok(world)
    }

    /// Runs on a thread of its own in the rest of the world; sockets made there stay there.
    pub fn outside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        inside(&self.rest, f).unwrap()
    }

    /// Packets that the player's sockets sent by the interface that is forbidden.
    pub fn strayed(&self) -> u64 {
        let sent = || {
            let table = inside(&self.player, || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()).unwrap();
            let line = table.lines().find_map(|l| l.trim().strip_prefix("bad:")).expect("no such interface");
            let all: u64 = line.split_whitespace().nth(9).unwrap().parse().unwrap();
            all.saturating_sub(self.of_kernel.load(Ordering::Relaxed))
        };
        // Who listens may be a little behind who counts.
        let patience = Instant::now() + Duration::from_secs(2);
        while sent() > 0 && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        sent()
    }

    pub fn remove(&self, dev: &str) {
        ip(&["-n", &self.player, "link", "del", dev]).unwrap();
    }

    /// What came from the player's machine so far, each destination once.
    pub fn sniffed(&self) -> Vec<Packet> {
        self.sniffed.lock().unwrap().iter().cloned().collect()
    }

    fn sniff(&self) -> io::Result<()> {
        let socket = inside(&self.rest, || {
            let all = i32::from((libc::ETH_P_ALL as u16).to_be());
            // SAFETY: socket has no memory effects; what it gives is ours alone.
            let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, all) };
            // SAFETY: an open descriptor that nobody else has.
            if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(fd) }) }
        })??;
        let bad = inside(&self.rest, || {
            // SAFETY: the name ends with a zero.
            unsafe { libc::if_nametoindex(c"bad-far".as_ptr()) }
        })?;
        let of_kernel = self.of_kernel.clone();
        let log = Arc::downgrade(&self.sniffed);
        // Ends with the namespace's last interface, or with the test.
        std::thread::spawn(move || {
            let mut buf = [0u8; 2048];
            loop {
                // SAFETY: zeros are a valid address.
                let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
                let mut from_len = size_of_val(&from) as libc::socklen_t;
                let (data, len, from_at) = (buf.as_mut_ptr().cast(), buf.len(), (&raw mut from).cast());
                // SAFETY: buffer and address are as long as is said.
                let n = unsafe { libc::recvfrom(socket.as_raw_fd(), data, len, 0, from_at, &mut from_len) };
                let Some(log) = log.upgrade() else { return };
                let Ok(n) = usize::try_from(n) else { continue };
                let ip = &buf[..n];
                let strays = from.sll_ifindex as u32 == bad && from.sll_pkttype != libc::PACKET_OUTGOING;
                let is_arp = u16::from_be(from.sll_protocol) == libc::ETH_P_ARP as u16;
                // The flags of a TCP segment behind an IPv4 header without options.
                let resets = n >= 40 && ip[0] == 0x45 && ip[9] == 6 && ip[33] & 0x3f == 0x04;
                if strays && (is_arp || resets) {
                    of_kernel.fetch_add(1, Ordering::Relaxed);
                }
                // IPv4 from the player's addresses.
                if n < 24 || ip[0] >> 4 != 4 || ip[12..14] != [10, 77] || ip[15] != 2 {
                    continue;
                }
                let body = &ip[usize::from(ip[0] & 15) * 4..];
                let has_ports = matches!(ip[9], 6 | 17) && body.len() >= 4;
                let port = if has_ports { u16::from_be_bytes([body[2], body[3]]) } else { 0 };
                let to = ip[16..20].iter().map(u8::to_string).collect::<Vec<_>>().join(".");
                log.lock().unwrap().insert(Packet { to, port, is_tcp: ip[9] == 6 });
            }
        });
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for ns in [&self.player, &self.rest] {
            let _ = ip(&["netns", "del", ns]);
        }
    }
}

fn ip(args: &[&str]) -> io::Result<()> {
    let out = Command::new("ip").args(args).output()?;
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if out.status.success() { Ok(()) } else { Err(io::Error::other(format!("ip {}: {said}", args.join(" ")))) }
}

fn enter(ns: &File) -> io::Result<()> {
    // SAFETY: setns has no memory effects; it moves the calling thread alone.
    if unsafe { libc::setns(ns.as_raw_fd(), libc::CLONE_NEWNET) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn inside<T: Send>(ns: &str, f: impl FnOnce() -> T + Send) -> io::Result<T> {
    let file = File::open(Path::new("/run/netns").join(ns))?;
    std::thread::scope(|s| s.spawn(move || enter(&file).map(|()| f())).join().unwrap())
}

/// A headless play in the player's namespace.
pub struct Play {
    guard: Guard,
    started: Instant,
    ended: Option<Option<i32>>,
    _home: Home,
}

impl Play {
    pub fn start(world: &World, torrent: &Path, args: &[&str]) -> Play {
        let home = Home::new();
        let ns = File::open(Path::new("/run/netns").join(&world.player)).unwrap();
        let mut command = home.command();
        command.args(["play", "--headless"]).arg(torrent).args(args);
        // SAFETY: a system call that may be made between fork and exec.
        unsafe { command.pre_exec(move || enter(&ns)) };
        let guard = Guard::spawn(&mut command, Some(&home.dir.path().join("said.txt")));
        Play { guard, started: Instant::now(), ended: None, _home: home }
    }

    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn runs(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = self.guard.wait(Duration::ZERO).map(|s| s.code());
        }
        self.ended.is_none()
    }

    /// Ends it as Ctrl-C does, with what it says to trackers then.
    pub fn end(&mut self) {
        if self.runs() {
            self.guard.signal(libc::SIGINT);
            self.ended = self.guard.wait(Duration::from_secs(30)).map(|s| s.code());
        }
    }

    pub fn said(&self) -> String {
        self.guard.log()
    }
}
