# shellcheck shell=bash
# shellcheck disable=SC2154,SC2015,SC2016  # what is used here is the caller's; die does not come back; awk has its own $1
# Part of unit.sh: few file descriptors, little memory, and a receiver that hangs, each with a real Kafka and something to do.
#
# What is used here is the caller's.

# lanes_file TOPIC LANES [LINE...]: a file of so many destinations that all get the topic, every other one by a name that must be resolved; the
# lines go to the top.
lanes_file() {
    local topic=$1 lanes=$2 lane host names=""
    shift 2
    {
        printf '%s\n' "$@" '[kafka]' 'brokers = ["127.0.0.1:9092"]' "prefix = \"$topic\"" 'start_at = "earliest"'
        for lane in $(seq "$lanes"); do
            host=127.0.0.1
            [ $((lane % 2)) = 1 ] || host=localhost
            printf '%s\n' "[destinations.d$lane]" 'concurrency = 32' "[destinations.d$lane.webhook]" "url = \"http://$host:8000/$topic/$lane\""
            names+="\"d$lane\", "
        done
        printf '%s\n' '[[rules]]' 'name = "all"' "topics = [\"$topic\"]" "deliver_to = [${names%, }]"
    } >"$machine/etc/postrider/postrider.toml"
}
# everything_came TOPIC LANES RECORDS: each destination has each record.
everything_came() {
    local lane
    for lane in $(seq "$2"); do [ "$(received "/$1/$lane")" = "$3" ] || return 1; done
}
# sum PATTERN: of all series that it fits.
sum() { ask /metrics | awk -v wanted="^$1" '$0 ~ wanted { sum += $NF } END { print sum + 0 }'; }
all_delivered() { [ "$(sum 'postrider_records_settled_total.*settlement="delivered"')" = "$1" ]; }
# works_under TOPIC LANES RECORDS LINE...: with the drop-in everything is delivered, by one process, at the first attempt.
works_under() {
    local topic=$1 lanes=$2 records=$3
    shift 3
    lanes_file "$topic" "$lanes"
    drop_in "$@"
    inside systemctl start postrider || die "it does not start with $*"
    within 90 everything_came "$topic" "$lanes" "$records" || die "with $*, received by $lanes: $(sort -u "$work/received" | grep -c "^/$topic/" || true)"
    within 20 all_delivered $((lanes * records)) || die "with $*, delivered: $(sum 'postrider_records_settled_total.*settlement="delivered"')"
    [ "$(sum 'postrider_attempt_failures_total')" = 0 ] || die "attempts were spent: $(ask /metrics | grep '^postrider_attempt_failures_total.* [1-9]')"
    [[ $(get /livez) == *" 200 "* ]] || die "/livez with $*: $(get /livez)"
    expect NRestarts 0
    printf '  %s: %s lanes, %s records each: %s descriptors, %s kB at most\n' "$*" "$lanes" "$records" "$(metric process_open_fds)" "$(status VmHWM)"
    stop
    expect Result success
    # What is delivered is committed: another start delivers nothing.
    inside systemctl start postrider
    nothing_waits() { [ "$(ask /metrics | grep -c '^postrider_lag_records')" -ge "$lanes" ] && [ "$(sum 'postrider_lag_records')" = 0 ]; }
    within 40 nothing_waits || die "the next start finds something waiting: $(ask /metrics | grep '^postrider_lag_records')"
    all_delivered 0 || die "the next start delivers again"
    stop
}

printf '127.0.0.1 localhost\n' >"$machine/etc/hosts"

say "64 file descriptors for one destination, 128 for three"
topic few 4
produce few 600 20000
works_under few 1 600 LimitNOFILE=64
logged "no more than 4 requests are in flight" || die "the journal does not say that descriptors are few"
topic fewer 4
produce fewer 300 20000
works_under fewer 3 300 LimitNOFILE=128

say "no file descriptor is left while records come: they wait, and no attempt is spent"
topic none 4
lanes_file none 2
drop_in WatchdogSec=4
inside systemctl start postrider
assigned() { [ "$(sum 'postrider_partitions_assigned')" -ge 8 ] && [ "$(ask /metrics | grep -c '^postrider_lag_records')" -ge 2 ]; }
within 60 assigned || die "no partitions: $(ask /metrics | grep '^postrider_partitions_assigned')"
pid=$(property MainPID)
# spent: hundredths of a second of processor time.
spent() { inside awk '{ print $14 + $15 }' "/proc/$pid/stat"; }
before=$(spent)
inside prlimit --pid "$pid" --nofile=8:
produce none 200 1000
# Somebody asks, too, and is not answered.
timeout 2 "${in_network[@]}" bash -c 'exec 3<>/dev/tcp/127.0.0.1/8474; printf "GET /livez HTTP/1.0\r\n\r\n" >&3; cat <&3' >"$work/answer" || true
within 30 logged "no file descriptor is left for a connection to a receiver" || die "the journal does not say that there is no descriptor"
sleep 5
took=$(($(spent) - before))
[ "$took" -lt 300 ] || die "it burned $took hundredths of a second of processor time for want of descriptors"
printf '  %s ms of processor time meanwhile; received: %s\n' "$((took * 10))" "$(received /none/1)"
inside prlimit --pid "$pid" --nofile=4096:
within 60 everything_came none 2 200 || die "received after the shortage: $(received /none/1) and $(received /none/2)"
within 20 all_delivered 400 || die "delivered after the shortage: $(sum 'postrider_records_settled_total.*settlement="delivered"')"
[ "$(sum 'postrider_attempt_failures_total')" = 0 ] || die "attempts were spent: $(ask /metrics | grep '^postrider_attempt_failures_total.* [1-9]')"
expect MainPID "$pid"
stop

say "64 file descriptors for three destinations: refused once, with the number that is needed"
lanes_file few 3
drop_in LimitNOFILE=64
refused "3 lanes need 103 file descriptors at least and 64 are allowed"

say "a bound on memory, large records"
# Not by MemoryMax=: where the machine's systemd is given no memory controller, it takes the setting and does nothing.
memory_group() {
    local root
    for root in /sys/fs/cgroup/memory /sys/fs/cgroup; do
        group=$root/postrider-test.$$
        mkdir "$group" 2>/dev/null || continue
        bound=$group/memory.limit_in_bytes
        [ -e "$bound" ] || bound=$group/memory.max
        [ -e "$bound" ] && return 0
        rmdir "$group"
    done
    return 1
}
topic large 4
lanes_file large 3
drop_in
if memory_group; then
    echo $((160 * 1024 * 1024)) >"$bound"
    [ ! -e "$group/memory.swap.max" ] || echo 0 >"$group/memory.swap.max"
    inside systemctl start postrider
    # Its name is its own: the machine is in another namespace, and nothing else there is called so.
    outside=$(pgrep -x postrider --ns "$leader" --nslist pid)
    echo "$outside" >"$group/cgroup.procs"
    # The receiver stands still for a while, so that all windows and queues fill up.
    kill -STOP "$receiver_pid"
    produce large 150 900000
    sleep 8
    kill -CONT "$receiver_pid"
    within 120 everything_came large 3 150 || die "received with little memory: $(sort -u "$work/received" | grep -c '^/large/' || true)"
    within 20 all_delivered 450 || die "delivered with little memory: $(sum 'postrider_records_settled_total.*settlement="delivered"')"
    expect NRestarts 0
    for peak in "$group/memory.max_usage_in_bytes" "$group/memory.peak"; do
        [ ! -e "$peak" ] || printf '  3 lanes, 150 records of 900 kB each, in 160 MiB: %s MB at most\n' $(($(cat "$peak") / 1000000))
    done
    stop
    rmdir "$group"
else
    printf '  skipped, because this place lets root make no control groups for memory\n'
fi

say "a receiver that hangs: the stop takes as long as the drain may, for which systemd is asked"
topic slow 1
produce slow 50 1000
lanes_file slow 1 '[limits]' 'drain = "12s"'
drop_in TimeoutStopSec=6
kill -STOP "$receiver_pid"
inside systemctl start postrider
in_flight() { [ "$(sum 'postrider_records_waiting.*state="in_flight"')" -gt 0 ]; }
within 40 in_flight || die "nothing is in flight"
begin=$SECONDS
stop
took=$((SECONDS - begin))
[ "$took" -ge 10 ] && [ "$took" -le 25 ] || die "the stop took $took s, with a drain of 12 s"
expect Result success
kill -CONT "$receiver_pid"
# What was not answered comes again.
drop_in
inside systemctl start postrider
within 60 everything_came slow 1 50 || die "received after the drain: $(received /slow/1)"
stop
