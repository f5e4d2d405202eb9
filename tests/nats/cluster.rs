//! A cluster of three servers.

use std::net::TcpListener;

use futures_util::future::join_all;
use hookbridge::message::Outcome;

use crate::rig::{STREAM, count, jetstream, open, opening, publish, up};
use crate::support::brokers::{Broker, Kind, With};
use crate::support::event::{event, message};
use crate::support::wait::{SOON, until};

/// Starts three servers at the same time, because none is ready before the cluster has a leader.
fn start_cluster(conf: &str) -> Vec<Broker> {
    let free: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    let ports: Vec<_> = free.iter().map(|port| port.local_addr().expect("an address").port()).collect();
    drop(free);
    let routes: Vec<_> = ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
    let starting = ports.iter().map(|port| {
        let conf = format!(
            "cluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [ {} ] }}\n{}",
            routes.join(", "),
            conf.replace("PORT", &port.to_string()),
        );
        std::thread::spawn(move || Broker::start_with(Kind::Nats, With { conf: &conf, ..With::default() }))
    });
    let starting: Vec<_> = starting.collect();
    starting.into_iter().map(|thread| thread.join().expect("a server")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_of_one_server_loses_no_event() {
    let servers = tokio::task::spawn_blocking(|| start_cluster("")).await.expect("three servers");
    // Only one address is configured: the client discovers the others.
    let destination = open(opening(&[servers[0].url()], &["a"]));
    up(&*destination).await;
    let context = jetstream(servers[1].url()).await;
    let mut stream = context.get_stream(STREAM).await.expect("the stream");
    assert_eq!(stream.info().await.expect("its settings").config.num_replicas, 3);
    let report = destination.probe().await.expect("a report").join("\n");
    assert!(report.contains("cluster test") && !report.contains("replica"), "{report}");

    let send = |round: usize| {
        let confirms =
            (0..200).map(|number| destination.publish(message("a", event(&format!("msg_{round}_{number}")))));
        join_all(confirms.collect::<Vec<_>>())
    };
    for outcome in send(0).await {
        assert_eq!(outcome, Outcome::Confirmed);
    }
    let in_flight = send(1);
    servers[0].kill();
    let mut unconfirmed = vec!["after".to_owned()];
    for (number, outcome) in in_flight.await.into_iter().enumerate() {
        if outcome != Outcome::Confirmed {
            unconfirmed.push(format!("msg_1_{number}"));
        }
    }
    for id in &unconfirmed {
        let confirmed = async || (publish(&*destination, "a", id).await == Outcome::Confirmed).then_some(());
        until("confirmed by the remaining servers", 2 * SOON, confirmed).await;
    }
    up(&*destination).await;
    assert_eq!(count(&jetstream(servers[2].url()).await).await, 401);
}

/// Each server has less room than recommended: the stream gets fewer bytes, not fewer replicas.
#[tokio::test(flavor = "multi_thread")]
async fn small_servers_get_a_smaller_stream_of_three_replicas() {
    let data = tempfile::tempdir().expect("a directory");
    let conf = format!("jetstream {{ store_dir: \"{}/PORT\", max_file_store: 1GB }}\n", data.path().display());
    let servers = tokio::task::spawn_blocking(move || start_cluster(&conf)).await.expect("three servers");
    let destination = open(opening(&[servers[0].url()], &["a"]));
    up(&*destination).await;
    let mut stream = jetstream(servers[1].url()).await.get_stream(STREAM).await.expect("the stream");
    let created = stream.info().await.expect("its settings").config.clone();
    assert_eq!(created.num_replicas, 3);
    assert!((256 << 20..1 << 30).contains(&created.max_bytes), "{}", created.max_bytes);
    assert_eq!(publish(&*destination, "a", "msg_1").await, Outcome::Confirmed);
}
