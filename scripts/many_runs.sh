#!/bin/sh
# Seconds and memory of plan, status, collect and report over a sweep of 2,000 planned runs of which a few are done; each
# must stay below 10 s and 500 MB. `many_runs.sh [PROGRAM]`
set -eu
program=$(readlink -f "${1:-target/release/lowland}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
cat >base.toml <<C
[language]
random = { levels = 2, symbols = 3, rules = 2, vocabulary = 12, seed = 1 }
max_length = 4
[model]
hidden_size = 8
num_hidden_layers = 1
num_attention_heads = 1
intermediate_size = 16
[train]
steps = 5
batch_size = 8
evaluate_every = 0
[evaluate]
sentences = 20
C
cat >many.toml <<C
base = "base.toml"
output = "many"
[grid]
seed = { from = 1, count = 500 }
"train.batch_size" = [8, 16, 24, 32]
[examine]
sentences = 20
[examine.measure]
trace = { sentences = 8 }
C
for number in 1 2 3; do
    "$program" sweep run many.toml --index $number >/dev/null 2>&1
done
bad=0
measured() {
    begun=$(date +%s%N)
    "$program" "$@" >/dev/null 2>err.txt &
    process=$!
    most=0
    while kill -0 $process 2>/dev/null; do
        now=$(awk '/VmHWM/ { print $2 }' /proc/$process/status 2>/dev/null || true)
        [ "${now:-0}" -le $most ] || most=$now
        sleep 0.02
    done
    wait $process || { cat err.txt; exit 1; }
    ms=$((($(date +%s%N) - begun) / 1000000))
    echo "$*: $ms ms, $((most / 1024)) MB"
    [ $ms -lt 10000 ] && [ $most -lt 500000 ] || bad=1
}
measured sweep plan many.toml
measured sweep status many.toml
measured sweep collect many.toml
measured report many
exit $bad
