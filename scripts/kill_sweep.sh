#!/bin/sh
# Kills the workers of a sweep of 20 runs at random moments, N times, and checks what is left: every run done once, the
# bits of an undisturbed sweep, nothing else but records of late results. `kill_sweep.sh N MODE`; MODE is
#   locks        the file system as it is (default)
#   no-locks     flock fails with ENOLCK, as on some NFS
#   slow-rename  a rename takes 80 ms
# The shaders' cache and the adapter are those of the tests. 200 kills take about ten minutes on two cores.
set -eu
cd "$(dirname "$0")/.."
case "${2:-locks}" in
locks | no-locks | slow-rename) ;;
*)
    echo "kill_sweep: $2 is no mode; write locks, no-locks or slow-rename" >&2
    exit 2
    ;;
esac
LOWLAND_TEST_KILLS="${1:-200}" LOWLAND_TEST_KILL_MODE="${2:-locks}" \
    cargo test --release --locked --test commands workers::killed -- --nocapture
