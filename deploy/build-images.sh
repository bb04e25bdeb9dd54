#!/usr/bin/env bash
# Builds the image `farrier:local` from static release binaries. No registry is asked for anything.
#
#   deploy/build-images.sh            # cargo build --release, then docker build
#   FARRIER_BIN_DIR=DIR deploy/build-images.sh    # take the programs from DIR
#
# DOCKER_HOST chooses the daemon, as everywhere.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=(farrier farrier-inventory farrier-scheduler farrier-images rackd farrier-sim)
dir=${FARRIER_BIN_DIR:-}
if [ -z "$dir" ]; then
    cargo build --release --bins --package farrier-cli --package farrier-inventory --package farrier-scheduler \
        --package farrier-images --package farrier-rackd --package farrier-sim
    dir=${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/release
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir "$context/bin"
for program in "${programs[@]}"; do
    if ! ldd "$dir/$program" 2>&1 | grep -qE 'statically linked|not a dynamic executable'; then
        echo "$dir/$program is not static: it cannot run in an empty image" >&2
        exit 1
    fi
    install -s "$dir/$program" "$context/bin/$program"
done
cp deploy/Dockerfile "$context/"
docker build --quiet --tag farrier:local "$context"
