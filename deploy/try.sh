#!/usr/bin/env bash
# Starts compose.yaml, deploys one pretend node through it with a client outside the stack, takes it back, and
# removes what it made (KEEP=1 leaves it). DOCKER_HOST chooses the daemon. FARRIER is the client to use.
set -euo pipefail
cd "$(dirname "$0")"

project=${PROJECT:-farrier-try}
farrier=${FARRIER:-../target/x86_64-unknown-linux-gnu/release/farrier}
sim=${FARRIER_SIM:-$(dirname "$farrier")/farrier-sim}
work=$(mktemp -d)

compose() { docker-compose --project-name "$project" --file compose.yaml "$@"; }

finish() {
    status=$?
    if [ "$status" -ne 0 ]; then
        compose ps || true
        compose logs --tail 40 --no-color || true
    fi
    if [ -z "${KEEP:-}" ]; then
        compose down --volumes --timeout 15 >/dev/null 2>&1 || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

if ! docker image inspect farrier:local >/dev/null 2>&1; then
    echo "expected the image farrier:local, saw none: run deploy/build-images.sh first" >&2
    exit 1
fi
compose up --detach

# The administrator's identity, out of its volume.
holder=$(docker create --volume "${project}_id-admin:/id:ro" farrier:local /bin/farrier)
docker cp "$holder:/id" "$work/admin"
docker rm "$holder" >/dev/null

run() {
    echo "+ farrier $*" >&2
    "$farrier" --config "$work/config.toml" --yes "$@"
}
"$farrier" --config "$work/config.toml" context set try --identity "$work/admin" \
    --inventory https://127.0.0.1:7001 --scheduler https://127.0.0.1:7002 --images https://127.0.0.1:7003

for port in 7001 7002 7003 7400; do
    for try in $(seq 60); do
        if run health "https://127.0.0.1:$port" 2>"$work/why"; then break; fi
        if [ "$try" -eq 60 ]; then cat "$work/why" >&2; exit 1; fi
        sleep 1
    done
done

run site create s1
run rack create r1 --site s1 --address https://rackd:7400
echo pretend | run node create n0 --rack r1 --bmc-driver ipmi --bmc-address 127.0.0.1:6230 --bmc-user admin \
    --bmc-password-file - --boot-mode bios
run port create 02:fa:00:00:00:00 --node n0
for verb in manage inspect provide; do
    run node "$verb" n0 --wait
done

"$sim" pretend-image "$work/image.raw"
run image import os --file "$work/image.raw" --format raw --sha256 "$(sha256sum "$work/image.raw" | cut -d' ' -f1)"
run flavor create any
run instance create web --flavor any --image os --wait
run node get n0 -o json | grep -q '"state": "active"' || { run node get n0 -o json; exit 1; }

# What was accepted survives a restart of every service, and the machines' plugs pulled.
compose restart --timeout 15 inventory scheduler images rackd machines
for port in 7001 7002 7003 7400; do
    for try in $(seq 60); do
        if run health "https://127.0.0.1:$port" 2>/dev/null; then break; fi
        [ "$try" -lt 60 ] || exit 1
        sleep 1
    done
done
run instance get web
run instance delete web --wait
echo "one pretend node was deployed through the containers and taken back"
