#!/bin/sh
# Every check of the project, in the order of how soon it fails. `make test` installs what it needs and calls it.
set -eu
# Mesa's device-selection layer prints to standard error where it finds no display.
export NODEVICE_SELECT=1

say() { printf '\n== %s\n' "$*"; }

began=$(date +%s)
left_out=0
# A check on another driver begins only within LOWLAND_TEST_SECONDS, where that is set: slow machines leave some out, and
# say which.
begin() {
    if [ "$(($(date +%s) - began))" -lt "${LOWLAND_TEST_SECONDS:-1000000}" ]; then
        say "$1"
    else
        say "left out, since $LOWLAND_TEST_SECONDS s are over: $1"
        left_out=$((left_out + 1))
        return 1
    fi
}

say "formatting"
cargo fmt --check

say "clippy"
cargo clippy --release --locked --all-targets -- -D warnings

say "the library without the program"
cargo clippy --release --locked --lib --no-default-features -- -D warnings
cargo clippy --release --locked --lib --no-default-features --features report -- -D warnings
if cargo tree --locked --no-default-features -e normal --prefix none |
    grep -E '^(clap|clap_complete|clap_mangen|ctrlc|indicatif|tiny-skia|ttf-parser) '; then
    echo "the library draws in crates of the program" >&2
    exit 1
fi

say "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps

say "build"
cargo build --release --locked --bins --tests

case "$(uname -s)" in
Linux) export LOWLAND_ADAPTER="${LOWLAND_ADAPTER:-software}" ;;
esac

say "the adapter"
target/release/lowland doctor

say "tests, bounds checks off"
LOWLAND_CHECKS=0 cargo test --release --locked

if command -v python3 >/dev/null; then
    say "the page of results, from the tables that are kept"
    for table in docs/tables/*; do target/release/lowland report "$table" >/dev/null; done
    python3 scripts/results.py --page docs/results.md docs/tables --check
fi

if [ "$(uname -s)" = Linux ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT

    if begin "kernels and models with bounds checks, and without storage images"; then
        LOWLAND_CHECKS=1 cargo test --release --locked --test kernels --test model -- kernels:: transformers::
        LOWLAND_IMAGES=0 cargo test --release --locked --test kernels kernels::
    fi

    # Subgroups of 4, 8 and 16 lanes, of which the tests above had those that the processor has; each width compiles its
    # own shaders, so each has its own cache.
    widths="128 256"
    grep -q avx512vl /proc/cpuinfo || widths="128 512"
    for width in $widths; do
        begin "lavapipe with $width-bit vectors" || continue
        mkdir -p "$work/cache-$width"
        LP_NATIVE_VECTOR_WIDTH=$width MESA_SHADER_CACHE_DIR="$work/cache-$width" \
            cargo test --release --locked --test kernels kernels::
    done

    # What the driver forgives, the layer does not: kernels, memory's lifetimes, a training step.
    if begin "kernels, memory and training under Vulkan's validation layer"; then
        mkdir -p "$work/cache-256"
        export LP_NATIVE_VECTOR_WIDTH=256 MESA_SHADER_CACHE_DIR="$work/cache-256"
        validated() { sh scripts/validate.sh "$@" || [ $? = 77 ]; }
        validated cargo test --release --locked --test kernels kernels::
        validated cargo test --release --locked --lib gpu::
        validated target/release/lowland train configs/quickstart.toml output="$work/validated" train.steps=3 \
            train.batch_size=32 evaluate.sentences=64 measure.every=0 measure.trace.sentences=32 \
            measure.top.sentences=32 measure.top.products=4 measure.noise.sentences=32 \
            measure.hessian_trace.sentences=32 measure.hessian_trace.probes=2
        unset LP_NATIVE_VECTOR_WIDTH MESA_SHADER_CACHE_DIR
    fi

    if begin "newer Mesas"; then
        sh scripts/mesa.sh
    fi

    swiftshader=/usr/lib/chromium/libvk_swiftshader.so
    if [ ! -e $swiftshader ]; then
        say "skipped: no SwiftShader on this machine (Debian's chromium-common has it)"
    elif begin "kernels on SwiftShader"; then
        printf '{"file_format_version":"1.0.0","ICD":{"library_path":"%s","api_version":"1.1.0"}}\n' $swiftshader \
            >"$work/swiftshader.json"
        VK_DRIVER_FILES="$work/swiftshader.json" VK_ICD_FILENAMES="$work/swiftshader.json" \
            LOWLAND_ADAPTER=name:swiftshader cargo test --release --locked --test kernels kernels::
    fi

    if ! WGPU_BACKEND=gl LOWLAND_ADAPTER=best target/release/lowland doctor >"$work/gl.txt" 2>&1; then
        say "skipped: no OpenGL adapter on this machine"
        sed 's/^/   /' "$work/gl.txt"
    elif begin "kernels on OpenGL"; then
        WGPU_BACKEND=gl LOWLAND_ADAPTER=best cargo test --release --locked --test kernels kernels::
    fi

    # 77: skipped, and the script has said why. 124: this machine's queue took too long.
    if begin "a sweep through Slurm"; then
        code=0
        timeout 1500 sh scripts/slurm_sweep.sh || code=$?
        case $code in
        0 | 77) ;;
        124) say "the sweep through Slurm was ended after 25 minutes" && left_out=$((left_out + 1)) ;;
        *) exit $code ;;
        esac
    fi

    say "the demo"
    target/release/lowland demo --output "$work/demo"
    test -s "$work/demo/report.html"
fi

if [ "$left_out" = 0 ]; then
    say "all checks passed"
else
    say "all checks that were made passed; $left_out were left out"
fi
