#!/usr/bin/env python3
"""Megabytes per second of processor time, ours and libtorrent's, over loopback.

throughput.py down [RUNS [MIB]]     four libtorrent seeds, one download at full speed
throughput.py up [RUNS [MIB]]       one seed, four libtorrent downloads at full speed
throughput.py both [RUNS [MIB]]

Needs `cargo bench --bench transfer --no-run` before, Python's libtorrent, and memory for six copies of MIB (default 512) in
$WORK, by default a folder below /dev/shm: so that a slow disk measures neither. Runs alternate; medians are compared.
Processor time is each process's own (getrusage), from when it has loaded its libraries. With RATE_KIB each seed of `down` gives that many KiB a second: what a
film's pace costs, where waking up counts for more than moving bytes. TRANSFER names our program if it is not the newest in the target folder.
"""
import glob
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
LT = [sys.executable, os.path.join(HERE, "lt.py")]
SEEDS = 4
# The bar: ours must reach this share of libtorrent's.
WANTED = 0.8


def transfer():
    if "TRANSFER" in os.environ:
        return os.environ["TRANSFER"]
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(HERE, "../../target"))
    built = [p for p in glob.glob(f"{target}/release/deps/transfer-*") if os.access(p, os.X_OK) and not p.endswith(".d")]
    if not built:
        sys.exit("There is no transfer program yet: cargo bench --bench transfer --no-run makes it.")
    return max(built, key=os.path.getmtime)


def port(i):
    return 46300 + i


def run(cmd):
    out = subprocess.run(cmd, stdout=subprocess.PIPE, text=True, timeout=900)
    if out.returncode != 0:
        sys.exit(f"{cmd[0]} ended with {out.returncode}")
    return json.loads(out.stdout.strip().splitlines()[-1])


class Server:
    """A process that serves until its standard input ends."""

    def __init__(self, cmd):
        self.p = subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert "ready" in self.p.stdout.readline(), cmd

    def end(self):
        self.p.stdin.close()
        line = self.p.stdout.read().strip().splitlines()
        self.p.wait(60)
        return json.loads(line[-1]) if line else None


class Bench:
    def __init__(self, work, mib):
        self.work, self.film, self.torrent = work, f"{work}/c", f"{work}/c/film.torrent"
        self.mib = mib
        self.hash = subprocess.run(LT + ["make", self.film, str(mib), os.environ.get("PIECE_KIB", "256")],
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True).stdout.strip()

    def fresh(self, name):
        path = f"{self.work}/{name}"
        shutil.rmtree(path, ignore_errors=True)
        os.makedirs(path)
        return path

    def down(self, who):
        rate = os.environ.get("RATE_KIB", "0")
        seeds = [Server(LT + ["seed", self.torrent, self.film, str(port(i)), rate]) for i in range(SEEDS)]
        peers = [f"127.0.0.1:{port(i)}" for i in range(SEEDS)]
        into = self.fresh("down")
        try:
            if who == "ours":
                flags = [f for p in peers for f in ("--peer", p)]
                return run([transfer(), "fetch", self.torrent, "--cache", into] + flags)
            return run(LT + ["fetch", self.torrent, into] + peers)
        finally:
            for s in seeds:
                s.end()
            shutil.rmtree(into, ignore_errors=True)

    def up(self, who):
        listen = f"127.0.0.1:{port(9)}"
        cache = self.fresh("up")
        if who == "ours":
            os.makedirs(f"{cache}/{self.hash}/files")
            # A link: nothing is copied.
            os.link(f"{self.film}/film.bin", f"{cache}/{self.hash}/files/film.bin")
            server = Server([transfer(), "seed", self.torrent, "--cache", cache, "--listen", listen])
        else:
            server = Server(LT + ["seed", self.torrent, self.film, str(port(9))])
        start = time.monotonic()
        intos = [self.fresh(f"leech{i}") for i in range(SEEDS)]
        try:
            leeches = [subprocess.Popen(LT + ["fetch", self.torrent, d, listen], stdout=subprocess.DEVNULL) for d in intos]
            for l in leeches:
                l.wait(900)
            wall = time.monotonic() - start
        finally:
            said = server.end()
            for d in intos + [cache]:
                shutil.rmtree(d, ignore_errors=True)
        said["mb_per_s"] = said["mb"] / wall
        return said


def compare(bench, way, runs):
    got = {"ours": [], "libtorrent": []}
    print(f"{way}: {SEEDS} {'seeds' if way == 'down' else 'downloads'}, {bench.mib} MiB, {runs} runs")
    print(f"{'':12}{'MB/CPU s':>10}{'CPU s':>8}{'MB':>8}{'MB/s':>8}{'RSS MB':>8}")
    for _ in range(runs):
        for who, rows in got.items():
            r = getattr(bench, way)(who)
            rows.append(r)
            print(f"{who:12}{r['mb_per_cpu_s']:10.0f}{r['cpu_s']:8.2f}{r['mb']:8.0f}{r['mb_per_s']:8.0f}{r['rss_peak_mb']:8.0f}",
                  flush=True)
    median = {who: statistics.median(r["mb_per_cpu_s"] for r in rows) for who, rows in got.items()}
    ratio = median["ours"] / median["libtorrent"]
    print(f"medians: ours {median['ours']:.0f}, libtorrent {median['libtorrent']:.0f} MB per CPU second:"
          f" ratio {ratio:.2f} (wanted {WANTED} or more)")
    return ratio >= WANTED


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in ("down", "up", "both"):
        sys.exit(__doc__)
    runs, mib = (int(a) for a in (sys.argv[2:] + ["3", "512"][len(sys.argv) - 2:])[:2])
    base = os.environ.get("WORK") or ("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())
    work = tempfile.mkdtemp(prefix="sluicegate-bench-", dir=base)
    try:
        bench = Bench(work, mib)
        ways = ["down", "up"] if sys.argv[1] == "both" else [sys.argv[1]]
        good = [compare(bench, way, runs) for way in ways]
    finally:
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
