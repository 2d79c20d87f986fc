"""A libtorrent session with one torrent, told what to do by one JSON argument; says how it stands, a line of JSON per change.

torrent | magnet   what to open           save     the folder of its content
listen             addresses with ports   connect  peers to dial
settings           of libtorrent itself, over those below; and "rate", the bytes per second it downloads at most
"""

import json
import sys
import time

import libtorrent as lt

job = json.loads(sys.argv[1])
settings = {
    "listen_interfaces": job["listen"],
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    # 0 requires encryption, 2 refuses it (enc_policy).
    "in_enc_policy": 2,
    "out_enc_policy": 2,
    "allow_multiple_connections_per_ip": True,
    "min_reconnect_time": 1,
    "unchoke_interval": 1,
    "alert_mask": lt.alert.category_t.error_notification
    | lt.alert.category_t.status_notification
    | lt.alert.category_t.connect_notification
    | lt.alert.category_t.peer_notification,
}
settings.update(job["settings"])
rate = settings.pop("rate", 0)
session = lt.session(settings)
if "torrent" in job:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(job["torrent"])
else:
    params = lt.parse_magnet_uri(job["magnet"])
params.save_path = job["save"]
# Neither paused nor managed: what waits in a queue does not answer.
params.flags &= ~(lt.torrent_flags.paused | lt.torrent_flags.auto_managed)
for flag in job.get("without", []):
    params.flags |= getattr(lt.torrent_flags, flag)
handle = session.add_torrent(params)
# The torrent's own limit: those of the session leave out peers of the local network.
handle.set_download_limit(rate)
SOURCES = ["tracker", "dht", "pex", "lsd", "resume", "incoming"]
dialled = {}
before = None
while True:
    for alert in session.pop_alerts():
        print("#", alert.what(), alert.message(), flush=True)
    status = handle.status()
    linked = handle.get_peer_info()
    for host, port in job.get("connect", []):
        # Dialled again after a loss, as a client does that was told of the peer again.
        if time.monotonic() - dialled.get((host, port), -9) > 1 and not any(p.ip == (host, port) for p in linked):
            dialled[host, port] = time.monotonic()
            handle.connect_peer((host, port))
    peers = [
        {
            "addr": "%s:%d" % p.ip,
            "client": p.client.decode(errors="replace") if isinstance(p.client, bytes) else p.client,
            # peer_info.hpp: the module names only some of the flags.
            "dialled": bool(p.flags & 1 << 5),
            "shaken": not p.flags & (1 << 6 | 1 << 7),
            "utp": bool(p.flags & 1 << 17),
            "rc4": bool(p.flags & 1 << 19),
            "from": [name for bit, name in enumerate(SOURCES) if p.source & 1 << bit],
            "down": p.total_download,
            "up": p.total_upload,
        }
        for p in linked
    ]
    now = {
        "seeding": status.is_seeding,
        "state": str(status.state),
        "port": session.listen_port(),
        "dht": session.is_dht_running(),
        "done": status.total_done,
        "error": str(status.errc) if status.errc.value() else None,
        "peers": peers,
    }
    if now != before:
        print(json.dumps(now), flush=True)
        before = now
    time.sleep(0.02)
