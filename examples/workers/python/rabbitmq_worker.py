"""Reads file.analysis_completed from RabbitMQ: workers share the queue. There is no order between workers, and an event
that fails waits for its next attempt while others are handled."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pika

from work import TOPIC, Dead, Retry, handle, open_database

DEAD = "analysis.dead"

stopping = threading.Event()
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: stopping.set())

database = open_database()
connection = pika.BlockingConnection(pika.URLParameters(os.environ["AMQP_URL"]))
channel = connection.channel()
channel.queue_declare(DEAD, durable=True, arguments={"x-queue-type": "quorum"})
channel.confirm_delivery()  # a dead letter is confirmed before its event is acknowledged
channel.basic_qos(prefetch_count=10)
pool = ThreadPoolExecutor(max_workers=1)
print("ready", flush=True)

# The queue is hookbridge's: until it exists, this ends with an error, and Kubernetes starts the worker again.
for method, properties, body in channel.consume(TOPIC, inactivity_timeout=0.5):
    if stopping.is_set():
        break
    if method is None:
        continue
    id, urlexpiry = properties.headers["cloudEvents_id"], properties.headers.get("cloudEvents_urlexpiry")
    dataref = properties.headers.get("cloudEvents_dataref")
    attempt = pool.submit(handle, database, id, body, urlexpiry, properties.content_encoding, dataref)
    attempt.add_done_callback(lambda _: connection.add_callback_threadsafe(lambda: None))  # ends the wait below
    while not attempt.done():
        connection.process_data_events(time_limit=1)  # heartbeats, however long the work takes
    outcome = attempt.result()
    if isinstance(outcome, Retry):
        tag = method.delivery_tag
        connection.call_later(outcome.after, lambda tag=tag: channel.basic_nack(tag, requeue=True))
        continue
    if isinstance(outcome, Dead):
        properties.headers["dead-letter-reason"] = outcome.reason
        channel.basic_publish("", DEAD, body, properties, mandatory=True)  # raises unless confirmed
    print(f"dead: {id}: {outcome.reason}" if outcome else f"done: {id}", flush=True)
    channel.basic_ack(method.delivery_tag)
connection.close()  # what is not acknowledged goes back to the queue
