#!/bin/bash
# Makes the Debian package from a binary that is built: the manual and the completions are asked of the binary itself, the rest is in Cargo.toml.
#
# usage: packaging/deb.sh [BINARY]       target/release/postrider unless one is named; CARGO_DEB says where cargo-deb is
# The package is left in target/package; its path is printed.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { printf 'deb.sh: %s\n' "$*" >&2; exit 1; }
binary=${1:-target/release/postrider}
cargo_deb=${CARGO_DEB:-cargo-deb}
[ -x "$binary" ] || die "no binary at $binary: make build, or name one"
command -v "$cargo_deb" >/dev/null || die "no cargo-deb: make package installs it"
for tool in objcopy:binutils dpkg-shlibdeps:dpkg-dev; do
    command -v "${tool%%:*}" >/dev/null || die "missing ${tool%%:*}; on Debian: apt-get install ${tool##*:}"
done

# What was left by a former run may have pages of verbs that are no more.
rm -rf target/package
mkdir -p target/package/man target/package/completions
# The names of functions stay, for whoever reads a trace; the tables of lines, ten times as large, do not.
objcopy --strip-debug "$binary" target/package/postrider
"$binary" man target/package/man
"$binary" completions bash >target/package/completions/postrider
"$binary" completions zsh >target/package/completions/_postrider
"$binary" completions fish >target/package/completions/postrider.fish

"$cargo_deb" deb --quiet --no-build --no-strip --output target/package/
