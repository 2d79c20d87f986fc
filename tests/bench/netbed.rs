//! A network in one process, for kernels without netem: a TUN device per namespace, and packets carried between them with each
//! host's rate, delay and drop-tail queue. Linux and std only; `priority.py` builds it with `rustc -O`.
//!
//! netbed CONF QUEUE_MS: lines `namespace address/prefix up_kbit down_kbit oneway_ms` (rate 0 is unlimited). The namespaces exist; each
//! gets a device `eth0`. Ends with its standard input.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ffi::CString;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::time::Instant;

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

#[repr(C)]
struct Timespec {
    sec: i64,
    nsec: i64,
}

unsafe extern "C" {
    fn open(path: *const std::ffi::c_char, flags: i32) -> i32;
    fn ioctl(fd: i32, request: u64, arg: *mut u8) -> i32;
    fn setns(fd: i32, kind: i32) -> i32;
    fn read(fd: i32, buf: *mut u8, n: usize) -> isize;
    fn write(fd: i32, buf: *const u8, n: usize) -> isize;
    fn ppoll(fds: *mut PollFd, n: u64, wait: *const Timespec, mask: *const u8) -> i32;
}

const O_RDWR: i32 = 2;
const O_NONBLOCK: i32 = 0o4000;
const CLONE_NEWNET: i32 = 0x4000_0000;
const TUNSETIFF: u64 = 0x4004_54ca;
const IFF_TUN_NO_PI: u16 = 0x1001;

struct Host {
    fd: RawFd,
    net: u32,
    mask: u32,
    up: f64,
    down: f64,
    delay: u64,
    up_free: u64,
    down_free: u64,
    drops: u64,
}

/// A packet at its next place, by time and then in order.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    at: u64,
    order: u64,
    to: usize,
    /// Through the receiver's line already.
    through: bool,
    packet: Vec<u8>,
}

fn takes(len: usize, kbit: f64) -> u64 {
    if kbit <= 0.0 { 0 } else { (len as f64 * 8.0 * 1e6 / kbit) as u64 }
}

fn path(text: &str) -> CString {
    CString::new(text).expect("a path")
}

/// A TUN device in the namespace; this process goes back to its own.
fn device(namespace: &str, home: RawFd) -> RawFd {
    let name = path(&format!("/run/netns/{namespace}"));
    let tun = path("/dev/net/tun");
    let mut request = [0u8; 40];
    request[..4].copy_from_slice(b"eth0");
    request[16..18].copy_from_slice(&IFF_TUN_NO_PI.to_ne_bytes());
    // SAFETY: the strings end in NUL, the request is an ifreq's size; what fails is checked.
    unsafe {
        let there = open(name.as_ptr(), 0);
        assert!(there >= 0 && setns(there, CLONE_NEWNET) == 0, "no namespace {namespace}");
        let fd = open(tun.as_ptr(), O_RDWR | O_NONBLOCK);
        assert!(fd >= 0 && ioctl(fd, TUNSETIFF, request.as_mut_ptr()) == 0, "no TUN device in {namespace}");
        assert!(setns(home, CLONE_NEWNET) == 0, "no way back");
        fd
    }
}

fn hosts(conf: &str) -> Vec<Host> {
    let own = path("/proc/self/ns/net");
    // SAFETY: the string ends in NUL.
    let home = unsafe { open(own.as_ptr(), 0) };
    let line = |l: &str| {
        let f: Vec<&str> = l.split_whitespace().collect();
        let (addr, bits) = f[1].split_once('/').expect("address/prefix");
        let mask = u32::MAX << (32 - bits.parse::<u32>().expect("a prefix"));
        let number = |i: usize| f[i].parse::<f64>().expect("a number");
        let net = u32::from(addr.parse::<Ipv4Addr>().expect("an address")) & mask;
        let (fd, delay) = (device(f[0], home), (number(4) * 1e6) as u64);
        Host { fd, net, mask, up: number(2), down: number(3), delay, up_free: 0, down_free: 0, drops: 0 }
    };
    conf.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')).map(line).collect()
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let mut hosts = hosts(&std::fs::read_to_string(&args[1]).expect("a configuration"));
    let most = args[2].parse::<u64>().expect("milliseconds") * 1_000_000;
    let mut polled: Vec<PollFd> = hosts.iter().map(|h| PollFd { fd: h.fd, events: 1, revents: 0 }).collect();
    polled.push(PollFd { fd: 0, events: 1, revents: 0 });
    let start = Instant::now();
    let clock = || start.elapsed().as_nanos() as u64;
    let mut queue: BinaryHeap<Reverse<Item>> = BinaryHeap::new();
    let (mut order, mut buf) = (0u64, vec![0u8; 65536]);
    println!("ready");
    loop {
        let now = clock();
        while queue.peek().is_some_and(|i| i.0.at <= now) {
            let Some(Reverse(mut item)) = queue.pop() else { break };
            let h = &mut hosts[item.to];
            if item.through {
                // SAFETY: the packet's own length.
                unsafe { write(h.fd, item.packet.as_ptr(), item.packet.len()) };
                continue;
            }
            let begin = h.down_free.max(item.at);
            if h.down > 0.0 && begin - item.at > most {
                h.drops += 1;
                continue;
            }
            h.down_free = begin + takes(item.packet.len(), h.down);
            order += 1;
            item.at = h.down_free;
            item.order = order;
            item.through = true;
            queue.push(Reverse(item));
        }
        let wait = queue.peek().map_or(1_000_000_000, |i| i.0.at.saturating_sub(clock()));
        let wait = Timespec { sec: (wait / 1_000_000_000) as i64, nsec: (wait % 1_000_000_000) as i64 };
        // SAFETY: as many entries as are said, and no mask.
        unsafe { ppoll(polled.as_mut_ptr(), polled.len() as u64, &wait, std::ptr::null()) };
        if polled[hosts.len()].revents != 0 {
            println!("{{\"drops\":{:?}}}", hosts.iter().map(|h| h.drops).collect::<Vec<_>>());
            return;
        }
        let now = clock();
        for from in (0..hosts.len()).filter(|i| polled[*i].revents & 1 != 0) {
            // A few at a time: what is due elsewhere must not wait.
            for _ in 0..64 {
                // SAFETY: no more than fits.
                let n = unsafe { read(hosts[from].fd, buf.as_mut_ptr(), buf.len()) };
                let Some(packet) = usize::try_from(n).ok().and_then(|n| buf.get(..n)).filter(|p| p.len() >= 20) else {
                    break;
                };
                let to = u32::from_be_bytes([packet[16], packet[17], packet[18], packet[19]]);
                let to = hosts.iter().position(|h| packet[0] >> 4 == 4 && to & h.mask == h.net);
                let Some(to) = to else { continue };
                let way = hosts[from].delay + hosts[to].delay;
                let h = &mut hosts[from];
                let begin = h.up_free.max(now);
                if h.up > 0.0 && begin - now > most {
                    h.drops += 1;
                    continue;
                }
                h.up_free = begin + takes(packet.len(), h.up);
                order += 1;
                queue.push(Reverse(Item { at: h.up_free + way, order, to, through: false, packet: packet.to_vec() }));
            }
        }
    }
}
