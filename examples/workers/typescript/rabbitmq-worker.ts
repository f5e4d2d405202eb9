// Reads file.analysis_completed from RabbitMQ: workers share the queue. There is no order between workers, and an event
// that fails waits for its next attempt while others are handled.

import { connect, type ConsumeMessage } from "amqplib";
import { handle, TOPIC } from "./work.ts";

const DEAD = "analysis.dead";

const connection = await connect(process.env.AMQP_URL ?? "amqp://127.0.0.1");
const channel = await connection.createConfirmChannel();
connection.on("error", fatal);
channel.on("error", fatal);
connection.on("close", () => stopping || fatal("the connection was closed"));
await channel.assertQueue(DEAD, { durable: true, arguments: { "x-queue-type": "quorum" } });
await channel.prefetch(10);

let stopping = false;
let last = Promise.resolve(); // one event at a time
// The queue is hookbridge's: until it exists, this ends with an error, and Kubernetes starts the worker again.
const { consumerTag } = await channel.consume(TOPIC, (message) => {
  if (message === null) return fatal("the queue was deleted");
  last = last.then(() => (stopping ? undefined : one(message))).catch(fatal);
});
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, stop);
console.log("ready");

async function one(message: ConsumeMessage): Promise<void> {
  const { headers = {}, ...properties } = message.properties;
  const id = String(headers.cloudEvents_id);
  const outcome = await handle(id, message.content, {
    urlexpiry: headers.cloudEvents_urlexpiry,
    encoding: properties.contentEncoding,
    dataref: headers.cloudEvents_dataref,
  });
  if (outcome.kind === "retry") {
    setTimeout(() => stopping || channel.nack(message), outcome.after * 1000);
    return;
  }
  if (outcome.kind === "dead") {
    const reason = { "dead-letter-reason": outcome.reason };
    channel.sendToQueue(DEAD, message.content, { ...properties, headers: { ...headers, ...reason }, mandatory: true });
    await channel.waitForConfirms(); // before the event is acknowledged
    console.log(`dead: ${id}: ${outcome.reason}`);
  } else {
    console.log(`done: ${id}`);
  }
  channel.ack(message);
}

async function stop(): Promise<void> {
  stopping = true;
  await channel.cancel(consumerTag);
  await last;
  await channel.close(); // the acknowledgements have arrived; what has none goes back to the queue
  await connection.close();
  process.exit(0);
}

function fatal(error: unknown): never {
  console.error(error);
  process.exit(1);
}
