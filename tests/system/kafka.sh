# shellcheck shell=bash
# shellcheck disable=SC2154,SC2317  # what is used here is the caller's, and what is called by name is reached
# A real Apache Kafka and a receiver beside the machine of unit.sh: processes of this system, in the network of that one.
#
# The caller has "${in_network[@]}", what stands before a command to be run there, and $work, die and within. `make kafka` fetches the jars.

KAFKA_LIBS=$PROJECT/target/kafka/${POSTRIDER_KAFKA_VERSION:-4.1.0}/libs
kafka_pid=""
receiver_pid=""

# java_in_network CLASS [ARGUMENT...]
java_in_network() {
    "${in_network[@]}" java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$KAFKA_LIBS/*" "$@"
}

# start_kafka [MAKES_TOPICS]: an empty one on 127.0.0.1:9092, and waits until it answers. With `true` it makes topics when they are written to.
start_kafka() {
    [ -d "$KAFKA_LIBS" ] || die "no Apache Kafka in $KAFKA_LIBS: make kafka fetches it"
    rm -rf "$work/kafka"
    mkdir "$work/kafka"
    printf '%s\n' process.roles=broker,controller node.id=1 controller.quorum.voters=1@127.0.0.1:9093 \
        listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093 advertised.listeners=PLAINTEXT://127.0.0.1:9092 \
        controller.listener.names=CONTROLLER "log.dirs=$work/kafka/data" auto.create.topics.enable="${1:-false}" \
        offsets.topic.replication.factor=1 offsets.topic.num.partitions=4 transaction.state.log.replication.factor=1 \
        transaction.state.log.min.isr=1 transaction.state.log.num.partitions=4 group.initial.rebalance.delay.ms=0 \
        >"$work/kafka/server.properties"
    java_in_network kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAA -c "$work/kafka/server.properties" \
        >"$work/kafka/log" 2>&1 </dev/null || { cat "$work/kafka/log" >&2; die "the broker's folder cannot be made"; }
    # Not by the function: its process would be another.
    "${in_network[@]}" java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$KAFKA_LIBS/*" kafka.Kafka "$work/kafka/server.properties" \
        >>"$work/kafka/log" 2>&1 </dev/null &
    kafka_pid=$!
    kafka_listens() { "${in_network[@]}" bash -c ': 2>/dev/null </dev/tcp/127.0.0.1/9092' 2>/dev/null; }
    within 90 kafka_listens || { tail -n 20 "$work/kafka/log" >&2; die "the broker does not answer"; }
}

# topic NAME PARTITIONS
topic() {
    java_in_network org.apache.kafka.tools.TopicCommand --bootstrap-server 127.0.0.1:9092 --create --topic "$1" --partitions "$2" \
        --replication-factor 1 >"$work/tool.log" 2>&1 </dev/null || { cat "$work/tool.log" >&2; die "no topic $1"; }
}

# produce TOPIC RECORDS BYTES: each record is of so many bytes.
produce() {
    java_in_network org.apache.kafka.tools.ProducerPerformance --topic "$1" --num-records "$2" --record-size "$3" --throughput -1 \
        --producer-props bootstrap.servers=127.0.0.1:9092 max.request.size=4000000 >"$work/tool.log" 2>&1 </dev/null \
        || { cat "$work/tool.log" >&2; die "nothing produced to $1"; }
}

# start_receiver: on 127.0.0.1:8000. It takes its time for each request, and writes path and webhook-id of each down.
start_receiver() {
    "${in_network[@]}" python3 "$PROJECT/tests/system/receiver.py" 8000 "$work/received" >"$work/receiver.log" 2>&1 </dev/null &
    receiver_pid=$!
    receiver_listens() { "${in_network[@]}" bash -c ': 2>/dev/null </dev/tcp/127.0.0.1/8000' 2>/dev/null; }
    within 20 receiver_listens || { cat "$work/receiver.log" >&2; die "the receiver does not start"; }
}

# received PATH: how many different deliveries have come there.
received() { sort -u "$work/received" | grep -c "^$1 " || true; }

end_kafka() {
    local pid
    for pid in $kafka_pid $receiver_pid; do
        kill -9 "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    kafka_pid="" receiver_pid=""
}
