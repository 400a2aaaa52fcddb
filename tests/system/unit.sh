#!/bin/bash
# Boots a real systemd in a Debian 12 folder, installs the unit, a file and the binary there, and tries what the unit promises: the
# start with Kafka away, the stop, the restarts, the watchdog, and the files that no restart would make better.
#
# usage: tests/system/unit.sh [BINARY]       target/release/postrider unless one is named; root on Debian only
# The machine in the folder has no network but a loopback of its own, and no CA certificates.
set -euo pipefail
# shellcheck source=tests/system/debian.sh
. "$(dirname "$0")/debian.sh"

binary=$(readlink -f "${1:-$PROJECT/target/release/postrider}")
[ -x "$binary" ] || die "no binary at $binary: make build, or name one"
need_tools debootstrap:debootstrap systemd-nspawn:systemd-container nsenter:util-linux

work=$(mktemp -d "$SYSTEM_DIR/postrider-unit.XXXXXX")
machine=$work/machine
nspawn=""
leader=""
running() { [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; }
end() {
    local code=$?
    if [ $code != 0 ] && [ -n "$leader" ]; then
        printf '\n--- the journal of the unit\n' >&2
        inside journalctl --no-pager -o cat -u postrider -n 40 >&2 || true
    fi
    # At once: nothing in the folder is worth a shutdown in order.
    if running; then
        [ -z "$leader" ] || kill -s RTMIN+14 "$leader" || true
        for _ in $(seq 100); do running || break; sleep 0.1; done
        if running; then
            [ -z "$leader" ] || kill -9 "$leader" || true
            kill -9 "$nspawn" || true
        fi
        wait "$nspawn" || true
    fi 2>/dev/null
    rm -rf --one-file-system "$work"
    exit $code
}
trap end EXIT

inside() { nsenter -t "$leader" -m -u -i -n -p -C -- "$@"; }
# property NAME: of the unit.
property() { inside systemctl show -P "$1" postrider; }
# expect NAME VALUE
expect() {
    local is
    is=$(property "$1")
    [ "$is" = "$2" ] || die "$1 is $is, not $2"
    printf '  %s=%s\n' "$1" "$is"
}
# within SECONDS COMMAND...: until it is true.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do [ $SECONDS -lt $end ] || return 1; sleep 0.2; done
}
is() { [ "$(property "$1")" = "$2" ]; }
logged() { inside journalctl --no-pager -o cat -u postrider | grep -qF "$1"; }
# get PATH: the first line of the daemon's answer.
get() { inside bash -c "exec 3<>/dev/tcp/127.0.0.1/8474; printf 'GET $1 HTTP/1.0\r\n\r\n' >&3; head -n 1 <&3" | tr -d '\r'; }
# file URL [LINE...]: the configuration.
file() {
    {
        printf '%s\n' '[kafka]' 'brokers = ["127.0.0.1:9092"]' 'prefix = "postrider"' 'start_at = "earliest"' \
            '[destinations.shop.webhook]' "url = \"$1\"" \
            '[[rules]]' 'name = "orders"' 'topics = ["orders"]' 'deliver_to = ["shop"]'
        shift
        printf '%s\n' "$@"
    } >"$machine/etc/postrider/postrider.toml"
}
# stop: and say how long it took.
stop() {
    local begin
    begin=$(date +%s%N)
    inside systemctl stop postrider
    printf '  stopped in %s ms\n' $((($(date +%s%N) - begin) / 1000000))
}

say "a Debian 12 with systemd"
debian "$machine" systemd dbus
install -m 0755 "$binary" "$machine/usr/bin/postrider"
install -m 0644 "$PROJECT/systemd/postrider.service" "$machine/etc/systemd/system/postrider.service"
mkdir "$machine/etc/postrider"
systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe -b -D "$machine" >"$work/boot.log" 2>&1 </dev/null &
nspawn=$!
# The child that is its systemd; before that there is one which only prepares the folder.
found() {
    local child
    for child in $(pgrep -P "$nspawn"); do
        if [ "$(cat "/proc/$child/comm" 2>/dev/null)" = systemd ]; then leader=$child; return 0; fi
    done
    return 1
}
within 20 found || { cat "$work/boot.log" >&2; die "systemd-nspawn did not start"; }
booted() { inside systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; }
within 60 booted || { tail -n 20 "$work/boot.log" >&2; die "systemd did not come up"; }
inside systemctl --version | head -n 1
# What is wanted by nobody is forgotten when it ends, and its exit code with it.
inside systemctl --quiet enable postrider

say "the unit says what systemd understands"
complaints=$(inside systemd-analyze verify /etc/systemd/system/postrider.service 2>&1) || true
[ -z "$complaints" ] || die "systemd-analyze verify: $complaints"
inside systemd-analyze --no-pager security postrider | tail -n 1

say "the start: Kafka is away, no CA certificates, an http:// destination"
file http://127.0.0.1:8000/hooks
inside systemctl start postrider || die "systemctl start failed"
expect ActiveState active
expect SubState running
# status FIELD: of the daemon's process.
status() { inside sed -n "s/^$1:[[:space:]]*\([0-9]*\).*/\1/p" "/proc/$(property MainPID)/status"; }
[ "$(status Uid)" != 0 ] || die "it runs as root"
printf '  user %s, %s threads, %s kB\n' "$(status Uid)" "$(status Threads)" "$(status VmRSS)"
[[ $(get /livez) == *" 200 "* ]] || die "/livez: $(get /livez)"
[[ $(get /readyz) == *" 503 "* ]] || die "/readyz, with Kafka away: $(get /readyz)"
printf '  /livez 200, /readyz 503\n'

say "the stop"
stop
expect Result success
expect ExecMainCode 1
expect ExecMainStatus 0
expect ActiveState inactive

say "a crash: systemd starts it again"
inside systemctl start postrider
inside systemctl kill --kill-who=main --signal=KILL postrider
within 10 is NRestarts 1 || die "no restart after a crash"
within 10 is ActiveState active || die "not active after the restart"
expect NRestarts 1
stop

say "the watchdog, at 4 s: fed while the daemon lives, and the end of one that is frozen"
inside mkdir -p /run/systemd/system/postrider.service.d
inside bash -c "printf '[Service]\nWatchdogSec=4\n' > /run/systemd/system/postrider.service.d/watchdog.conf"
inside systemctl daemon-reload
inside systemctl start postrider
pid=$(property MainPID)
sleep 10
expect MainPID "$pid"
inside systemctl kill --kill-who=main --signal=STOP postrider
within 20 is NRestarts 1 || die "a frozen daemon was left alone"
within 10 is ActiveState active || die "not active after the watchdog's restart"
printf '  a frozen daemon was replaced\n'
stop
inside rm /run/systemd/system/postrider.service.d/watchdog.conf
inside systemctl daemon-reload

say "an address in use: it tries again until the address is free"
file http://127.0.0.1:8000/hooks
inside systemd-run --quiet --unit=holder /usr/bin/postrider run
answers() { [[ $(get /livez 2>/dev/null) == *" 200 "* ]]; }
within 10 answers || die "the holder of the address does not run"
inside systemctl start postrider 2>/dev/null && die "it started although its address is in use"
# Systemd's own limit, five starts in ten seconds, is just beside RestartSec=2; the unit sets none.
tried() { [ "$(property NRestarts)" -ge 6 ]; }
within 40 tried || die "it gave up after $(property NRestarts) restarts"
within 10 is ExecMainStatus 69 || die "ExecMainStatus is $(property ExecMainStatus), not 69"
printf '  %s restarts, each ended with 69\n' "$(property NRestarts)"
inside systemctl stop holder
within 10 is ActiveState active || die "not active although the address is free"
stop

# refused WORDS: the start fails with 78, says the words, and is not repeated.
refused() {
    inside systemctl start postrider 2>/dev/null && die "it started"
    sleep 6
    expect ExecMainStatus 78
    expect ActiveState failed
    expect NRestarts 0
    logged "$1" || die "the journal does not say: $1"
    printf '  the journal says: %s\n' "$1"
    inside systemctl reset-failed postrider
}
say "a file with a mistake"
file http://127.0.0.1:8000/hooks '[limits]' 'dran = "30s"'
refused dran
say "no file"
rm "$machine/etc/postrider/postrider.toml"
refused "cannot read /etc/postrider/postrider.toml"
say "an https:// destination where no CA certificates are installed"
file https://127.0.0.1:8000/hooks
refused "no CA certificates were found"

say "ok"
