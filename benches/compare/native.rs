//! A broker's own client: publishers that each wait for the confirm of their message before they send the next. This is the
//! most that a bridge which answers after the confirm can reach with as many requests in flight.

use std::sync::Arc;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::util::Timeout;

use super::delivery::Deliveries;
use super::load::{Load, Sender};
use super::row::Row;

/// The subject, topic and queue.
const NAME: &str = "native";

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
enum Client {
    Nats(async_nats::jetstream::Context),
    Kafka(FutureProducer),
    Rabbitmq(lapin::Channel),
}

struct Publisher {
    client: Client,
    deliveries: Arc<Deliveries>,
    reported: bool,
}

/// Publishes from this process, whose CPU time is measured.
pub async fn run(client: &str, url: &str, load: &Load) -> Row {
    let (client, _connection) = match client {
        "nats" => (nats(url).await.expect("a stream"), None),
        "kafka" => (kafka(url).await.expect("a topic"), None),
        "rabbitmq" => rabbitmq(url).await.map(|(client, connection)| (client, Some(connection))).expect("a queue"),
        other => panic!("no client is called {other}"),
    };
    let deliveries = Deliveries::new(load.body_bytes);
    let one = || Publisher { client: client.clone(), deliveries: Arc::clone(&deliveries), reported: false };
    let publishers = std::iter::repeat_with(one).take(load.connections).collect();
    load.run(&format!("native-{}", client.name()), std::process::id(), publishers).await
}

async fn nats(url: &str) -> Result<Client, Failure> {
    let context = async_nats::jetstream::new(async_nats::connect(url).await?);
    let stream = async_nats::jetstream::stream::Config {
        name: NAME.into(),
        subjects: vec![NAME.into()],
        ..async_nats::jetstream::stream::Config::default()
    };
    context.get_or_create_stream(stream).await?;
    Ok(Client::Nats(context))
}

async fn kafka(url: &str) -> Result<Client, Failure> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", url).set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "0");
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    // As many partitions as topics of the bridge. The result of an existing topic is an error that does not matter.
    let topic = NewTopic::new(NAME, 6, TopicReplication::Fixed(1));
    admin.create_topics([&topic], &AdminOptions::new()).await?;
    Ok(Client::Kafka(config.create()?))
}

/// The connection must live as long as the channel.
async fn rabbitmq(url: &str) -> Result<(Client, Connection), Failure> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(NAME.into(), durable, arguments).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok((Client::Rabbitmq(channel), connection))
}

impl Client {
    fn name(&self) -> &'static str {
        match self {
            Client::Nats(_) => "nats",
            Client::Kafka(_) => "kafka",
            Client::Rabbitmq(_) => "rabbitmq",
        }
    }

    async fn publish(&self, id: &str, body: &bytes::Bytes) -> Result<(), Failure> {
        match self {
            Client::Nats(context) => {
                let mut headers = async_nats::HeaderMap::new();
                headers.insert("Nats-Msg-Id", id);
                context.publish_with_headers(NAME, headers, body.clone()).await?.await?;
            }
            Client::Kafka(producer) => {
                let record = FutureRecord::to(NAME).key(id).payload(body.as_ref());
                producer.send(record, Timeout::Never).await.map_err(|(error, _)| error)?;
            }
            Client::Rabbitmq(channel) => {
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let properties = BasicProperties::default().with_delivery_mode(2).with_message_id(id.into());
                let sent = channel.basic_publish("".into(), NAME.into(), options, body, properties).await?;
                match sent.await? {
                    Confirmation::Ack(None) => {}
                    other => return Err(format!("not confirmed: {other:?}").into()),
                }
            }
        }
        Ok(())
    }
}

impl Sender for Publisher {
    async fn send(&mut self) -> u16 {
        let (id, body) = self.deliveries.next();
        match self.client.publish(&id, body).await {
            Ok(()) => 200,
            Err(error) => {
                if !std::mem::replace(&mut self.reported, true) {
                    eprintln!("{error}");
                }
                0
            }
        }
    }
}
