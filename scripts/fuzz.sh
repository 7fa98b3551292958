#!/bin/sh
# Fuzzes every reader for some seconds (60, or the first argument) and prints executions and coverage of each. Needs
# nightly Rust and cargo-fuzz (`cargo install cargo-fuzz`). What is found lies in fuzz/artifacts.
set -eu
cd "$(dirname "$0")/.."
seconds=${1:-60}
cargo +nightly fuzz build
log=$(mktemp)
trap 'rm -f "$log"' EXIT
total=0
for target in $(cargo +nightly fuzz list); do
    mkdir -p "fuzz/corpus/$target"
    if ! cargo +nightly fuzz run "$target" "fuzz/corpus/$target" "tests/fixtures/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -malloc_limit_mb=600 -rss_limit_mb=3000 -timeout=20 \
        -print_final_stats=1 >"$log" 2>&1; then
        tail -n 40 "$log"
        exit 1
    fi
    count=$(awk '/number_of_executed_units/ { print $2 }' "$log")
    edges=$(grep -o 'cov: [0-9]*' "$log" | tail -n 1)
    total=$((total + count))
    echo "$target: $count executions, $edges"
done
echo "$total executions"
