#!/bin/sh
# Installs what is missing on Debian and Ubuntu, and says so before it does. `setup.sh` for a Vulkan adapter alone,
# `setup.sh test` also for the tools of the test suite. On macOS and Windows there is nothing to install.
set -eu

case "$(uname -s)" in
Linux) ;;
*) exit 0 ;;
esac

if ! command -v cargo >/dev/null 2>&1; then
    echo "setup: no Rust toolchain; install one from https://rustup.rs (1.89 or newer), then run this again" >&2
    exit 1
fi

# A Vulkan loader and at least one driver's manifest.
have_vulkan() {
    (ldconfig -p 2>/dev/null || /sbin/ldconfig -p) | grep -q 'libvulkan\.so\.1' || return 1
    ls /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json >/dev/null 2>&1 ||
        [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ]
}

wanted=""
have_vulkan || wanted="libvulkan1 mesa-vulkan-drivers"
command -v cc >/dev/null 2>&1 || wanted="$wanted gcc libc6-dev"
if [ "${1:-}" = test ]; then
    # The suite runs on the software driver whatever other adapter there is.
    ls /usr/share/vulkan/icd.d/lvp_icd*.json >/dev/null 2>&1 || wanted="libvulkan1 mesa-vulkan-drivers $wanted"
    command -v spirv-val >/dev/null 2>&1 || wanted="$wanted spirv-tools"
    command -v glslangValidator >/dev/null 2>&1 || wanted="$wanted glslang-tools"
    (ldconfig -p 2>/dev/null || /sbin/ldconfig -p) | grep -q 'libEGL\.so\.1' || wanted="$wanted libegl1 libgl1-mesa-dri libgles2"
    # What the suite does without, with a message.
    [ -e /usr/lib/chromium/libvk_swiftshader.so ] || optional="chromium-common"
    [ -e /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json ] || optional="${optional:-} vulkan-validationlayers"
    [ -x /usr/sbin/debootstrap ] || optional="${optional:-} debootstrap"
    for package in munge slurmctld slurmd slurm-client; do
        dpkg -s $package >/dev/null 2>&1 || optional="${optional:-} $package"
    done
fi

install() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "setup: this is neither Debian nor Ubuntu; install the equivalents of: $*" >&2
        return 1
    fi
    root=""
    [ "$(id -u)" = 0 ] || root="sudo"
    DEBIAN_FRONTEND=noninteractive $root apt-get install -y --no-install-recommends "$@" >/dev/null
}

refresh() {
    root=""
    [ "$(id -u)" = 0 ] || root="sudo"
    $root apt-get update >/dev/null
}

if [ -n "$wanted" ]; then
    echo "setup: installing with apt-get:$(printf ' %s' $wanted)"
    refresh
    # shellcheck disable=SC2086
    install $wanted
fi
if [ -n "${optional:-}" ]; then
    [ -n "$wanted" ] || refresh
    for package in $optional; do
        case $package in
        chromium-common) for="the kernels on SwiftShader" ;;
        vulkan-validationlayers) for="the kernels under Vulkan's validation layer" ;;
        debootstrap) for="the kernels on newer Mesas" ;;
        munge | slurm*) for="a sweep through Slurm" ;;
        esac
        echo "setup: installing with apt-get, for $for: $package"
        install "$package" || echo "setup: $package is not to be had here; the suite goes without $for"
    done
fi
