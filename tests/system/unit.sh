#!/bin/bash
# Boots a real systemd in a Debian 12 folder, installs the package there, and tries what it promises: the start with Kafka away, the
# stop, the reload, the restarts, the watchdog, credentials, the journal, the metrics of the process, the files that no restart would make
# better; and, with a real Kafka, few file descriptors, little memory and a receiver that hangs.
#
# usage: tests/system/unit.sh [PACKAGE.deb]       the one in target/package unless one is named; root on Debian only
#        tests/system/unit.sh --able              only says whether it can work here: 0, or 77 and one line that says why not
# The machine in the folder has no network but a loopback of its own, and no CA certificates.
# A pipe into `grep -q` would fail: its writer is ended as soon as something is found.
# shellcheck disable=SC2016  # what is in single quotes is for awk, dpkg and the shell inside
set -euo pipefail
# shellcheck source=tests/system/debian.sh
. "$(dirname "$0")/debian.sh"

why=$(not_able)
if [ -n "$why" ]; then
    printf 'cannot boot a systemd here: %s\n' "$why" >&2
    exit 77
fi
[ "${1:-}" != --able ] || exit 0

package=$(readlink -f "${1:-$(ls "$PROJECT"/target/package/postrider_*.deb)}")
[ -f "$package" ] || die "no package at $package: packaging/deb.sh makes one"
need_tools debootstrap:debootstrap systemd-nspawn:systemd-container nsenter:util-linux java:openjdk-17-jre-headless python3:python3

work=$(mktemp -d "$SYSTEM_DIR/postrider-unit.XXXXXX")
machine=$work/machine
nspawn=""
leader=""
in_network=()
# shellcheck source=tests/system/kafka.sh
. "$(dirname "$0")/kafka.sh"
running() { [ -n "$nspawn" ] && kill -0 "$nspawn" 2>/dev/null; }
end() {
    local code=$?
    if [ $code != 0 ] && [ -n "$leader" ]; then
        printf '\n--- the journal of the unit\n' >&2
        inside journalctl --no-pager -o cat -u postrider -n 40 >&2 || true
    fi
    end_kafka
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
logged() { inside journalctl --no-pager -o cat -u postrider | grep -F "$1" >/dev/null; }
# get PATH: the first line of the daemon's answer.
get() { ask "$1" | head -n 1; }
# ask PATH: all of it.
ask() { inside bash -c "exec 3<>/dev/tcp/127.0.0.1/8474; printf 'GET $1 HTTP/1.0\r\n\r\n' >&3; cat <&3" | tr -d '\r'; }
# drop_in [LINE...]: what [Service] says beside the unit; without lines, nothing.
drop_in() {
    local folder=$machine/etc/systemd/system/postrider.service.d
    rm -rf "$folder"
    if [ $# -gt 0 ]; then
        mkdir -p "$folder"
        printf '%s\n' '[Service]' "$@" >"$folder/test.conf"
    fi
    inside systemctl daemon-reload
}
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
    local begin took
    begin=$(date +%s%N)
    inside systemctl stop postrider
    took=$((($(date +%s%N) - begin) / 1000000))
    [ "$took" -lt 45000 ] || die "the stop took $took ms"
    printf '  stopped in %s ms\n' "$took"
}

# refused WORDS: the start fails with 78, says the words, and is not repeated.
refused() {
    inside systemctl start postrider 2>/dev/null && die "it started"
    sleep 6
    expect ExecMainStatus 78
    expect ActiveState failed
    expect NRestarts 0
    logged_at err..err "$1" || die "the journal does not say as an error: $1"
    printf '  the journal says: %s\n' "$1"
    inside systemctl reset-failed postrider
}

say "a Debian 12 with systemd"
# procps is what the package asks for; sudo and kcat are what docs/QUICKSTART.md does.
debian "$machine" systemd dbus procps sudo kcat
install -m 0644 "$package" "$machine/root/postrider.deb"
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
in_network=(nsenter -t "$leader" -n --)
booted() { inside systemctl is-system-running 2>/dev/null | grep -E 'running|degraded' >/dev/null; }
within 60 booted || { tail -n 20 "$work/boot.log" >&2; die "systemd did not come up"; }
inside systemctl --version | head -n 1
say "the package: installed, neither enabled nor started, its file a conffile that the binary takes"
inside dpkg --install /root/postrider.deb >"$work/dpkg.log" 2>&1 || { cat "$work/dpkg.log" >&2; die "dpkg refuses the package"; }
[ "$(inside systemctl is-enabled postrider)" = disabled ] || die "it is enabled"
is ActiveState inactive || die "it was started"
[ "$(inside dpkg-query -W -f '${Conffiles}' postrider | awk '{print $1}')" = /etc/postrider/postrider.toml ] || die "no conffile"
inside postrider check >/dev/null || die "the example is refused"
for there in man/man1/postrider.1.gz man/man1/postrider-check.1.gz bash-completion/completions/postrider \
    zsh/vendor-completions/_postrider fish/vendor_completions.d/postrider.fish doc/postrider/copyright; do
    [ -s "$machine/usr/share/$there" ] || die "the package brings no /usr/share/$there"
done
inside postrider version
# What is wanted by nobody is forgotten when it ends, and its exit code with it.
inside systemctl --quiet enable postrider

say "the units say what systemd understands, and give away little"
for unit in postrider.service postrider@.service; do
    complaints=$(inside systemd-analyze verify --man=no "/usr/lib/systemd/system/$unit" 2>&1) || true
    [ -z "$complaints" ] || die "systemd-analyze verify: $complaints"
    inside systemd-analyze --no-pager security --offline=true --threshold=15 "/usr/lib/systemd/system/$unit" | tail -n 1 \
        || die "$unit is exposed"
done

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
said() { property StatusText | grep -F "$1" >/dev/null; }
within 20 said "does not deliver" || die "its status: $(property StatusText)"
printf '  status: %s\n' "$(property StatusText)"
inside postrider status | grep '^shop' >/dev/null || die "the operators' socket does not answer: $(inside postrider status 2>&1)"

say "the metrics of the process are what systemd and the kernel say"
metric() { ask /metrics | awk -v name="$1" '$1 == name { print $2 }'; }
# near NAME EXPECTED TOLERANCE
near() {
    local is
    is=$(metric "$1")
    awk -v is="$is" -v expected="$2" -v tolerance="$3" \
        'BEGIN { off = is - expected; exit !(is != "" && off <= tolerance && -off <= tolerance) }' || die "$1 is ${is:-missing}, not $2"
    printf '  %s %s (expected %s)\n' "$1" "$is" "$2"
}
pid=$(property MainPID)
near process_start_time_seconds "$(date -d "$(property ExecMainStartTimestamp)" +%s)" 2
near process_open_fds "$(inside ls "/proc/$pid/fd" | wc -l)" 3
near process_max_fds "$(inside awk '/^Max open files/ { print $4 }' "/proc/$pid/limits")" 0
near process_threads "$(status Threads)" 3
near process_resident_memory_bytes "$(($(status VmRSS) * 1024))" 4000000
near process_virtual_memory_bytes "$(($(status VmSize) * 1024))" 300000000
# The collector counts whole seconds.
near process_cpu_seconds_total "$(inside awk '{ print ($14 + $15) / 100 }' "/proc/$pid/stat")" 1.1

# tells_of_reload WORD: whether the last reload is shown as successful (1) or not (0).
tells_of_reload() { [ "$(metric postrider_config_last_reload_successful)" = "$1" ]; }
reload() { inside timeout 10 systemctl reload postrider || die "systemctl reload failed"; }
lanes() { [ "$(inside postrider status | grep -cE '^(shop|more)\b')" = "$1" ]; }
say "a reload ends, the process stays"
pid=$(property MainPID)
file http://127.0.0.1:8000/hooks '[destinations.more.webhook]' 'url = "http://127.0.0.1:8000/more"' \
    '[[rules]]' 'name = "more"' 'topics = ["orders"]' 'deliver_to = ["more"]'
reload
within 20 tells_of_reload 1 || die "the reload is not told as successful"
within 20 lanes 2 || die "the reload did not bring the new destination: $(inside postrider status)"
file http://127.0.0.1:8000/hooks '[limits]' 'dran = "30s"'
reload
within 20 tells_of_reload 0 || die "the refused reload is not told as such"
inside journalctl --no-pager -o cat -p err..err -u postrider | grep -F dran >/dev/null || die "the journal does not say why the reload was refused"
lanes 2 || die "a file with a mistake has changed something: $(inside postrider status)"
file http://127.0.0.1:8000/hooks
reload
within 20 tells_of_reload 1 || die "no reload after a refused one"
within 20 lanes 1 || die "the destination that is out of the file is still there"
expect MainPID "$pid"
expect NRestarts 0
expect ActiveState active

say "the journal has priorities"
logged_at() { inside journalctl --no-pager -o cat -p "$1" -u postrider | grep -F "$2" >/dev/null; }
within 20 logged_at info..info "postrider runs" || die "no line of priority info"
within 40 logged_at warning..warning "a connection to Kafka failed" || die "no line of priority warning"
inside journalctl --no-pager -o cat -u postrider | grep '^<' >/dev/null && die "a priority is shown as text"

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
drop_in WatchdogSec=4
inside systemctl start postrider
pid=$(property MainPID)
sleep 10
expect MainPID "$pid"
inside systemctl kill --kill-who=main --signal=STOP postrider
within 20 is NRestarts 1 || die "a frozen daemon was left alone"
within 10 is ActiveState active || die "not active after the watchdog's restart"
printf '  a frozen daemon was replaced\n'
stop

say "the watchdog ends a daemon of which one consumer is stuck, though all the rest turns"
drop_in WatchdogSec=4 Environment=POSTRIDER_TEST_STALL=c-shop
inside systemctl start postrider
within 30 is NRestarts 1 || die "a stuck consumer was left alone"
logged "the consumer of shop" || die "the log does not say who is stuck"
ended_by_watchdog=$(inside journalctl --no-pager -o cat -u postrider | grep -cF "Failed with result 'watchdog'")
[ "$ended_by_watchdog" = 2 ] || die "it was not the watchdog"
drop_in
stop

say "credentials are read"
file http://127.0.0.1:8000/hooks '[destinations.shop.webhook.signing]' 'scheme = "standard-webhooks"' 'secrets = [{ credential = "shop.signing" }]'
printf 'whsec_bm90IGEgc2VjcmV0LCBvbmx5IGFuIGV4YW1wbGU=\n' >"$machine/etc/postrider/signing"
chmod 600 "$machine/etc/postrider/signing"
drop_in LoadCredential=shop.signing:/etc/postrider/signing
inside systemctl start postrider || die "it does not start with a credential"
expect ActiveState active
stop
drop_in
refused "shop.signing"
file http://127.0.0.1:8000/hooks
drop_in

say "with a Kafka"
start_kafka
start_receiver
# shellcheck source=tests/system/load.sh
. "$(dirname "$0")/load.sh"
end_kafka
file http://127.0.0.1:8000/hooks

say "an instance of the template"
printf '%s\n' '[admin]' 'listen = "127.0.0.1:8475"' 'socket = "/run/postrider-other/postrider.sock"' \
    | cat "$machine/etc/postrider/postrider.toml" - >"$machine/etc/postrider/other.toml"
inside systemctl start postrider postrider@other || die "the instance does not start beside the other"
inside postrider -c /etc/postrider/other.toml status | grep '^shop' >/dev/null || die "the instance does not answer"
inside systemctl stop postrider@other
stop

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

say "a file with a mistake"
file http://127.0.0.1:8000/hooks '[limits]' 'dran = "30s"'
refused dran
say "no file"
rm "$machine/etc/postrider/postrider.toml"
refused "cannot read /etc/postrider/postrider.toml"
say "an https:// destination where no CA certificates are installed"
file https://127.0.0.1:8000/hooks
refused "no CA certificates were found"

say "the package goes, and its purge leaves nothing"
inside dpkg --purge postrider >/dev/null 2>&1 || die "dpkg does not purge it"
for left in /usr/bin/postrider /etc/postrider/postrider.toml /usr/lib/systemd/system/postrider.service; do
    [ ! -e "$machine$left" ] || die "$left is left"
done

say "docs/QUICKSTART.md, typed as it stands there"
start_kafka true
# shellcheck source=tests/system/quickstart.sh
. "$(dirname "$0")/quickstart.sh"
quickstart
end_kafka

say "ok"
