#!/bin/sh
# Verifies signed requests as receivers do, with the `standardwebhooks` package of one language, fetched once into DIR. It knows no Ed25519: for
# that Python's `cryptography` and Node's own library are asked.
# Ends with 77 when the language is not on this machine.
#
# usage: tests/peers/standardwebhooks.sh python|node DIR REQUESTS.json
set -eu

language=$1
dir=$2
requests=$(realpath "$3")
here=$(realpath "$(dirname "$0")")
mkdir -p "$dir"
dir=$(realpath "$dir")

case $language in
python)
    command -v python3 >/dev/null 2>&1 || exit 77
    if ! [ -e "$dir/fetched-both" ]; then
        python3 -m venv "$dir" >&2
        "$dir/bin/pip" install --quiet --disable-pip-version-check --no-input standardwebhooks==1.0.0 cryptography==48.0.0 >&2
        touch "$dir/fetched-both"
    fi
    exec "$dir/bin/python3" "$here/verify.py" "$requests"
    ;;
node)
    { command -v node && command -v npm; } >/dev/null 2>&1 || exit 77
    if ! [ -e "$dir/fetched" ]; then
        npm install --silent --no-audit --no-fund --prefix "$dir" standardwebhooks@1.0.0 >&2
        touch "$dir/fetched"
    fi
    NODE_PATH=$dir/node_modules exec node "$here/verify.js" "$requests"
    ;;
esac
