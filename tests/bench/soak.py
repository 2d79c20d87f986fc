#!/usr/bin/env python3
"""Ten minutes of seeding and of play with seeks, over loopback: memory must not grow.

soak.py [SECONDS [MIB]]

One of our programs seeds, another plays a film of MIB (default 256) in SECONDS (default 600) from it and from a libtorrent
seed, jumping somewhere else every five seconds, and starts anew from an empty cache each minute: so all that a
stream allocates is allocated and given back many times in the seed, and a long chain of jumps runs in the player.
Each process's resident memory is sampled every five seconds. Fails when the last third's least is more than a
tenth and 8 MB above the first third's. Needs what throughput.py needs.
"""
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
spec = importlib.util.spec_from_file_location("throughput", os.path.join(HERE, "throughput.py"))
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)

SAMPLE_S = 5
GROWTH = 1.1
SLACK_KB = 8 << 10


def rss_kb(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(l.split()[1]) for l in f if l.startswith("VmRSS"))


def grows(samples):
    """Whether the least of the last third lies above that of the first; the first minute fills caches and is left out."""
    settled = samples[60 // SAMPLE_S:] if len(samples) > 180 // SAMPLE_S else samples
    third = max(1, len(settled) // 3)
    first, last = min(settled[:third]), min(settled[-third:])
    return first, last, last > first * GROWTH + SLACK_KB


def main():
    seconds, mib = (int(a) for a in (sys.argv[1:] + ["600", "256"][len(sys.argv) - 1:])[:2])
    base = os.environ.get("WORK") or ("/dev/shm" if os.path.isdir("/dev/shm") else tempfile.gettempdir())
    work = tempfile.mkdtemp(prefix="sluicegate-soak-", dir=base)
    b = bench.Bench(work, mib)
    ours, other = f"127.0.0.1:{bench.port(21)}", f"127.0.0.1:{bench.port(22)}"
    cache = b.fresh("seed")
    os.makedirs(f"{cache}/{b.hash}/files")
    os.link(f"{b.film}/film.bin", f"{cache}/{b.hash}/files/film.bin")
    seed = bench.Server([bench.transfer(), "seed", b.torrent, "--cache", cache, "--listen", ours])
    lt = bench.Server(bench.LT + ["seed", b.torrent, b.film, str(bench.port(22))])
    start = time.monotonic()
    seen = {"seed": [], "player": []}

    def player(into, for_s):
        return subprocess.Popen([bench.transfer(), "play", b.torrent, "--cache", b.fresh(into), "--peer", ours, "--peer", other,
                                 "--duration", str(seconds), "--for", str(for_s), "--seek-every", "5"],
                                stdout=subprocess.PIPE, text=True)

    long_one, short, shorts = player("long", seconds), None, 0
    try:
        while long_one.poll() is None:
            if short is None or short.poll() is not None:
                short, shorts = player("short", 50), shorts + 1
            time.sleep(SAMPLE_S)
            try:
                row = rss_kb(seed.p.pid), rss_kb(long_one.pid)
            except (StopIteration, FileNotFoundError):
                break
            for name, kb in zip(seen, row):
                seen[name].append(kb)
            print(f"{time.monotonic() - start:6.0f} s  seed {row[0] / 1024:6.1f}  player {row[1] / 1024:6.1f} MiB", flush=True)
        print("player:", json.loads(long_one.stdout.read()), f"beside {shorts} short ones")
    finally:
        for p in (long_one, short):
            if p and p.poll() is None:
                p.kill()
                p.wait()
        print("seed:", seed.end())
        lt.end()
        shutil.rmtree(work, ignore_errors=True)
    bad = False
    for name, samples in seen.items():
        first, last, grew = grows(samples)
        bad |= grew
        print(f"{name}: least {first / 1024:.1f} MiB early, {last / 1024:.1f} MiB late: {'GROWS' if grew else 'steady'}")
    sys.exit(1 if bad else 0)


main()
