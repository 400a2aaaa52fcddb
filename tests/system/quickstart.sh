# shellcheck shell=bash
# shellcheck disable=SC2154  # what is used here is the caller's
# docs/QUICKSTART.md, typed as it stands there, in the machine of unit.sh when nothing of Postrider is in it any more.
#
# The caller has $machine, $package, $work, inside, within and die, and a Kafka that makes topics.

# The blocks of commands, one file for each, in order.
blocks() {
    awk -v folder="$1" '/^```sh$/ { on = 1; n++; next } /^```$/ { on = 0 } on { print > sprintf("%s/%02d.sh", folder, n) }' \
        "$PROJECT/docs/QUICKSTART.md"
}

quickstart() {
    local folder=$machine/root/quickstart begin block last
    mkdir "$folder"
    blocks "$folder"
    last=$(find "$folder" -name '*.sh' | sort | tail -n 1)
    [ "$(find "$folder" -name '*.sh' | wc -l)" -ge 7 ] || die "the page has lost its commands"
    install -m 0644 "$package" "$folder/"
    # The machine has no network for what is only recommended (CA certificates), and must resolve its own name for sudo.
    echo 'APT::Install-Recommends "false";' >"$machine/etc/apt/apt.conf.d/99test"
    inside bash -c 'echo "127.0.0.1 localhost $(hostname)" >/etc/hosts'
    begin=$SECONDS
    for block in "$folder"/*.sh; do
        [ "$block" != "$last" ] || continue
        inside bash -euo pipefail -c "cd /root/quickstart; . ./${block##*/}" >"$work/quickstart.log" 2>&1 </dev/null \
            || { cat "$work/quickstart.log" >&2; die "it does not work: $(cat "$block")"; }
    done
    within 60 delivered "$last" || { cat "$work/quickstart.log" >&2; die "what is promised at the end is not there"; }
    printf '  the first delivery %s s after the first command\n' $((SECONDS - begin))
    [ $((SECONDS - begin)) -lt 300 ] || die "it took longer than five minutes"
}

# The last block shows the record, and that none waits.
delivered() {
    inside bash -euo pipefail -c "cd /root/quickstart; . ./${1##*/}" >"$work/quickstart.log" 2>&1 </dev/null
    grep -F '"graph": 7' "$work/quickstart.log" >/dev/null && grep -E '^site +running +0 ' "$work/quickstart.log" >/dev/null
}
