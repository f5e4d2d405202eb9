"""Reads file.analysis_completed from Kafka: the group `analysis` shares the partitions. Events with the same key are
handled in their order, so an event that fails holds back those behind it in its partition until it is done or dead."""

import os
import signal
import threading

from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from work import TOPIC, Dead, Retry, handle, open_database

GROUP, DEAD = "analysis", "analysis.dead"
BROKERS = {"bootstrap.servers": os.environ["KAFKA_BROKERS"]}

stopping = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stopping.set())

database = open_database()
admin = AdminClient(BROKERS)
for created in admin.create_topics([NewTopic(DEAD, num_partitions=1)]).values():
    try:
        created.result()
    except KafkaException as error:
        if error.args[0].name() != "TOPIC_ALREADY_EXISTS":
            raise
producer = Producer(BROKERS | {"enable.idempotence": True})
consumer = Consumer(
    BROKERS
    | {
        "group.id": GROUP,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,  # an offset is committed after the work
        "partition.assignment.strategy": "cooperative-sticky",
        "max.poll.interval.ms": 900_000,  # longer than all attempts of one event
        "topic.metadata.refresh.interval.ms": 10_000,  # until hookbridge has created the topic
    }
)
consumer.subscribe([TOPIC])
print("ready", flush=True)

while not stopping.is_set():
    message = consumer.poll(0.5)
    if message is None:
        continue
    if message.error():
        print(f"kafka: {message.error()}", flush=True)
        continue
    headers = {name: value.decode() for name, value in message.headers() or []}
    id, outcome = headers["ce_id"], Retry(0)
    more = headers.get("ce_urlexpiry"), headers.get("content-encoding"), headers.get("ce_dataref")
    while isinstance(outcome, Retry) and not stopping.wait(outcome.after):
        outcome = handle(database, id, message.value(), *more)
    if isinstance(outcome, Retry):
        break  # not committed: the next worker reads it again
    if isinstance(outcome, Dead):
        failures = []
        producer.produce(
            DEAD,
            message.value(),
            message.key(),
            headers=headers | {"dead-letter-reason": outcome.reason},
            on_delivery=lambda error, _: failures.append(error) if error else None,
        )
        if producer.flush(60) or failures:
            raise SystemExit(f"the dead letter of {id} was not taken: {failures}")
    print(f"dead: {id}: {outcome.reason}" if outcome else f"done: {id}", flush=True)
    try:
        consumer.commit(message, asynchronous=False)
    except KafkaException as error:
        print(f"kafka: {error}", flush=True)  # the partition has another owner, which finds the event done
consumer.close()
