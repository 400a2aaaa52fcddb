#!/bin/sh
# Fetches the jars of one version of Apache Kafka through Maven.
#
# usage: tests/kafka/fetch.sh VERSION DIRECTORY
set -eu

version=$1
directory=$2
pom=$(dirname "$0")/pom.xml
fresh=$directory/libs.fresh
log=$directory/maven.log

mkdir -p "$directory"
rm -rf "$fresh"
printf 'fetching Apache Kafka %s (46 MB, once) ...\n' "$version"
if ! mvn -q -B -f "$pom" "-Dkafka.version=$version" dependency:copy-dependencies \
    "-DoutputDirectory=$fresh" >"$log" 2>&1 </dev/null; then
    grep -m 3 ERROR "$log" >&2 || tail -n 3 "$log" >&2
    printf 'postrider: Maven could not fetch Apache Kafka %s; the whole log is in %s\n' "$version" "$log" >&2
    exit 1
fi
# Whole or not at all: a copy that was interrupted never gets the name that the tests look for.
rm -rf "$directory/libs"
mv "$fresh" "$directory/libs"
