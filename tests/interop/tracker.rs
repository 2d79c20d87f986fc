//! A tracker (BEP 3, BEP 23) on loopback that tells whoever asks of the peers it was made with.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Ended when dropped.
pub struct Tracker {
    pub addr: SocketAddr,
    ending: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Tracker {
    pub fn start(peers: &[SocketAddr]) -> Tracker {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let ending = Arc::new(AtomicBool::new(false));
        let (flag, answer) = (ending.clone(), answer(peers));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if flag.load(Ordering::Acquire) {
                    return;
                }
                // One that goes away or says nothing gets nothing.
                if let Ok(s) = stream {
                    let _ = tell(s, &answer);
                }
            }
        });
        Tracker { addr, ending, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/announce", self.addr)
    }
}

impl Drop for Tracker {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
        // Wakes it.
        let _ = TcpStream::connect(self.addr);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

fn answer(peers: &[SocketAddr]) -> Vec<u8> {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for peer in peers {
        match peer {
            SocketAddr::V4(a) => v4.extend_from_slice(&a.ip().octets()),
            SocketAddr::V6(a) => v6.extend_from_slice(&a.ip().octets()),
        }
        if peer.is_ipv4() { &mut v4 } else { &mut v6 }.extend_from_slice(&peer.port().to_be_bytes());
    }
    let mut out = format!("d8:completei1e10:incompletei1e8:intervali1800e5:peers{}:", v4.len()).into_bytes();
    out.extend(v4);
    out.extend(format!("6:peers6{}:", v6.len()).bytes());
    out.extend(v6);
    out.push(b'e');
    out
}

fn tell(mut s: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    s.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut request = Vec::new();
    let mut buf = [0; 2048];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < 16_384 {
        match s.read(&mut buf)? {
            0 => return Ok(()),
            n => request.extend_from_slice(&buf[..n]),
        }
    }
    write!(
        s,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    )?;
    s.write_all(answer)
}
