#!/bin/sh
# Verifies signed requests as receivers do, with the `standardwebhooks` package of one language in
# DIR (see prepare.sh). It knows no Ed25519: for that Python's `cryptography` and Node's own library
# are used. Ends with 77 when the language is not on this machine.
#
# usage: tests/peers/standardwebhooks.sh python|node DIR REQUESTS.json
set -eu

language=$1
requests=$(realpath "$3")
here=$(realpath "$(dirname "$0")")
"$here/prepare.sh" "$language" "$2"
dir=$(realpath "$2")

case $language in
python) exec "$dir/bin/python3" "$here/verify.py" "$requests" ;;
node) NODE_PATH=$dir/node_modules exec node "$here/verify.js" "$requests" ;;
esac
