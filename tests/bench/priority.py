#!/usr/bin/env python3
"""What the server's priority gains on a full access link: 20 greedy libtorrent seeds and nginx behind one line of 10 Mbit/s.

priority.py [RUNS]        5 runs of each kind in turn; prints each, then medians against the bars; exit code 1 below them

Each run lets the peers fill the line, then jumps to 2 MB that no peer has: `alone` without peers (T0), `with` priority and `off`
without it. What counts is the time from the jump until the reader has the 2 MB, and how soon the peers fill the line again.

Needs root, iproute2, nginx, Python's libtorrent and `cargo bench --bench transfer --no-run` before (TRANSFER names another
build of it). The line is emulated by netbed.rs beside this file. Environment: PEERS=20, DOWN=10000 and UP=5000 kbit/s, DELAY=10 ms
one way per host, QUEUE=150 ms in front of the line, CC= a congestion control for all senders (default: the system's), WORK= a folder,
UTP=1 for links over uTP.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from throughput import transfer

HERE = os.path.dirname(os.path.abspath(__file__))
PEERS, DOWN, UP = int(os.environ.get("PEERS", 20)), int(os.environ.get("DOWN", 10000)), int(os.environ.get("UP", 5000))
DELAY, QUEUE = os.environ.get("DELAY", "10"), os.environ.get("QUEUE", "150")
MIB, PIECE = 64, 256 * 1024
# 2 MB that no peer has, in the middle of a film of 8 Mbit/s: two seconds of it, all of which the picture waits for.
HOLE, HOLE_LEN, SECONDS = 30 << 20, 2 << 20, 64.0
PLAYER, WEB, SEED = "10.78.0.4", "10.78.0.3", "10.78.1."


def seeds(torrent, folder, count):
    """Seeds of everything but the hole, until standard input ends."""
    import libtorrent as lt
    sys.path.insert(0, HERE)
    from lt import SETTINGS
    info = lt.torrent_info(torrent)
    have = [not HOLE <= p * info.piece_length() < HOLE + HOLE_LEN for p in range(info.num_pieces())]
    running = []
    utp = bool(os.environ.get("UTP"))
    for i in range(count):
        s = lt.session({**SETTINGS, "listen_interfaces": f"{SEED}{i + 1}:6881", "enable_incoming_utp": utp, "enable_outgoing_utp": utp})
        p = lt.add_torrent_params()
        p.ti, p.save_path, p.have_pieces = info, folder, have
        p.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
        # They are to give, not to ask us for the hole.
        p.flags |= lt.torrent_flags.no_verify_files | lt.torrent_flags.upload_mode
        # The session ends with its last name.
        running.append((s, s.add_torrent(p)))
    while not all(t.status().num_pieces == sum(have) for _, t in running):
        time.sleep(0.1)
    print("ready", flush=True)
    sys.stdin.read()


def sh(line):
    subprocess.run(line, shell=True, check=True)


class Bed:
    """Namespaces, the line between them, seeds and the origin."""

    def __init__(self, work):
        self.work, self.mine = work, f"slp{os.getpid()}"
        self.running = []
        self.names = {n: f"{self.mine}-{n}" for n in ("player", "web", "seeds")}
        addrs = {"player": [PLAYER], "web": [WEB], "seeds": [f"{SEED}{i + 1}" for i in range(PEERS)]}
        with open(f"{work}/bed.conf", "w") as f:
            f.write(f"{self.names['player']} {PLAYER}/32 {UP} {DOWN} {DELAY}\n")
            f.write(f"{self.names['web']} {WEB}/32 0 0 {DELAY}\n{self.names['seeds']} {SEED}0/24 0 0 {DELAY}\n")
        for n in self.names.values():
            sh(f"ip netns add {n} && ip -n {n} link set lo up")
        sh(f"rustc --edition 2024 -O {HERE}/netbed.rs -o {work}/netbed")
        self.start([f"{work}/netbed", f"{work}/bed.conf", QUEUE], "ready")
        for n, all_ in addrs.items():
            for a in all_:
                sh(f"ip -n {self.names[n]} addr add {a}/32 dev eth0")
            route = f"default dev eth0 src {all_[0]}" + (f" congctl {os.environ['CC']}" if "CC" in os.environ else "")
            sh(f"ip -n {self.names[n]} link set eth0 up mtu 1500 txqueuelen 1000 && ip -n {self.names[n]} route add {route}")

    def inside(self, name, cmd):
        return ["ip", "netns", "exec", self.names[name], *cmd]

    def start(self, cmd, word=None):
        p = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.running.append(p)
        if word and word not in p.stdout.readline():
            sys.exit(f"{cmd} did not start")
        return p

    def serve(self, folder):
        conf = f"""user root; daemon off; master_process off; pid {self.work}/pid; error_log {self.work}/error.log;
            events {{ worker_connections 128; }} http {{ access_log off; client_body_temp_path {self.work}/b; proxy_temp_path {self.work}/p;
            fastcgi_temp_path {self.work}/f; uwsgi_temp_path {self.work}/u; scgi_temp_path {self.work}/s;
            server {{ listen {WEB}:80; root {folder}; }} }}"""
        with open(f"{self.work}/nginx.conf", "w") as f:
            f.write(conf)
        self.start(self.inside("web", ["nginx", "-e", f"{self.work}/error.log", "-p", self.work, "-c", f"{self.work}/nginx.conf"]))
        self.start(self.inside("seeds", [sys.executable, __file__, "seeds", f"{folder}/film.torrent", folder, str(PEERS)]), "ready")

    def down(self):
        for p in reversed(self.running):
            p.stdin.close()
            p.terminate()
            p.wait(20)
        for n in self.names.values():
            subprocess.run(["ip", "netns", "del", n])


def race(bed, kind, folder):
    cache = f"{bed.work}/cache"
    shutil.rmtree(cache, ignore_errors=True)
    cmd = [transfer(), "race", f"{folder}/film.torrent", "--cache", cache, "--web", f"http://{WEB}/film.bin", "--limit", "120",
           "--duration", str(SECONDS), "--at", str(HOLE), "--len", str(HOLE_LEN)]
    if os.environ.get("UTP"):
        cmd.append("--utp")
    if kind != "alone":
        cmd += [a for i in range(PEERS) for a in ("--peer", f"{SEED}{i + 1}:6881")]
    if kind == "off":
        cmd.append("--no-priority")
    out = subprocess.run(bed.inside("player", cmd), stdout=subprocess.PIPE, text=True, timeout=300)
    if out.returncode != 0:
        sys.exit(f"{kind} ended with {out.returncode}")
    r = json.loads(out.stdout.strip().splitlines()[-1])
    if os.environ.get("KEEP"):
        with open(os.environ["KEEP"], "a") as f:
            f.write(json.dumps({"kind": kind, **r}) + "\n")
    rows, asked, came = r["rows"], r["asked_ms"], r["came_ms"]
    line = DOWN * 125.0
    at = lambda ms, i: next((x[i] for x in reversed(rows) if x[0] <= ms), 0)
    share = lambda a, b: (at(b, 1) - at(a, 1)) / ((b - a) / 1e3) / line
    # Of what the line carries of payload by the peers' own rate just before.
    full = max(share(asked - 3000, asked), 1e-9)
    back = next((t / 1e3 for t in range(0, 4000, 100) if share(came + t, came + t + 1000) >= 0.9 * full), None)
    return {"took": r["took_s"], "links": r["links"], "before": full, "back": back,
            "during": share(asked, came), "server": at(came, 2) - at(asked, 2)}


def main(runs):
    if os.geteuid() != 0:
        sys.exit("The network namespaces need root.")
    work = tempfile.mkdtemp(prefix="priority-", dir=os.environ.get("WORK"))
    folder = f"{work}/c"
    made = [sys.executable, f"{HERE}/lt.py", "make", folder, str(MIB), str(PIECE // 1024)]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    bed = Bed(work)
    results = {"alone": [], "with": [], "off": []}
    try:
        bed.serve(folder)
        for n in range(runs):
            for kind in results:
                r = race(bed, kind, folder)
                results[kind].append(r)
                back = "" if kind == "alone" else f", peers had {r['before']:.0%} of the line, {r['during']:.0%} meanwhile, back after {r['back']} s"
                print(f"{n + 1} {kind:6} {r['took']:6.2f} s, {r['server'] / 1e6:.2f} MB of the server{back}", flush=True)
    finally:
        bed.down()
        shutil.rmtree(work, ignore_errors=True)
    took = {k: statistics.median(r["took"] for r in v) for k, v in results.items()}
    back = statistics.median(r["back"] if r["back"] is not None else 99.0 for r in results["with"])
    slower, gain = took["with"] / took["alone"], took["off"] / took["with"]
    print(f"medians: alone {took['alone']:.2f} s; with {took['with']:.2f} s, {slower:.2f} times that (bar 1.2); off {took['off']:.2f} s, "
          f"{gain:.1f} times that with priority (bar 3); peers at 90 % again after {back:.1f} s, over the second from then (bar 2)")
    return 0 if slower <= 1.2 and gain >= 3.0 and back <= 2.0 else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["seeds"]:
        seeds(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 5))
