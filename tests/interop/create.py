"""Makes a torrent with libtorrent; prints its v1 info hash."""

import json
import os
import sys
import time

import libtorrent as lt

job = json.loads(sys.argv[1])
files = lt.file_storage()
lt.add_files(files, job["content"])
flags = lt.create_torrent.canonical_files | (0 if job["hybrid"] else lt.create_torrent.v1_only)
create = lt.create_torrent(files, job["piece"], flags)
lt.set_piece_hashes(create, os.path.dirname(job["content"]))
made = create.generate()
# An info hash of its own.
made[b"info"][b"source"] = b"%d-%d" % (os.getpid(), time.time_ns())
with open(job["into"], "wb") as out:
    out.write(lt.bencode(made))
print(lt.torrent_info(job["into"]).info_hashes().v1)
