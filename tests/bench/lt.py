#!/usr/bin/env python3
"""libtorrent beside ours, and what both need.

lt.py make DIR MIB [PIECE_KIB]          DIR/film.bin of noise and DIR/film.torrent
lt.py seed TORRENT DIR PORT [KIB_PER_S] seeds until standard input ends, then says what that took
lt.py fetch TORRENT DIR ADDR:PORT...    downloads all of it, then says what that took

The last two end with one line of JSON like `transfer`'s.
"""
import json
import os
import resource
import sys
import time

import libtorrent as lt

# Plain TCP, no discovery, no encryption, no limits: on both sides of each comparison.
SETTINGS = {
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False, "allow_multiple_connections_per_ip": True,
    "in_enc_policy": 2, "out_enc_policy": 2, "unchoke_slots_limit": 20, "alert_mask": 0, "connections_slack": 0,
}


def session(listen, **more):
    return lt.session({**SETTINGS, "listen_interfaces": listen, **more})


def add(s, torrent, folder, seeding):
    p = lt.add_torrent_params()
    p.ti, p.save_path = lt.torrent_info(torrent), folder
    p.flags &= ~(lt.torrent_flags.auto_managed | lt.torrent_flags.paused)
    if seeding:
        p.flags |= lt.torrent_flags.seed_mode
    return s.add_torrent(p)


def used():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime, u.ru_maxrss * 1024


def say(start, cpu, mb, rss, **more):
    wall = time.monotonic() - start
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "mb": mb, "mb_per_cpu_s": mb / max(cpu, 1e-9),
                      "mb_per_s": mb / wall, "rss_peak_mb": rss / 1e6, **more}), flush=True)


def make(folder, mib, piece_kib="256"):
    os.makedirs(folder, exist_ok=True)
    film = os.path.join(folder, "film.bin")
    with open(film, "wb") as f:
        for _ in range(int(mib)):
            f.write(os.urandom(1 << 20))
    files = lt.file_storage()
    lt.add_files(files, film)
    t = lt.create_torrent(files, int(piece_kib) * 1024, lt.create_torrent.v1_only)
    lt.set_piece_hashes(t, folder)
    with open(os.path.join(folder, "film.torrent"), "wb") as f:
        f.write(lt.bencode(t.generate()))
    print(lt.torrent_info(os.path.join(folder, "film.torrent")).info_hash())


def seed(torrent, folder, port, kib_per_s="0"):
    s = session(f"127.0.0.1:{port}", upload_rate_limit=int(kib_per_s) << 10)
    # All peers in the class that the limit is for; local ones are in another otherwise.
    everybody = lt.ip_filter()
    everybody.add_rule("0.0.0.0", "255.255.255.255", 1 << lt.session.global_peer_class_id)
    s.set_peer_class_filter(everybody)
    h = add(s, torrent, folder, True)
    while h.status().state != lt.torrent_status.seeding:
        time.sleep(0.05)
    before, start = used()[0], time.monotonic()
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    cpu, rss = used()
    say(start, cpu - before, h.status().total_payload_upload / 1e6, rss)


def fetch(torrent, folder, *peers):
    # Without what loading Python and the library took.
    before, start = used()[0], time.monotonic()
    s = session("127.0.0.1:0")
    h = add(s, torrent, folder, False)
    for p in peers:
        ip, port = p.rsplit(":", 1)
        h.connect_peer((ip, int(port)))
    while not h.status().is_seeding:
        time.sleep(0.05)
    end_cpu, rss = used()
    say(start, end_cpu - before, h.status().total_payload_download / 1e6, rss)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in ("make", "seed", "fetch"):
        sys.exit(__doc__)
    {"make": make, "seed": seed, "fetch": fetch}[sys.argv[1]](*sys.argv[2:])
