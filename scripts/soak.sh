#!/bin/sh
# Trains with curvature along the way for an hour (or the first argument, in seconds) and watches the process's memory and
# the folder's files: neither may grow after the first sixth of the time, but for the lines of metrics.
# `soak.sh [SECONDS [PROGRAM]]`
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-3600}
program=$(readlink -f "${2:-target/release/lowland}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$program" train configs/quickstart.toml output="$work/run" train.steps=100000000 train.batch_size=64 \
    train.checkpoint_every=50 measure.every=100 measure.trace.sentences=128 measure.top.sentences=64 \
    measure.top.products=10 measure.noise.sentences=64 measure.hessian_trace.sentences=64 \
    measure.hessian_trace.probes=4 evaluate.sentences=200 >/dev/null 2>"$work/said.txt" &
process=$!
begun=$(date +%s)
while now=$(($(date +%s) - begun)) && [ $now -lt "$seconds" ]; do
    sleep 5
    memory=$(awk '/VmRSS/ { print $2 }' /proc/$process/status 2>/dev/null) || true
    [ -n "$memory" ] || { tail -n 5 "$work/said.txt"; echo "the training ended after $now s"; exit 1; }
    # What is being written has another name for a moment; checkpoints come and go.
    files=$(find "$work/run" -type f ! -path '*/checkpoints/*' 2>/dev/null | wc -l)
    kept=$(find "$work/run/checkpoints" -maxdepth 1 -name 'step-*' ! -name '*.*' 2>/dev/null | wc -l)
    maps=$(wc -l </proc/$process/maps)
    handles=$(find /proc/$process/fd 2>/dev/null | wc -l)
    echo "$now $memory $files $kept $maps $handles" >>"$work/seen.txt"
done
kill -TERM $process
code=0
wait $process || code=$?
steps=$(grep -o '"step":[0-9]*' "$work/run/metrics.jsonl" | tail -n 1 | cut -d: -f2)
measured=$(grep -c fisher_trace "$work/run/metrics.jsonl" || true)
awk -v seconds="$seconds" -v steps="$steps" -v measured="$measured" -v code=$code '
    {
        sixth = int(6 * $1 / (seconds + 1)) + 1
        for (i = 2; i <= 6; i++) if ($i > most[i, sixth]) most[i, sixth] = $i
        if ($2 < least[sixth] || !least[sixth]) least[sixth] = $2
    }
    END {
        printf "%d s, %d steps, %d measurements, exit %d; the least MiB and the most of each in every sixth:\n", \
            seconds, steps, measured, code
        for (k = 1; k <= 6; k++) printf "%9.1f", least[k] / 1024
        print "  MiB, least"
        split("x MiB files checkpoints mappings handles", name, " ")
        for (i = 2; i <= 6; i++) {
            for (k = 1; k <= 6; k++) printf "%9.1f", most[i, k] / (i == 2 ? 1024 : 1)
            # Three per cent of memory, mappings and handles; one file that is being written.
            room = i == 3 || i == 4 ? 1 : 0.03 * most[i, 2] + 2
            grew = most[i, 6] > most[i, 2] + room
            print "  " name[i] (grew ? ": it grew" : "")
            bad = bad || grew
        }
        exit bad || code != 75 || measured < 2
    }' "$work/seen.txt"
