#!/bin/sh
# Gets promtool, which judges /metrics: the one on the path, or the one in Debian's package, unpacked here and not installed.
#
# usage: tests/promtool.sh FILE
set -eu

file=$1
folder=$(dirname "$file")
die() { printf 'postrider: %s\n' "$1" >&2; exit 1; }

mkdir -p "$folder"
if found=$(command -v promtool); then
    ln -sf "$found" "$file"
    exit
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg-deb >/dev/null 2>&1; then
    die "missing promtool; install Prometheus (on Debian: apt-get install prometheus)"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Debian's downloader has a user of its own.
chmod 755 "$work"
printf 'fetching promtool (19 MB, once) ...\n'
download() { (cd "$work" && apt-get download prometheus) >"$work/log" 2>&1 </dev/null; }
# The lists may be missing or old; only root can renew them.
if ! download && ! { [ "$(id -u)" = 0 ] && apt-get update >"$work/log" 2>&1 </dev/null && download; }; then
    tail -n 3 "$work/log" >&2
    die "apt-get could not download promtool; on Debian: apt-get install prometheus"
fi
dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -xO ./usr/bin/promtool >"$work/promtool"
chmod 755 "$work/promtool"
# Whole or not at all.
mv "$work/promtool" "$file"
