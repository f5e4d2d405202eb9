use std::sync::Arc;

use super::*;

fn cluster() -> Cluster {
    Cluster::new(Status::new(&Arc::from("kafka"), &Arc::default()), &["a".into()])
}

fn health(cluster: &Cluster) -> Health {
    cluster.status().health()
}

#[test]
fn connection_loss_and_recovery_keep_the_topics_usable() {
    let cluster = cluster();
    assert_eq!((health(&cluster), cluster.next_step()), (Health::Starting(None), Step::ReachCluster));
    cluster.not_reached(Reason::Unreachable.into());
    assert_eq!(
        (health(&cluster), cluster.refusal("a")),
        (Health::Starting(Some(Reason::Unreachable.into())), Some(Reason::Unreachable.into()))
    );
    cluster.reached("broker");
    assert_eq!((health(&cluster), cluster.next_step()), (Health::Starting(None), Step::CheckTopics));
    assert_eq!(cluster.refusal("a").map(|failure| failure.reason), Some(Reason::Unroutable));
    assert_eq!(cluster.refusal("not in any route"), None);
    cluster.checking_topics();
    cluster.set_topics([("a".to_owned(), None)].into(), Vec::new());
    cluster.topics_checked(Ok(()));
    assert_eq!((health(&cluster), cluster.next_step()), (Health::Up, Step::WaitForChange));

    let failure = Failure::new(Reason::NotAuthorized, "no");
    cluster.connection_failed(failure.clone());
    assert_eq!((health(&cluster), cluster.refusal("a")), (Health::Up, None), "other brokers are connected");
    cluster.connections_lost();
    assert_eq!((health(&cluster), cluster.refusal("a")), (Health::Down(failure.clone()), Some(failure)));
    cluster.reached("broker");
    assert_eq!((health(&cluster), cluster.refusal("a")), (Health::Up, None), "the topics were usable before");
    assert_eq!(cluster.next_step(), Step::CheckTopics, "topics are checked after each outage");
    cluster.checking_topics();
    cluster.suspect_topic("not in any route");
    cluster.topics_checked(Ok(()));
    assert_eq!(cluster.next_step(), Step::WaitForChange);
    cluster.checking_topics();
    cluster.suspect_topic("a");
    cluster.topics_checked(Ok(()));
    assert_eq!(cluster.next_step(), Step::CheckTopics, "the topic was missed during the check");
}

#[test]
fn topics_that_do_not_fit_are_reported_only_while_connected() {
    let cluster = cluster();
    let failure = Failure::new(Reason::Topology, "missing topics: a");
    cluster.topics_checked(Err(failure.clone()));
    assert_eq!(health(&cluster), Health::Starting(None));
    cluster.reached("broker");
    assert_eq!((health(&cluster), cluster.next_step()), (Health::Down(failure), Step::CheckTopics));
    cluster.connections_lost();
    assert_eq!(health(&cluster), Health::Down(Reason::Unreachable.into()));
}

#[test]
fn fatal_error_refuses_publishes_until_the_producer_is_replaced() {
    let cluster = cluster();
    cluster.reached("broker");
    cluster.set_topics([("a".to_owned(), None)].into(), Vec::new());
    cluster.topics_checked(Ok(()));
    cluster.suspect_producer();
    assert_eq!((cluster.next_step(), cluster.refusal("a")), (Step::InspectProducer, None));
    cluster.producer_inspected(None);
    assert_eq!(cluster.next_step(), Step::WaitForChange);
    let fatal = Failure::new(Reason::ConnectionLost, "fatal");
    cluster.producer_inspected(Some(fatal.clone()));
    assert_eq!((cluster.next_step(), health(&cluster)), (Step::ReplaceProducer, Health::Down(fatal.clone())));
    cluster.connections_lost();
    assert_eq!((cluster.refusal("a"), cluster.fatal()), (Some(fatal.clone()), Some(fatal)));
    cluster.reached("broker");
    let not_created = Failure::new(Reason::Failed, "no certificate");
    cluster.producer_replaced(Err(not_created.clone()));
    assert_eq!((cluster.next_step(), cluster.refusal("a")), (Step::ReplaceProducer, Some(not_created)));
    cluster.producer_replaced(Ok(()));
    assert_eq!((health(&cluster), cluster.refusal("a")), (Health::Up, None));
}

#[test]
fn stranded_producer_is_replaced_and_connections_are_known_from_the_statistics() {
    let cluster = cluster();
    assert!(!cluster.linked());
    cluster.connections_counted(1);
    assert!(cluster.linked());
    cluster.reached("broker");
    cluster.connections_counted(0);
    assert_eq!((cluster.linked(), cluster.next_step()), (false, Step::ReachCluster));
    cluster.not_reached(Reason::Unreachable.into());
    cluster.producer_stranded();
    assert_eq!(cluster.next_step(), Step::ReplaceProducer);
    let refusal = cluster.refusal("a").expect("it takes nothing");
    assert!(refusal.reason == Reason::Unreachable && refusal.detail.contains("is being replaced"), "{refusal}");
    cluster.producer_replaced(Ok(()));
    assert_eq!((cluster.next_step(), cluster.refusal("a")), (Step::ReachCluster, Some(Reason::Unreachable.into())));
}

#[test]
fn failure_to_reach_the_cluster_is_newer_than_the_trouble_of_a_connection() {
    let cluster = cluster();
    let [closed, failed, unreached] =
        ["closed", "failed", "leader"].map(|text| Failure::new(Reason::Unreachable, text));
    cluster.connection_closed(closed.clone());
    assert_eq!(cluster.trouble(), Some(closed.clone()));
    cluster.connection_failed(failed.clone());
    cluster.connection_closed(closed.clone());
    assert_eq!(cluster.trouble(), Some(failed));
    cluster.not_reached(unreached.clone());
    assert_eq!(cluster.refusal("a"), Some(unreached));
    cluster.reached("broker");
    cluster.connection_closed(closed);
    assert_eq!(cluster.trouble(), None, "brokers close idle connections");
}

#[test]
fn refused_topics_have_a_warning_until_one_of_their_events_is_confirmed() {
    let cluster = cluster();
    let refused = "topic a: this user may not write to it".to_owned();
    cluster.topic_refused("a");
    cluster.topic_refused("a");
    assert_eq!(cluster.status().warnings(), vec![refused.clone()]);
    cluster.set_topics(TopicLimits::new(), vec!["one replica".into()]);
    cluster.topic_confirmed("b");
    assert_eq!(cluster.status().warnings(), [refused, "one replica".into()]);
    cluster.topic_confirmed("a");
    assert_eq!(cluster.status().warnings(), ["one replica"]);
}

#[test]
fn nothing_is_usable_after_the_end() {
    let cluster = cluster();
    cluster.reached("broker");
    cluster.end(Reason::Closing.into());
    cluster.reached("broker");
    cluster.topics_checked(Ok(()));
    assert_eq!(health(&cluster), Health::Down(Reason::Closing.into()));
    assert_eq!(cluster.refusal("not in any route"), Some(Reason::Closing.into()));
}
