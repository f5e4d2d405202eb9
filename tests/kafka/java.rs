//! Records as Kafka's Java consumer reads them, in the partitions that Java's partitioner chooses.

use hookbridge::message::Message;
use hookbridge::template::partition;

use crate::suite::Ending;
use crate::suite::bench::{all, publish_all, up};
use crate::support::brokers::{Broker, Kind};
use crate::support::event::{event, message, scope};
use crate::{open, opening};

#[tokio::test(flavor = "multi_thread")]
async fn java_reads_key_headers_and_value_from_the_partition_that_java_chooses() {
    // The first six are in Kafka's own test of murmur2.
    const KEYS: [&str; 9] = [
        "21",
        "foobar",
        "a-little-bit-long-string",
        "a-little-bit-longer-string",
        "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
        "abc",
        "",
        "ключ €",
        "vg_run_0123456789",
    ];
    let (broker, scope) = (Broker::start(Kind::Kafka), scope());
    let mut opening = opening(&scope, broker.url(), &["a"]);
    opening.settings.partitions = 12;
    opening.settings.forward_signature = true;
    let (handle, topic) = (open(opening), format!("{scope}.a"));
    up(&handle).await;
    let messages = KEYS.iter().map(|key| Message { key: Some((*key).to_owned()), ..message(&topic, event("msg_1")) });
    all(&publish_all(&handle, messages).await, Ending::Confirmed);
    let mut without = event("msg_2");
    without.partitionkey = None;
    all(&publish_all(&handle, [message(&topic, without)]).await, Ending::Confirmed);

    let count = (KEYS.len() + 1).to_string();
    let mut arguments =
        vec!["consumer.ConsoleConsumer", "--topic", &topic, "--from-beginning", "--max-messages", &count];
    for property in ["print.partition=true", "print.headers=true", "print.key=true", "key.separator=<>"] {
        arguments.extend(["--formatter-property", property]);
    }
    arguments.extend(["--formatter-property", "headers.separator=;", "--formatter-property", "null.literal=NONE"]);
    let printed = broker.tool(&arguments);
    // Values contain line breaks, so a record begins at its partition.
    let records: Vec<_> = printed.split("Partition:").skip(1).collect();
    assert_eq!(records.len(), KEYS.len() + 1, "{printed}");
    for key in KEYS {
        let found = records.iter().find(|record| record.split("<>").nth(2) == Some(key));
        let parts: Vec<_> = found.unwrap_or_else(|| panic!("no {key:?} in {printed}")).split("<>").collect();
        assert_eq!(parts[0], partition(key.as_bytes(), 12).to_string(), "{key:?}");
        let headers: Vec<_> = parts[1].split(';').collect();
        for header in ["ce_id:msg_1", "ce_specversion:1.0", "ce_tenant:größe", "content-type:application/json"] {
            assert!(headers.contains(&header), "no {header} in {headers:?}");
        }
        assert!(headers.contains(&"webhook-signature:v1,c2lnbmF0dXJl"), "{headers:?}");
        assert_eq!(parts[3].trim_end().as_bytes(), event("msg_1").data, "the signed bytes");
    }
    assert!(
        records.iter().any(|record| record.split("<>").nth(2) == Some("NONE")),
        "an event without a key has a null key: {printed}"
    );
}
