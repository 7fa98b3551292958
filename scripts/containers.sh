#!/bin/sh
# Builds the containers with what is there of podman, docker and apptainer, and asks each for its version. Ends with 77
# where there is none of them.
set -eu
cd "$(dirname "$0")/.."
built=""
for tool in podman docker; do
    "$tool" info >/dev/null 2>&1 || continue
    "$tool" build -q -t lowland-test -f containers/Containerfile .
    "$tool" run --rm lowland-test --version
    built="$built $tool"
    break
done
if command -v apptainer >/dev/null 2>&1; then
    image=$(mktemp -d)
    trap 'rm -rf "$image"' EXIT
    apptainer build "$image/lowland.sif" containers/lowland.def
    apptainer run "$image/lowland.sif" --version
    built="$built apptainer"
fi
[ -n "$built" ] || {
    echo "skipped: neither podman, docker nor apptainer works on this machine"
    exit 77
}
echo "built with:$built"
