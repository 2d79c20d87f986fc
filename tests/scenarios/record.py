#!/usr/bin/env python3
"""Makes recorded arrivals of a log of the stream's events.

    SLUICEGATE_LOG=sluicegate::stream=trace sluicegate play --headless … 2> play.log
    ./record.py play.log [PLAY [SECONDS]] > arrivals.csv

PLAY is which play of several in one log (1 is the first), SECONDS how much of it is kept. What the columns mean says README.md.
"""
import re
import sys

LINE = re.compile(r'\bat=([\d.e+-]+) (event|action)=(\w+)(.*)')
LINK = re.compile(r'LinkId\((\d+)\)')
BLOCK = re.compile(r'piece: PieceIndex\((\d+)\), block: (\d+)')
RTT = re.compile(r'rtt: Some\(([\d.]+)(ns|µs|ms|s)\)')
TO_MS = {'ns': 1e-6, 'µs': 1e-3, 'ms': 1.0, 's': 1e3}
KINDS = {('event', 'LinkUp'): 'up', ('event', 'LinkDown'): 'down', ('event', 'Choked'): 'choke', ('event', 'Unchoked'): 'unchoke',
         ('event', 'BlockArrived'): 'block', ('event', 'BlockDuplicate'): 'again', ('event', 'BlockRejected'): 'reject',
         ('action', 'Request'): 'ask', ('action', 'Cancel'): 'cancel', ('action', 'Ban'): 'down'}


def plays(lines):
    """Each play's records; a clock that goes back begins another."""
    rows, last = [], 0.0
    for line in lines:
        m = LINE.search(re.sub(r'\x1b\[\d*m', '', line))
        if not m:
            continue
        at, side, name, rest = float(m[1]), m[2], m[3], m[4]
        if at < last - 1.0:
            yield rows
            rows = []
        last = at
        kind, link = KINDS.get((side, name)), LINK.search(rest)
        if not kind or not link:
            continue
        what = ''
        if block := BLOCK.search(rest):
            what = f'{block[1]}:{block[2]}'
        elif rtt := RTT.search(rest):
            what = f'{float(rtt[1]) * TO_MS[rtt[2]]:.1f}'
        rows.append((at, kind, int(link[1]), what))
    yield rows


def main():
    which = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    seconds = float(sys.argv[3]) if len(sys.argv) > 3 else float('inf')
    rows = list(plays(open(sys.argv[1], errors='replace')))[which - 1]
    # In the order in which the engine was told and said it; a line's time may be a little before the one above it.
    now = 0.0
    print('ms,what,link,block')
    for at, kind, link, what in rows:
        now = max(now, at)
        if now > seconds:
            break
        print(f'{now * 1e3:.1f},{kind},{link},{what}')


main()
