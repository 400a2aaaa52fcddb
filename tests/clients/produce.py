"""Produces records with one of the Kafka clients that the first users have.

usage: produce.py CLIENT BROKERS TOPIC RECORDS CODEC...

RECORDS is a file with one JSON object a line: `key` (or null) and `value`, both in base64. With each codec all of them go, in order, to
partition 0 of TOPIC.CODEC. For each codec one line is printed: `CODEC ok`, `CODEC cannot WHY` (this client, as it is installed, does not
know the codec) or `CODEC failed WHY`. Runs on Python 3.6 and later, because the oldest client does not run on anything newer.
"""

import asyncio
import base64
import json
import sys

HEADERS = [("trace", b"t1"), ("bytes", b"\xff\x00")]
SECONDS = 30


class Cannot(Exception):
    """The client does not know this codec."""


def kafka_python(brokers, topic, records, codec):
    """kafka-python, of whatever version."""
    import kafka

    compression = None if codec == "none" else codec
    version = tuple(int(part) for part in kafka.__version__.split(".")[:2])
    if codec == "zstd" and version < (2, 0):
        raise Cannot("kafka-python has it since 2.0")
    if codec == "lz4" and version < (1, 4):
        raise Cannot("what it makes with today's lz4 library is refused by Kafka")
    try:
        producer = kafka.KafkaProducer(
            bootstrap_servers=brokers, acks="all", linger_ms=50, compression_type=compression
        )
    except AssertionError as error:
        raise Cannot(str(error) or "its library is not installed")
    # Headers came with 1.4.1 and format v2.
    more = {"headers": HEADERS} if version >= (1, 4) else {}
    sent = [producer.send(topic, value=v, key=k, partition=0, **more) for k, v in records]
    for future in sent:
        future.get(timeout=SECONDS)
    producer.close()


def confluent(brokers, topic, records, codec):
    """confluent-kafka: librdkafka."""
    from confluent_kafka import Producer

    errors = []
    producer = Producer(
        {"bootstrap.servers": brokers, "compression.type": codec, "linger.ms": 50, "acks": "all"}
    )
    for key, value in records:
        producer.produce(
            topic,
            value,
            key,
            partition=0,
            headers=HEADERS,
            on_delivery=lambda error, _: errors.append(error) if error else None,
        )
    left = producer.flush(SECONDS)
    if left or errors:
        raise RuntimeError("{} not sent, {}".format(left, errors[:1]))


def aio(brokers, topic, records, codec):
    """aiokafka, idempotent."""
    from aiokafka import AIOKafkaProducer

    async def produce():
        try:
            producer = AIOKafkaProducer(
                bootstrap_servers=brokers,
                compression_type=None if codec == "none" else codec,
                enable_idempotence=True,
                linger_ms=50,
            )
        except RuntimeError as error:
            raise Cannot(str(error))
        await producer.start()
        try:
            sent = [
                await producer.send(topic, value, key, partition=0, headers=HEADERS)
                for key, value in records
            ]
            await asyncio.wait_for(asyncio.gather(*sent), SECONDS)
        finally:
            await producer.stop()

    asyncio.run(produce())


def pykafka(brokers, topic, records, codec):
    """pykafka: format v0, without timestamps."""
    from pykafka import KafkaClient
    from pykafka.common import CompressionType

    kind = getattr(CompressionType, codec.upper(), None)
    if kind is None:
        raise Cannot("pykafka does not know it")
    if codec == "lz4":
        raise Cannot("its frames are cut in the wrong place, and Kafka refuses them")
    if codec == "snappy":
        from pykafka.utils import compression

        if not compression.snappy:
            raise Cannot("its library is not installed")
    client = KafkaClient(hosts=brokers)
    producer = client.topics[topic.encode()].get_producer(
        compression=kind, delivery_reports=True, linger_ms=50, required_acks=-1
    )
    with producer:
        for key, value in records:
            producer.produce(value, partition_key=key)
        for _ in records:
            _, error = producer.get_delivery_report(block=True, timeout=SECONDS)
            if error is not None:
                raise error


CLIENTS = {
    "kafka-python": kafka_python,
    "kafka-python-1.4.7": kafka_python,
    "kafka-python-1.3.3": kafka_python,
    "confluent-kafka": confluent,
    "aiokafka": aio,
    "pykafka": pykafka,
}


def decoded(text):
    return None if text is None else base64.b64decode(text)


def main(client, brokers, topic, path, *codecs):
    with open(path) as lines:
        rows = [json.loads(line) for line in lines]
    records = [(decoded(row["key"]), decoded(row["value"])) for row in rows]
    for codec in codecs:
        said = "ok"
        try:
            CLIENTS[client](brokers, "{}.{}".format(topic, codec), records, codec)
        except Cannot as error:
            said = "cannot {}".format(error)
        except Exception as error:  # pylint: disable=broad-except
            said = "failed {!r}".format(error)
        print(codec, " ".join(said.split()), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
