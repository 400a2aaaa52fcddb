#!/bin/sh
# Says what is missing to build Postrider, to test it and to package it, in one line and before anything is started. Root on Debian gets it
# installed instead.
#
# usage: tests/tools.sh build | test | package
set -eu

have() { command -v "$1" >/dev/null 2>&1; }
die() { printf 'postrider: %s\n' "$1" >&2; exit 1; }

# need COMMAND PACKAGE: notes the command and what brings it when it is not there.
need() {
    have "$1" || lack "$1" "$2"
}
lack() {
    missing="$missing $1"
    case " $packages " in *" $2 "*) ;; *) packages="$packages $2" ;; esac
}

# look build | test | package: finds out what is missing.
look() {
    missing=""
    packages=""
    # perl is OpenSSL's configure, g++ librdkafka's; both come with Debian's build-essential.
    for tool in cc g++ make perl; do need "$tool" build-essential; done
    if [ "$1" = test ]; then
        need java openjdk-17-jre-headless
        need mvn maven
        need python3 python3
        # Debian's python3 comes without what makes virtual environments.
        python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || lack python3-venv python3-venv
    fi
    if [ "$1" = package ]; then
        need objcopy binutils
        need dpkg-shlibdeps dpkg-dev
    fi
}

look "${1:-build}"
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && have apt-get; then
        printf 'postrider: installing%s (missing:%s)\n' "$packages" "$missing"
        log=$(mktemp)
        # shellcheck disable=SC2086  # one word per package
        if ! { DEBIAN_FRONTEND=noninteractive; export DEBIAN_FRONTEND
               apt-get update && apt-get install -y --no-install-recommends $packages; } >"$log" 2>&1 </dev/null; then
            tail -n 5 "$log" >&2
            die "apt-get could not install$packages; the whole log is in $log"
        fi
        rm -f "$log"
        look "${1:-build}"
        [ -z "$missing" ] || die "still missing after apt-get installed its packages:$missing"
    else
        die "missing$missing; on Debian: apt-get install$packages"
    fi
fi

have cargo || die "missing cargo; install a Rust toolchain, 1.95 or later: https://rustup.rs"
if [ "${1:-build}" = test ]; then
    cargo fmt --version >/dev/null 2>&1 || die "missing rustfmt; install it: rustup component add rustfmt clippy"
    cargo clippy --version >/dev/null 2>&1 || die "missing clippy; install it: rustup component add rustfmt clippy"
fi
