# shellcheck shell=bash
# shellcheck disable=SC2034,SC2016  # the variables are for the scripts that read this; the format is for dpkg
# What the scripts of this folder share: an empty Debian 12 of their own, and an end that leaves nothing behind.
#
# They need root on Debian, because they make a whole system in a folder. `make test` does not call them; .ci/run does.

SUITE=bookworm
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# Some gigabytes for a while. Not /tmp: that may be memory, or a place where nothing may be executed.
SYSTEM_DIR=${POSTRIDER_SYSTEM_DIR:-/var/tmp}

say() { printf '=== %s\n' "$*"; }
die() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }

# need_tools COMMAND:PACKAGE...: root on Debian gets what is missing; anybody else gets one line.
need_tools() {
    if [ "$(id -u)" != 0 ] || [ ! -f /etc/debian_version ]; then
        die "needs root on Debian: it makes a Debian 12 in a folder"
    fi
    local tool missing=()
    for tool in "$@"; do
        command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
    done
    [ ${#missing[@]} = 0 ] && return
    say "installing ${missing[*]}"
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"; } \
        >/dev/null </dev/null || die "apt-get could not install ${missing[*]}"
}

# not_able: why no machine can be booted here, in one line; or nothing.
not_able() {
    if [ "$(id -u)" != 0 ] || [ ! -f /etc/debian_version ]; then
        echo "it needs root on Debian"
    elif ! unshare --mount --uts --ipc --net --pid --fork --propagation private mount -t proc proc /proc 2>/dev/null; then
        echo "this place lets root make no namespaces of its own (a container without rights?)"
    elif ! makes_control_groups /sys/fs/cgroup && ! makes_control_groups /sys/fs/cgroup/systemd; then
        echo "this place lets root make no control groups"
    fi
}
makes_control_groups() {
    local group=$1/postrider-test.$$ made=1
    mkdir "$group" 2>/dev/null || return 1
    [ -e "$group/cgroup.procs" ] || made=0
    rmdir "$group"
    [ $made = 1 ]
}

# debian FOLDER [PACKAGE...]: a Debian of the essential packages, apt, and those. The mirror is debootstrap's default, or $DEBIAN_MIRROR.
debian() {
    local folder=$1 include
    shift
    include=$(IFS=,; echo "$*")
    debootstrap --variant=minbase ${include:+--include="$include"} "$SUITE" "$folder" ${DEBIAN_MIRROR:+"$DEBIAN_MIRROR"} \
        >"$folder.log" 2>&1 </dev/null || { tail -n 5 "$folder.log" >&2; die "debootstrap failed; the whole log is in $folder.log"; }
    rm -f "$folder.log"
}

# packages FOLDER: the names of what is installed there.
packages() { chroot "$1" dpkg-query -W -f '${Package}\n' | sort; }
