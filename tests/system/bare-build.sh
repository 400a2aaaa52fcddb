#!/bin/bash
# Builds the optimised binary in a Debian 12 that has nothing but build-essential, without a network, and tries it there and in a
# Debian 12 that has nothing at all. It is the proof of what the README says the build and the daemon need.
#
# usage: tests/system/bare-build.sh [PACKAGE...]       build-essential unless packages are named; root on Debian only
# The binary is left in target/bare/postrider. CARGO_BUILD_JOBS is passed on; POSTRIDER_SYSTEM_DIR says where the folders are made.
set -euo pipefail
# shellcheck source=tests/system/debian.sh
. "$(dirname "$0")/debian.sh"

[ $# -gt 0 ] || set -- build-essential
need_tools debootstrap:debootstrap
command -v cargo >/dev/null || die "missing cargo; its toolchain is lent to the folder"

work=$(mktemp -d "$SYSTEM_DIR/postrider-bare.XXXXXX")
trap 'rm -rf --one-file-system "$work"' EXIT
builder=$work/builder
bare=$work/bare

say "a Debian 12 with nothing ($bare)"
debian "$bare"
say "the same with $* ($builder)"
debian "$builder" "$@"
printf 'packages: %s without, %s with\n' "$(packages "$bare" | wc -l)" "$(packages "$builder" | wc -l)"

say "the crates of Cargo.lock, before the network is taken away"
(cd "$PROJECT" && cargo fetch --quiet --locked)

say "the source, as git has it"
mkdir "$builder/source" "$builder/rust" "$builder/cargo" "$builder/cargo/registry"
(cd "$PROJECT" && git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -cf - -T -) \
    | tar -xf - -C "$builder/source"
cargo_home=${CARGO_HOME:-$HOME/.cargo}
[ ! -f "$cargo_home/config.toml" ] || cp "$cargo_home/config.toml" "$builder/cargo/"

# In namespaces of its own: the mounts end with the build, however it ends, and no build script can fetch anything.
say "cargo build --release --locked"
begin=$(date +%s)
# shellcheck disable=SC2016  # the words are for the inner shell
unshare --mount --net --propagation private /bin/bash -euc '
    builder=$1 toolchain=$2 registry=$3 jobs=$4
    mount --bind "$toolchain" "$builder/rust"
    mount --bind "$registry" "$builder/cargo/registry"
    mount -t proc proc "$builder/proc"
    exec nice -n 15 chroot "$builder" /usr/bin/env -i PATH=/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
        CARGO_HOME=/cargo CARGO_BUILD_JOBS="$jobs" \
        /bin/sh -c "cd /source && cargo build --release --locked --offline --quiet"
' bare-build "$builder" "$(cd "$PROJECT" && rustc --print sysroot)" "$cargo_home/registry" "${CARGO_BUILD_JOBS:-$(nproc)}"
printf 'built in %s s\n' $(($(date +%s) - begin))

mkdir -p "$PROJECT/target/bare"
install -m 0755 "$builder/source/target/release/postrider" "$PROJECT/target/bare/postrider"

say "the binary, where nothing is installed"
install -m 0755 "$PROJECT/target/bare/postrider" "$bare/usr/bin/postrider"
chroot "$bare" /usr/bin/postrider version
chroot "$bare" /usr/bin/ldd /usr/bin/postrider
chroot "$bare" /usr/bin/ldd /usr/bin/postrider | grep -q 'not found' && die "it needs a library that Debian does not bring by itself"
printf 'size: %s bytes\n' "$(stat -c %s "$PROJECT/target/bare/postrider")"
say "ok"
