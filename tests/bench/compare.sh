#!/bin/bash
# Runs our binary beside others on a bed: compare.sh [SCENE [ENGINES [TORRENT [RUNS [SECONDS]]]]]
# BENCH is the bed's folder, the one with scene.sh; SLUICEGATE the binary, by default the release build.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bed=${BENCH:-}
if [ -z "$bed" ] || [ ! -x "$bed/scene.sh" ]; then
    echo "Set BENCH to a bed's folder, one with a scene.sh in it; see $here/README.md." >&2
    exit 1
fi
export SLUICEGATE=${SLUICEGATE:-${CARGO_TARGET_DIR:-$here/../../target}/release/sluicegate}
if [ ! -x "$SLUICEGATE" ]; then
    echo "There is no $SLUICEGATE yet: cargo build --release makes it." >&2
    exit 1
fi
scene=${1:-ample} others=${2:-} torrent=${3:-p2p} runs=${4:-5}
out=$here/results/$(date +%Y%m%d-%H%M%S)-$scene.txt
mkdir -p "$here/results"
{
    echo "# $scene, $torrent, $runs runs, $(git -C "$here" describe --always --dirty), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
    "$bed/scene.sh" "$scene" "sluicegate${others:+,$others}" "$torrent" "$runs" ${5:+"$5"}
} 2>&1 | tee "$out"
echo "Kept in $out"
