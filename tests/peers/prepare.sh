#!/bin/sh
# Fetches the `standardwebhooks` package of one language into DIR; done once, by whoever comes
# first: the others wait. Ends with 77 when the language is not on this machine.
#
# usage: tests/peers/prepare.sh python|node DIR
set -eu

language=$1
dir=$2
case $language in
python) command -v python3 >/dev/null 2>&1 || exit 77 ;;
node) { command -v node && command -v npm; } >/dev/null 2>&1 || exit 77 ;;
esac
mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
[ -e "$dir/prepared" ] && exit
# What was begun and not ended is begun anew.
rm -rf "$dir"
mkdir -p "$dir"
printf 'preparing the verifier of signatures in %s (once) ...\n' "$language" >&2
case $language in
python)
    python3 -m venv "$dir" >&2
    "$dir/bin/pip" install --quiet --disable-pip-version-check --no-input standardwebhooks==1.0.0 cryptography==48.0.0 >&2
    ;;
node) npm install --silent --no-audit --no-fund --prefix "$dir" standardwebhooks@1.0.0 >&2 ;;
esac
touch "$dir/prepared"
