#!/usr/bin/env bash
# Installs the systemd unit under a systemd of its own, starts, hangs, kills and
# stops it there, and tells PASS or FAIL of each of its promises. Needs root,
# Linux with cgroup 2, Debian's systemd (which need not be running), and the
# tools named below. It takes about a minute.
#
# That systemd is PID 1 of its own namespaces, on a tmpfs with the host's /usr:
# neither the host's systemd nor its network is touched, and nothing stays.
#
#   make build && deploy/try-systemd.sh [directory of the binary]
set -euo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/.."
readonly ORIGIN=http://127.0.0.1:8000
readonly WATCHDOG=10 # seconds, as the unit has it

# Becomes PID 1 on a root of its own, in which millrace is installed.
become_init() { # ROOT BINARY
    local root=$1 name
    mount -t tmpfs -o mode=755 tmpfs "$root"
    mkdir -p "$root"/{dev,etc/default,etc/systemd/system,old,proc,run,sys,tmp,usr,var/lib,var/log}
    for name in bin sbin lib lib64; do
        [[ ! -e /usr/$name ]] || ln -s "usr/$name" "$root/$name"
    done
    mount --bind /usr "$root/usr"
    mount -o remount,bind,ro "$root/usr"
    mount -t tmpfs -o mode=755 tmpfs "$root/usr/local"
    mount -t tmpfs -o mode=755 tmpfs "$root/run"
    mount -t proc proc "$root/proc"
    mount -t sysfs -o ro sysfs "$root/sys"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$root/dev"
    for name in null zero full random urandom tty; do
        touch "$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
    mkdir "$root"/dev/{pts,shm}
    mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
    mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
    ln -s pts/ptmx "$root/dev/ptmx"

    cp -a /etc/ld.so.* "$root/etc/"
    for name in passwd group; do
        grep -E '^(root|nobody|nogroup|messagebus):' "/etc/$name" >"$root/etc/$name"
    done
    printf '%s\n' 'passwd: files systemd' 'group: files systemd' 'hosts: files' >"$root/etc/nsswitch.conf"
    tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    # Nobody logs in here.
    for name in systemd-logind.service getty.target; do
        ln -s /dev/null "$root/etc/systemd/system/$name"
    done
    # As README.md has it, but for the build.
    CARGO_TARGET_DIR=$(dirname "$2") make --silent --assume-old=build install DESTDIR="$root"

    ip link set lo up
    hostname millrace-try
    cd "$root"
    pivot_root . old
    umount -l /old
    exec env -i container=millrace-try /lib/systemd/systemd --system --unit=multi-user.target \
        --log-target=journal-or-kmsg --show-status=no </dev/null >/dev/null 2>&1
}

if [[ ${MILLRACE_TRY_SYSTEMD:-} == init ]]; then
    become_init "$@"
fi
if [[ ${MILLRACE_TRY_SYSTEMD:-} == "" ]]; then
    ((EUID == 0)) || { echo "only root can do this" >&2; exit 2; }
    for tool in /lib/systemd/systemd systemctl curl ip make nsenter pivot_root ps python3 unshare; do
        command -v "$tool" >/dev/null || { echo "$tool is missing: apt-get install \
curl iproute2 make procps python3 systemd util-linux" >&2; exit 2; }
    done
    # What is mounted from here on ends with the script.
    MILLRACE_TRY_SYSTEMD=outside exec unshare --mount "$self" "$@"
fi

binary=$(realpath "${1:-${CARGO_TARGET_DIR:-target}/release}")
[[ -x $binary/millrace ]] || { echo "no $binary/millrace: make build" >&2; exit 2; }
work=$(mktemp -d)
mkdir "$work/root" "$work/cgroups"
mount -t cgroup2 cgroup2 "$work/cgroups"
group=$work/cgroups/millrace-try-$$
mkdir "$group"

clean_up() {
    # Its PID namespace dies with PID 1, and PID 1 with this.
    [[ ${outside:-} == "" ]] || { kill -KILL "$outside" && wait "$outside"; } 2>/dev/null || true
    local _
    for _ in {1..50}; do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null && break
        sleep 0.1
    done
    umount "$work/cgroups" && rm -rf --one-file-system "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# In its own control group before the namespace, whose root that then is.
(
    echo "$BASHPID" >"$group/cgroup.procs"
    MILLRACE_TRY_SYSTEMD=init exec unshare --pid --fork --kill-child --mount --cgroup --uts --ipc --net \
        "$self" "$work/root" "$binary"
) &
outside=$!

# COMMAND... beside that systemd.
inside() { nsenter --target "$init" --all -- "$@"; }

until_true() { # SECONDS COMMAND...
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

failures=0

# ---- What is asked of it ----

show() { inside systemctl show --property="$1" --value millrace; } # PROPERTY
since() { echo $((${EPOCHREALTIME/./} / 1000 - $1)); }              # START in ms; 0 gives the time

# Lines of the service itself since it was last started.
journal() { inside journalctl --quiet --output=cat "_SYSTEMD_INVOCATION_ID=$(show InvocationID)"; }
said() { grep -E "$1" <<<"$(journal)"; } # REGEX

# Its PID as this script sees it.
main_pid() { head -n 1 "$group/system.slice/millrace.service/cgroup.procs"; }

# NAME COMMAND...; the command may leave a figure to be told.
check() {
    local name=$1
    shift
    figure=
    if "$@" >"$work/output" 2>&1; then
        echo "PASS: $name${figure:+: $figure}"
    else
        echo "FAIL: $name${figure:+: $figure}"
        failures=$((failures + 1))
        tail -n 8 "$work/output" | sed 's/^/      /'
    fi
}

find_init() { init=$(ps -o pid= --ppid "$outside" | tr -d ' ') && [[ $init != "" ]]; }
# Units of the host's other packages may have failed in here.
booted() { [[ $(inside systemctl is-system-running --wait) == @(running|degraded) ]]; }

starts() {
    inside systemctl enable --now millrace
    [[ $(show ActiveState) == active ]] || return 1
    local began active
    began=$(show ExecMainStartTimestampMonotonic)
    active=$(show ActiveEnterTimestampMonotonic)
    figure="$(((active - began) / 1000)) ms from the fork"
}

shows_status() {
    inside systemctl status --no-pager millrace | tee "$work/status"
    grep -E 'Status: "serving on 0.0.0.0:8000, [0-9]+ shards, io_uring"' "$work/status"
}

# The kernel's word, not only the log's.
runs_on_uring() {
    until_true 5 said 'serving AceStream content .*driver="io_uring"' || return 1
    find "/proc/$(main_pid)/fd" -lname 'anon_inode:\[io_uring\]' | grep .
}

healthy() { # [ORIGIN]
    inside curl --silent --show-error --fail --max-time 5 --output /dev/null "${1:-$ORIGIN}/healthz"
}

# The address that it printed: 200, and whole TS packets.
plays() {
    local url
    url=$(journal | sed -n 's/.* play="\([^"]*\)".*/\1/p')
    [[ $url == "$ORIGIN/ace/getstream?id="* ]] || { echo "printed: $url"; return 1; }
    inside curl --silent --max-time 4 --output - --write-out '%{stderr}%{http_code} %{content_type}' "$url" \
        >"$work/stream" 2>"$work/answer" || (($? == 28)) || return 1
    cat "$work/answer"
    [[ $(cat "$work/answer") == "200 video/mp2t" ]] || return 1
    python3 - "$work/stream" <<'PYTHON'
import sys
data = open(sys.argv[1], "rb").read()
sync = data[::188].count(0x47)
print(f"{len(data)} bytes, {sync} packets in step")
sys.exit(len(data) < 188 * 100 or sync < len(data) // 188)
PYTHON
}

is_confined() {
    local status=/proc/$(main_pid)/status
    grep -E '^(Uid|Cap|NoNewPrivs|Seccomp:)' "$status"
    ! grep -Eq '^Uid:.*\s0(\s|$)|^Cap\w+:\s0*[1-9a-f]' "$status" &&
        grep -Eq '^NoNewPrivs:\s1$' "$status" && grep -Eq '^Seccomp:\s2$' "$status"
}

# This machine may allow fewer than the unit asks for.
has_limits() {
    local want got most=$(</proc/sys/fs/nr_open) hard
    want=$(show LimitNOFILE)
    # Only CAP_SYS_RESOURCE (24) may raise a hard limit.
    (($((16#$(awk '$1 == "CapEff:" { print $2 }' "/proc/$init/status"))) >> 24 & 1)) || most=$(ulimit -Hn)
    read -r got hard < <(awk '/^Max open files/ { print $4, $5 }' "/proc/$(main_pid)/limits")
    figure="$got, with $want in the unit and $most allowed by this machine"
    ((got == hard && got == (want < most ? want : most)))
}

no_complaints() { ! said ' (WARN|ERROR) '; }

restarted() { (($(show NRestarts) > restarts)) && [[ $(show ActiveState) == active ]]; }

# SECONDS COMMAND...: does it harm, and waits for another process in its place.
comes_back() {
    local limit=$1 start
    shift
    restarts=$(show NRestarts)
    start=$(since 0)
    "$@" && until_true "$limit" restarted || return 1
    figure="$(since "$start") ms"
    until_true 5 healthy
}

# RESULT COUNT
failed_by() { (($(inside journalctl --output=cat --unit=millrace | grep -cF "Failed with result '$1'") == $2)); }

# A shard's thread alone, as a hang in one would be.
hang_shard() {
    local thread
    thread=$(grep -lx shard-0 "/proc/$(main_pid)/task"/*/comm | sed 's|/comm$||') || return 1
    python3 - "${thread##*/}" <<'PYTHON' &
import ctypes, os, sys
PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
thread = int(sys.argv[1])
for request in PTRACE_SEIZE, PTRACE_INTERRUPT:
    if ptrace(request, thread, None, None):
        sys.exit(os.strerror(ctypes.get_errno()))
os.waitpid(thread, WALL)
print("held", flush=True)
os.waitpid(thread, WALL)  # until it is killed
PYTHON
    holder=$!
}

# Longer than the watchdog waits, with the same process.
is_fed() {
    sleep $((WATCHDOG + 2))
    local fed now
    fed=$(show WatchdogTimestampMonotonic)
    now=$(python3 -c 'import time; print(time.monotonic_ns() // 1000)')
    figure="last $(((now - fed) / 1000)) ms ago"
    (($(show NRestarts) == 0 && now - fed < 3000000))
}

# With a viewer, who must not hold it up.
stops() {
    inside curl --silent --max-time 20 --output "/dev/null" "$ORIGIN/ace/getstream?id=$(printf '%040d' 1)" &
    local viewer=$! start took good=(ActiveState=inactive ExecMainCode=1 ExecMainStatus=0 Result=success)
    watched() { inside curl --silent --fail "$ORIGIN/metrics" | grep -E '^millrace_viewers[^ ]* [1-9]'; }
    until_true 5 watched || return 1
    start=$(since 0)
    inside systemctl stop millrace
    took=$(since "$start")
    figure="$took ms"
    wait "$viewer" || true
    inside systemctl show --property=ActiveState,Result,ExecMainCode,ExecMainStatus millrace | tee "$work/end"
    ((took < 2000)) && diff <(printf '%s\n' "${good[@]}") <(sort "$work/end")
}

killed() { inside systemctl kill --kill-whom=main --signal="$1" millrace; } # SIGNAL

# More often than systemd would by itself put up with: 5 starts in 10 s.
survives_kills() {
    local _ start
    start=$(since 0)
    for _ in {1..6}; do comes_back 5 killed KILL || return 1; done
    figure="$(since "$start") ms"
}

# OVERRIDE...: restarts it with these lines over the unit's own.
override() {
    printf '%s\n' '[Service]' "$@" | inside tee /run/systemd/system/millrace.service.d/override.conf >/dev/null
    inside systemctl daemon-reload
    inside systemctl restart millrace
}

on_epoll() {
    override LimitNOFILE=4096 'SystemCallFilter=~io_uring_setup io_uring_enter io_uring_register' || return 1
    until_true 5 said 'serving AceStream content .*driver="epoll"' &&
        said 'WARN .*the kernel refuses io_uring.*seccomp' && healthy
}

# What the unit says of ports below 1024.
on_port_80() {
    override PrivateUsers=no {AmbientCapabilities,CapabilityBoundingSet}=CAP_NET_BIND_SERVICE &&
        healthy http://127.0.0.1:80
}

# Told, and not tried again.
refuses_nonsense() {
    ! inside systemctl start millrace || return 1
    sleep 2
    inside systemctl show --property=ActiveState,ExecMainStatus,NRestarts millrace | tee "$work/end"
    diff <(printf '%s\n' ActiveState=failed ExecMainStatus=2 NRestarts=0) <(sort "$work/end") &&
        inside journalctl --quiet --output=cat --unit=millrace | grep -F 'server.listen'
}

confined_well() {
    # The threshold is in tenths.
    inside systemd-analyze security --no-pager --threshold=20 millrace >"$work/security" || return 1
    figure=$(sed -n 's/.*exposure level .*: \([0-9.]*\).*/\1/p' "$work/security")
}

until_true 5 find_init || { echo "no PID 1 was made" >&2; exit 1; }
check "$(/lib/systemd/systemd --version | head -n 1) has booted" until_true 30 booted
echo MILLRACE_ENGINES_EMULATE=3 | inside tee /etc/default/millrace >/dev/null

check "it is active, so it said READY" starts
check "systemctl status shows where it serves and on what" shows_status
check "the driver is io_uring" runs_on_uring
check "/healthz answers 200" healthy
check "/etc/default/millrace is read" said 'engines="3 of 3 emulated ready"'
check "the printed URL plays" plays
check "it runs without root, capabilities and most system calls" is_confined
check "the limit of descriptors is in force" has_limits
check "systemd-analyze security finds 2.0 or less" confined_well
check "the watchdog is fed" is_fed
check "the journal has no warning" no_complaints
check "with a viewer it stops at once, with success" stops

inside systemctl start millrace
check "killed 6 times in a row it comes back" survives_kills
check "stopped by SIGSTOP it comes back" comes_back $((WATCHDOG + 5)) killed STOP
check "with one shard held still it comes back" comes_back $((WATCHDOG + 10)) hang_shard
check "the journal names the watchdog both times" failed_by watchdog 2
check "it stops" inside systemctl stop millrace

inside mkdir -p /run/systemd/system/millrace.service.d
check "where io_uring is denied it serves on epoll, and says why" on_epoll
check "an override of the limit is obeyed" has_limits
echo MILLRACE_SERVER_LISTEN=0.0.0.0:80 | inside tee /etc/default/millrace >/dev/null
check "an override lets it listen on port 80" on_port_80
inside systemctl stop millrace
echo MILLRACE_SERVER_LISTEN=nonsense | inside tee /etc/default/millrace >/dev/null
check "a wrong configuration is told once, not tried again" refuses_nonsense

((failures == 0)) || { echo "$failures failed" >&2; exit 1; }
