// Reads file.analysis_completed from NATS JetStream: workers share the durable consumer `analysis`. There is no order
// between workers, and an event that fails waits for its next attempt while others are handled.

import { AckPolicy, DeliverPolicy, type JsMsg, jetstream, jetstreamManager, StorageType } from "@nats-io/jetstream";
import { connect, headers, nanos } from "@nats-io/transport-node";
import { handle, TOPIC } from "./work.ts";

const [STREAM, CONSUMER, DEAD_STREAM, DEAD] = ["EVENTS", "analysis", "ANALYSIS_DEAD", "analysis.dead"];
const ACK_WAIT = 30_000; // then another worker gets the event

const servers = (process.env.NATS_URL ?? "nats://127.0.0.1:4222").split(",");
const connection = await connect({ servers, maxReconnectAttempts: -1 });
const manager = await jetstreamManager(connection);
const js = jetstream(connection);
// The stream EVENTS is hookbridge's: until it exists, this ends with an error, and Kubernetes starts the worker again.
await manager.consumers.info(STREAM, CONSUMER).catch(() =>
  manager.consumers.add(STREAM, {
    durable_name: CONSUMER,
    filter_subject: TOPIC,
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    ack_wait: nanos(ACK_WAIT),
  }),
);
await manager.streams.info(DEAD_STREAM).catch(() =>
  manager.streams.add({ name: DEAD_STREAM, subjects: [DEAD], storage: StorageType.File }),
);
const consumer = await js.consumers.get(STREAM, CONSUMER);
let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, () => (stopping = true));
console.log("ready");
while (!stopping) {
  // One at a time: the time to acknowledge an event runs from its delivery, also while it waits in a buffer.
  const message = await consumer.next({ expires: 1_000 });
  if (message) await one(message);
}
await connection.drain();

async function one(message: JsMsg): Promise<void> {
  const header = (name: string) => decodeURIComponent(message.headers?.get(name) ?? "") || undefined;
  const id = header("ce-id") ?? "";
  const alive = setInterval(() => message.working(), ACK_WAIT / 3); // however long the work takes
  try {
    const outcome = await handle(id, message.data, {
      urlexpiry: header("ce-urlexpiry"),
      encoding: header("content-encoding"),
      dataref: header("ce-dataref"),
    });
    if (outcome.kind === "retry") return message.nak(outcome.after * 1000);
    if (outcome.kind === "dead") {
      const all = headers();
      for (const [name, values] of message.headers ?? []) if (/^(ce-|content-)/.test(name)) all.set(name, values[0] ?? "");
      all.set("dead-letter-reason", outcome.reason.replaceAll(/\s+/g, " "));
      await js.publish(DEAD, message.data, { headers: all, msgID: id }); // confirmed before the event is acknowledged
      console.log(`dead: ${id}: ${outcome.reason}`);
    } else {
      console.log(`done: ${id}`);
    }
    await message.ackAck();
  } finally {
    clearInterval(alive);
  }
}
