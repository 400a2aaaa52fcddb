#!/bin/sh
# Makes a Python environment for each Kafka client that the first users have; done once, kept in DIRECTORY/<name>.
#
# A client that cannot be had on this machine leaves its reason in DIRECTORY/<name>.why: the test says it, and fails when too few
# clients are left. A client that could not be had is tried again at the next call.
#
# usage: tests/clients/prepare.sh DIRECTORY
set -eu

root=$1
mkdir -p "$root"
if ! python3 -c 'import venv, ensurepip' >/dev/null 2>&1; then
    printf 'postrider: missing python3 with venv; on Debian: apt-get install python3 python3-venv\n' >&2
    exit 1
fi

# python_up_to MINOR: a Python 3 that is not newer than 3.MINOR, the newest of them first; nothing when there is none.
python_up_to() {
    minor=$1
    while [ "$minor" -ge 4 ]; do
        for python in "python3.$minor" "${PYENV_ROOT:-$HOME/.pyenv}/versions/3.$minor".*/bin/python3 python3; do
            # A name on the path can be a shim with nothing behind it: what counts is what it says.
            said=$("$python" -c 'import sys, venv, ensurepip; print(sys.version_info[1])' 2>/dev/null) || continue
            [ "$said" = "$minor" ] && { printf '%s' "$python"; return; }
        done
        minor=$((minor - 1))
    done
}

# client NAME MODULE PYTHON PACKAGE [CODEC-PACKAGE...]: codecs come when they can be had ready-made; the client runs without them.
client() {
    name=$1 module=$2 python=$3 package=$4
    shift 4
    home=$root/$name why=$root/$name.why
    stamp="$python $package $*"
    [ "$(cat "$home/stamp" 2>/dev/null)" = "$stamp" ] && return
    rm -rf "$home" "$why"
    log=$root/$name.log
    printf 'preparing the client %s (once) ...\n' "$name"
    if {
        "$python" -m venv "$home" &&
            # The pip that comes with an old Python cannot read what is published today.
            { [ "$("$python" -c 'import sys; print(sys.version_info[1])')" -ge 7 ] || "$home/bin/pip" install 'pip<22'; } &&
            "$home/bin/pip" install "$package" &&
            for codec in "$@"; do "$home/bin/pip" install --only-binary :all: "$codec" || true; done &&
            "$home/bin/python" -c "import $module"
    } >"$log" 2>&1 </dev/null; then
        printf '%s\n' "$stamp" >"$home/stamp"
    else
        rm -rf "$home"
        printf '%s (the whole log: %s)\n' "$(grep -v '^ *$' "$log" | tail -n 1)" "$log" >"$why"
    fi
}

# No newer than those that were tried: the old clients know nothing of what comes.
snappy='python-snappy<=0.7.3' lz4='lz4<=4.4.5' zstd='zstandard<=0.25.0' cramjam='cramjam<=2.14.0'
client kafka-python kafka python3 'kafka-python>=3,<4' "$snappy" "$lz4" "$zstd"
client confluent-kafka confluent_kafka python3 confluent-kafka
client aiokafka aiokafka python3 aiokafka "$cramjam"
# These were written before Python 3.12.
older=$(python_up_to 11)
client kafka-python-1.4.7 kafka "${older:-python3}" 'kafka-python==1.4.7' "$snappy" "$lz4"
client pykafka pykafka "${older:-python3}" 'pykafka==2.8.0' "$snappy"
# The version that GraphSpace pinned has a parameter named `async`, which is a keyword since Python 3.7.
oldest=$(python_up_to 6)
if [ -n "$oldest" ]; then
    client kafka-python-1.3.3 kafka "$oldest" 'kafka-python==1.3.3' "$snappy" "$lz4"
else
    printf 'needs Python 3.6 or older, and there is none here\n' >"$root/kafka-python-1.3.3.why"
fi
