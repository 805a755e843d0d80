#!/usr/bin/env bash
# Builds the image of deploy/Dockerfile and fetches /healthz through a published
# port, once with io_uring and once without. Needs root and Debian's docker.io.
#
# It starts a Docker of its own in its own network, mount and process
# namespaces, so that nothing outlives it and no other Docker is touched.
#
#   make static && deploy/try-docker.sh [directory of the static binary]
set -euo pipefail
cd "$(dirname "$0")/.."
binary=${1:-${CARGO_TARGET_DIR:-target}/$(uname -m)-unknown-linux-gnu/release}
[[ -x $binary/millrace ]] || { echo "no $binary/millrace: make static" >&2; exit 2; }
for tool in dockerd docker curl jq unshare; do
    command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install docker.io curl jq" >&2; exit 2; }
done

if [[ ${MILLRACE_TRY_DOCKER_WORK:-} == "" ]]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    MILLRACE_TRY_DOCKER_WORK=$work unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$binary"
    exit
fi

work=$MILLRACE_TRY_DOCKER_WORK
ip link set lo up
# Docker takes the control groups that are mounted, or mounts its own.
export DOCKER_HOST=unix://$work/docker.sock DOCKER_CONFIG=$work/config
PATH=/usr/sbin:/usr/bin:$PATH dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" \
    --pidfile "$work/pid" --storage-driver vfs >"$work/log" 2>&1 &
for _ in {1..300}; do
    docker version >/dev/null 2>&1 && break
    kill -0 $! 2>/dev/null || { tail -5 "$work/log" >&2; exit 1; }
    sleep 0.1
done

# Only the binary goes to the daemon, not the whole build directory.
mkdir "$work/context"
cp "$binary/millrace" "$work/context/"
DOCKER_BUILDKIT=0 docker build --quiet --tag millrace --file deploy/Dockerfile "$work/context" 2>/dev/null

# As Docker's default profile has been since Docker 25.
jq -n '{defaultAction: "SCMP_ACT_ALLOW", syscalls: [{action: "SCMP_ACT_ERRNO", errnoRet: 1,
    names: ["io_uring_setup", "io_uring_enter", "io_uring_register"]}]}' >"$work/denied.json"

try() { # DRIVER OPTION...
    local driver=$1 id line
    shift
    id=$(docker run --detach --publish 127.0.0.1::8000 "$@" millrace serve --emulate 2)
    local address
    address=$(docker port "$id" 8000/tcp | head -n 1)
    if ! curl --silent --show-error --fail --retry 20 --retry-delay 1 --retry-all-errors --max-time 5 \
        --output "$work/health" "http://$address/healthz"; then
        docker logs "$id" >&2
        exit 1
    fi
    line=$(docker logs "$id" 2>&1 | grep ' address=')
    [[ $line == *"driver=\"$driver\""* ]] || { echo "not on $driver: $line" >&2; exit 1; }
    docker stop --time 5 "$id" >/dev/null
    local status
    status=$(docker inspect --format '{{.State.ExitCode}}' "$id")
    [[ $status == 0 ]] || { echo "the container ended with $status" >&2; docker logs "$id" >&2; exit 1; }
    echo "ok: /healthz on $driver: $(head -c 200 "$work/health")"
}

try io_uring --security-opt seccomp=unconfined
try epoll --security-opt seccomp="$work/denied.json"
