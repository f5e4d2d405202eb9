//! Reads file.analysis_completed from NATS JetStream: workers share the durable consumer `analysis`. There is no order
//! between workers, and an event that fails waits for its next attempt while others are handled.

use std::time::Duration;

use anyhow::Context as _;
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, AckKind, Message, stream};
use futures_util::{FutureExt as _, StreamExt as _};
use percent_encoding::percent_decode_str;
use tokio::signal::unix::{SignalKind, signal};
use work::{Outcome, TOPIC, Worker};

mod videogen_events;
mod work;

const STREAM: &str = "EVENTS";
const CONSUMER: &str = "analysis";
const DEAD_STREAM: &str = "ANALYSIS_DEAD";
const DEAD: &str = "analysis.dead";
/// Then another worker gets the event.
const ACK_WAIT: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let mut stop = signal(SignalKind::terminate())?;
    let mut worker = Worker::open()?;
    let url = std::env::var("NATS_URL").context("NATS_URL")?;
    let client = async_nats::connect(url.split(',').collect::<Vec<_>>()).await?;
    let context = jetstream::new(client);
    let dead = stream::Config { name: DEAD_STREAM.into(), subjects: vec![DEAD.into()], ..Default::default() };
    context.get_or_create_stream(dead).await?;
    let consumer = pull::Config {
        durable_name: Some(CONSUMER.into()),
        filter_subject: TOPIC.into(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        ..Default::default()
    };
    // The stream is hookbridge's: until it exists, this ends with an error, and Kubernetes starts the worker again.
    let stream = context.get_stream(STREAM).await.context("the stream EVENTS")?;
    let consumer = stream.get_or_create_consumer(CONSUMER, consumer).await?;
    println!("ready");
    while stop.recv().now_or_never().is_none() {
        // One at a time: the time to acknowledge an event runs from its delivery, also while it waits in a buffer.
        let batch = consumer.batch().max_messages(1).expires(Duration::from_secs(1)).messages().await;
        match batch {
            Ok(mut batch) => {
                while let Some(Ok(message)) = batch.next().await {
                    one(&context, &mut worker, message).await?;
                }
            }
            Err(error) => println!("nats: {error}"), // the library connects again
        }
    }
    Ok(())
}

async fn one(context: &jetstream::Context, worker: &mut Worker, message: Message) -> anyhow::Result<()> {
    let headers = message.headers.clone().unwrap_or_default();
    let header = |name: &str| Some(percent_decode_str(headers.get(name)?.as_str()).decode_utf8_lossy().into_owned());
    let (id, urlexpiry) = (header("ce-id").unwrap_or_default(), header("ce-urlexpiry"));
    let alive = async {
        loop {
            tokio::time::sleep(ACK_WAIT / 3).await;
            if let Err(error) = message.ack_with(AckKind::Progress).await {
                println!("nats: {error}");
            }
        }
    };
    let outcome = tokio::select! {
        outcome = worker.handle(&id, &message.payload, urlexpiry.as_deref()) => outcome?,
        never = alive => never, // however long the work takes
    };
    match outcome {
        Outcome::Retry(after) => {
            message.ack_with(AckKind::Nak(Some(after))).await.map_err(anyhow::Error::from_boxed)?
        }
        Outcome::Dead(reason) => {
            let ours = |(name, _): &(&_, &_)| AsRef::<str>::as_ref(*name).starts_with("ce-");
            let mut all: HeaderMap =
                headers.iter().filter(ours).map(|(name, it)| (name.clone(), it[0].clone())).collect();
            all.insert("Nats-Msg-Id", id.as_str());
            all.insert("dead-letter-reason", reason.replace(['\r', '\n'], " "));
            context.publish_with_headers(DEAD, all, message.payload.clone()).await?.await?; // confirmed, then acknowledged
            println!("dead: {id}: {reason}");
            message.double_ack().await.map_err(anyhow::Error::from_boxed)?;
        }
        Outcome::Done => {
            println!("done: {id}");
            message.double_ack().await.map_err(anyhow::Error::from_boxed)?;
        }
    }
    Ok(())
}
