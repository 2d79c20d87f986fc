//! The same requests to nginx and to us; and us behind nginx, as the README has it.

use std::path::Path;
use std::process::Command;

use super::support::nginx::Nginx;
use super::support::origin::{Answer, LIMIT, Origin, ask, command};
use super::support::process::Guard;
use super::support::{free_port, temp_dir, text, wait_for};

const FILM: &[u8] = include_bytes!("../../assets/icon.png");

#[test]
fn both_answer_alike() {
    let dir = temp_dir();
    let sub = dir.path().join("sub dir");
    std::fs::create_dir(&sub).unwrap();
    std::fs::write(dir.path().join("film.mp4"), FILM).unwrap();
    std::fs::write(sub.join("a%b.mp4"), FILM).unwrap();
    std::fs::write(dir.path().join("empty.mp4"), b"").unwrap();
    let (nginx, ours) = (Nginx::serve(dir.path(), None), Origin::start(&[text(dir.path())]));
    let len = FILM.len();
    let tail = format!("Range: bytes={}-", len - 1);
    let past = format!("Range: bytes={len}-");
    let beyond = format!("Range: bytes=0-{}", len * 2);
    let modified =
        format!("If-Modified-Since: {}", ask(nginx.port, "HEAD", "/film.mp4", &[]).header("last-modified").unwrap());
    let same_date = format!("If-Range: {}", modified.split_once(": ").unwrap().1);
    let cases: &[(&str, &str, &[&str])] = &[
        ("GET", "/film.mp4", &[]),
        ("HEAD", "/film.mp4", &[]),
        ("GET", "/film.mp4?x=y", &[]),
        ("GET", "/sub%20dir/a%25b.mp4", &["Range: bytes=10-19"]),
        ("GET", "/film.mp4", &["Range: bytes=0-0"]),
        ("GET", "/film.mp4", &["Range: bytes=100-199"]),
        ("GET", "/film.mp4", &["Range: bytes=-100"]),
        ("GET", "/film.mp4", &["Range: bytes=-99999999"]),
        ("GET", "/film.mp4", &[&tail]),
        ("GET", "/film.mp4", &[&past]),
        ("GET", "/film.mp4", &[&beyond]),
        ("GET", "/film.mp4", &["Range: chars=0-1"]),
        ("GET", "/film.mp4", &["Range: bytes=0-9", "If-Range: \"other\""]),
        ("GET", "/film.mp4", &["Range: bytes=0-9", &same_date]),
        ("GET", "/film.mp4", &["Range: bytes=0-9", "If-Range: Sun, 06 Nov 1994 08:49:37 GMT"]),
        ("GET", "/film.mp4", &[&modified]),
        ("GET", "/film.mp4", &["If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"]),
        ("GET", "/film.mp4", &["If-None-Match: \"other\""]),
        ("GET", "/film.mp4", &["If-Match: \"other\""]),
        ("GET", "/film.mp4", &["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"]),
        ("GET", "/empty.mp4", &[]),
        ("GET", "/empty.mp4", &["Range: bytes=0-"]),
        ("GET", "/nothing", &[]),
        ("GET", "/film.mp4/x", &[]),
        ("POST", "/film.mp4", &["Content-Length: 0"]),
    ];
    for (method, path, headers) in cases {
        let (theirs, ours) = (ask(nginx.port, method, path, headers), ask(ours.port, method, path, headers));
        // nginx sends an empty file whole to whoever asks for a range of it; RFC 9110 §15.5.17 has 416 for that.
        let status = if *path == "/empty.mp4" && !headers.is_empty() { 416 } else { theirs.status };
        assert_eq!(ours.status, status, "{method} {path} {headers:?}: {} against {}", ours.head, theirs.head);
        if (200..300).contains(&theirs.status) && ours.status == theirs.status {
            for name in ["content-length", "content-range", "content-type", "last-modified", "accept-ranges"] {
                // Said by us of a part too, which is allowed.
                if name != "accept-ranges" || theirs.header(name).is_some() {
                    assert_eq!(ours.header(name), theirs.header(name), "{method} {path} {headers:?}: {name}");
                }
            }
            assert!(ours.body == theirs.body, "{method} {path} {headers:?}");
        }
        if theirs.status == 416 {
            assert_eq!(ours.header("content-range"), theirs.header("content-range"));
        }
    }
    // Several ranges: the same parts, whatever stands between them.
    let range = ["Range: bytes=0-9,200-299,-5"];
    let parts = |answer: &Answer| {
        let kind = answer.header("content-type").unwrap().to_owned();
        let boundary = kind.split_once("boundary=").unwrap().1.to_owned();
        let body = String::from_utf8_lossy(&answer.body).replace(&boundary, "B");
        let body = body.trim_start_matches("\r\n").to_owned();
        let told: usize = answer.header("content-length").unwrap().parse().unwrap();
        assert_eq!(told, answer.body.len());
        body
    };
    let (theirs, ours) = (ask(nginx.port, "GET", "/film.mp4", &range), ours.get("/film.mp4", &range));
    assert_eq!((theirs.status, ours.status), (206, 206));
    assert_eq!(parts(&ours).to_ascii_lowercase(), parts(&theirs).to_ascii_lowercase());
}

/// The configuration in the README, for this machine.
fn readme_config(dir: &Path, port: u16, upstream: u16) -> String {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let block = readme.split("```nginx\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of nginx");
    let d = text(dir);
    let block = block
        .replace("10.0.0.11:8080", &format!("127.0.0.1:{upstream}"))
        .replace("    server 10.0.0.12:8080;\n", "")
        .replace("listen 443 ssl http2;", &format!("listen 127.0.0.1:{port} ssl http2;"))
        .replace("/etc/ssl/films.pem", &format!("{d}/cert.pem"))
        .replace("/etc/ssl/films.key", &format!("{d}/key.pem"));
    // SAFETY: geteuid takes and changes nothing.
    let user = if unsafe { libc::geteuid() } == 0 { "user root;" } else { "" };
    format!(
        "{user} daemon off; master_process off; pid {d}/pid; error_log {d}/error.log; events {{ worker_connections 128; }}
        http {{ access_log off; client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f;
        uwsgi_temp_path {d}/u; scgi_temp_path {d}/s; {block} }}"
    )
}

#[test]
fn behind_nginx_as_the_readme_has_it() {
    let (dir, port) = (temp_dir(), free_port());
    std::fs::write(dir.path().join("film.mp4"), FILM).unwrap();
    let log = [("SLUICEGATE_LOG", "sluicegate=debug")];
    let home = temp_dir();
    let upstream = free_port();
    let mut serve = command(home.path());
    serve.envs(log).args(["--listen", &format!("127.0.0.1:{upstream}"), "--trust-proxy", "127.0.0.1"]);
    let mut ours = Guard::spawn(serve.arg(dir.path().join("film.mp4")), Some(&home.path().join("log")));
    let made = rcgen::generate_simple_self_signed(vec!["films.example".into()]).unwrap();
    std::fs::write(dir.path().join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    let conf = dir.path().join("nginx.conf");
    std::fs::write(&conf, readme_config(dir.path(), port, upstream)).unwrap();
    let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let error_log = dir.path().join("error.log");
    let args = ["-e", text(&error_log), "-p", text(dir.path()), "-c", text(&conf)];
    let checked = Command::new(program).arg("-t").args(args).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let mut nginx = Guard::spawn(Command::new(program).args(args), Some(&dir.path().join("log")));
    wait_for("both", LIMIT, || {
        assert!(nginx.runs() && ours.runs(), "{}{}", nginx.log(), ours.log());
        [port, upstream].iter().all(|p| std::net::TcpStream::connect(("127.0.0.1", *p)).is_ok()).then_some(())
    });
    let trust = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([trust])
            .resolve("films.example", ([127, 0, 0, 1], port).into())
            .build()
            .unwrap();
        let base = format!("https://films.example:{port}");
        let part = client.get(format!("{base}/film.mp4")).header("range", "bytes=10-19").send().await.unwrap();
        assert_eq!((part.status().as_u16(), part.version()), (206, reqwest::Version::HTTP_2));
        assert_eq!(part.bytes().await.unwrap(), &FILM[10..20]);
        let bid = client.post(format!("{base}/v1/bids")).header("content-type", "application/json").body("{}");
        // Whatever it thinks of such a bid: it was asked, and not nginx.
        let said = bid.send().await.unwrap();
        assert!(said.headers().contains_key("x-content-type-options"), "{said:?}");
    });
    // It was told who asks.
    wait_for("the request in the log", LIMIT, || ours.log().contains("from=127.0.0.1").then_some(()));
}
