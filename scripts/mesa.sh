#!/bin/sh
# Models, a training step and the self-test (every kernel and variant, and the timings) on newer Mesas than this
# machine's: Debian's trixie and its newest packages (sid), each in a folder that debootstrap makes, at 8 lanes; where
# the processor has AVX-512, the training step at 16 too, where these drivers are slow. Needs root, debootstrap and, the
# first time, the network; says so and ends with 0 where it cannot. `mesa.sh full` runs all of it at 16 lanes as well,
# and the kernels without images; `mesa.sh make` only makes the folders. They are kept in ~/.cache/lowland-mesa (0.5 GB
# each) and made anew after 30 days. LOWLAND_MESA chooses the suites (`trixie sid`), LOWLAND_MIRROR another mirror of
# Debian than debootstrap's own.
set -eu
cd "$(dirname "$0")/.."

suites=${LOWLAND_MESA:-trixie sid}
mirror=${LOWLAND_MIRROR:-}
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/lowland-mesa

skip() {
    echo "skipped: newer Mesas: $*"
    exit 0
}
[ "$(uname -s)" = Linux ] || skip "only on Linux"
[ "$(id -u)" = 0 ] || skip "their folders are made and entered by root"
PATH=$PATH:/usr/sbin:/sbin
command -v debootstrap >/dev/null 2>&1 || skip "no debootstrap on this machine (Debian and Ubuntu have the package)"

# The folder of a suite, made where it is missing or old. An old one stays where no new one can be had.
make_root() {
    root=$cache/$1
    if [ -e "$root/made" ] && [ -z "$(find "$root/made" -mtime +30)" ]; then
        return 0
    fi
    echo "making $root from Debian's packages"
    mkdir -p "$cache"
    rm -rf "$root.new"
    if debootstrap --variant=minbase --include=libvulkan1,mesa-vulkan-drivers "$1" "$root.new" $mirror >"$cache/$1.log" 2>&1; then
        rm -rf "$root" "$root.new/var/cache/apt/archives"
        : >"$root.new/made"
        mv "$root.new" "$root"
    elif [ -e "$root/made" ]; then
        echo "   a newer one cannot be had, see $cache/$1.log"
    else
        echo "skipped: Mesa of Debian $1: debootstrap failed, see $cache/$1.log:"
        tail -n 3 "$cache/$1.log" | sed 's/^/   /'
        rm -rf "$root.new"
        return 1
    fi
}

# The program of a test, as cargo names it.
test_program() {
    cargo test --release --locked --no-run "$@" 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p' | grep . || {
        echo "mesa.sh: cargo test $* made no program" >&2
        exit 1
    }
}

# `inside WIDTH PROGRAM ARGUMENTS...` runs in the folder with nothing but these variables.
inside() {
    width=$1
    shift
    mkdir -p "$root/var/cache/mesa-$width"
    chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin HOME=/tmp NODEVICE_SELECT=1 LOWLAND_ADAPTER=software \
        LOWLAND_CHECKS=0 LP_NATIVE_VECTOR_WIDTH="$width" MESA_SHADER_CACHE_DIR="/var/cache/mesa-$width" "$@"
}

# Runs one check; its output is shown when it fails.
check() {
    what=$1
    shift
    start=$(date +%s)
    if ! inside "$@" >"$cache/out" 2>&1; then
        echo "FAILED: $what, Mesa of Debian $suite, $width-bit vectors; the end of its output:" >&2
        tail -n 30 "$cache/out" >&2
        exit 1
    fi
    echo "   $what: right ($(($(date +%s) - start)) s)"
}

widths=256
! grep -q avx512vl /proc/cpuinfo || widths="256 512"

how=${1:-quick}
if [ "$how" != make ]; then
    cargo build --release --locked --bins
    unit=$(test_program --lib)
    kernels=$(test_program --test kernels)
    models=$(test_program --test model)
fi
for suite in $suites; do
    make_root "$suite" || continue
    [ "$how" != make ] || continue
    # The programs, and what they read, where they look for it.
    mkdir -p "$root/lowland" "$root$PWD/tests"
    rm -rf "$root$PWD/tests/fixtures" "$root/lowland/run"
    cp -r tests/fixtures "$root$PWD/tests/"
    cp target/release/lowland configs/quickstart.toml "$root/lowland/"
    cp "$unit" "$root/lowland/unit"
    cp "$kernels" "$root/lowland/kernels"
    cp "$models" "$root/lowland/models"
    if ! adapter=$(inside 256 /lowland/lowland doctor 2>&1); then
        echo "FAILED: lowland doctor with the Mesa of Debian $suite:" >&2
        echo "$adapter" | head -20 >&2
        exit 1
    fi
    echo "Debian $suite:$(echo "$adapter" | grep -m1 'index:0')"
    check "memory" 256 /lowland/unit gpu::
    [ "$how" != full ] || check "kernels, without images" 256 LOWLAND_IMAGES=0 /lowland/kernels kernels::
    for width in $widths; do
        rm -rf "$root/lowland/run"
        # At 16 lanes these drivers take minutes for each of the others.
        whole=yes
        [ "$width" = 256 ] || [ "$how" = full ] || whole=no
        [ $whole = no ] || check "models, $width bits" "$width" /lowland/models transformers::
        check "training, $width bits" "$width" /lowland/lowland train /lowland/quickstart.toml output=/lowland/run \
            train.steps=3 train.batch_size=32 evaluate.sentences=64 measure.every=0 measure.trace.sentences=32 \
            measure.top.sentences=32 measure.top.products=4 measure.noise.sentences=32 \
            measure.hessian_trace.sentences=32 measure.hessian_trace.probes=2
        [ $whole = yes ] || continue
        check "kernels and timings, $width bits" "$width" /lowland/lowland selftest
        grep '^\*.*GFLOP/s' "$cache/out" | sed 's/^\*/     /'
    done
done
