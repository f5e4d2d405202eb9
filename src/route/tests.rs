use serde_json::{Value, json};

use super::*;
use crate::event::fixture;

fn event(name: &str, known: bool, data: &str) -> Arc<Event> {
    let kind = format!("io.videogen.{name}");
    Arc::new(Event { name: name.into(), known, kind, data: data.to_owned().into(), ..fixture::event() })
}

fn rule(pattern: &str, when: Option<(&str, Value)>, topics: &[&str]) -> Rule {
    let when = when.map(|(pointer, value)| When { pointer: pointer.into(), values: vec![value] });
    let to = topics.iter().map(|topic| To {
        destination: "stream".into(),
        kind: Kind::Nats,
        topic: Template::parse(topic).unwrap(),
        key: Some(Template::parse("{subject}").unwrap()),
        required: true,
    });
    Rule { sources: None, pattern: Pattern::parse(pattern).unwrap(), when, to: to.collect() }
}

fn routes(unrouted: Unrouted, rules: Vec<Rule>) -> Routes {
    Routes { rules, unrouted, fallback: ("stream".into(), Kind::Nats), only_fallback: false }
}

fn topic(name: &str) -> Unrouted {
    Unrouted::Topic(name.into())
}

/// Topics; `-` for a name that is not legal.
fn plan(routes: &Routes, event: &Arc<Event>) -> Vec<String> {
    match routes.plan(event) {
        Plan::To(all) => {
            let name = |planned: &Planned| planned.message.as_ref().map_or("-".into(), |it| it.topic.to_string());
            all.iter().map(name).collect()
        }
        Plan::Ignore => vec!["ignored".into()],
        Plan::DeadLetter(reason) => vec![reason.word().into()],
    }
}

#[test]
fn stars() {
    let matches = |pattern: &str, name: &str| Pattern::parse(pattern).unwrap().matches(name);
    assert!(matches("file.*", "file.playback_ready"));
    assert!(!matches("file.*", "file.upload.completed"));
    assert!(!matches("file.*", "file"));
    assert!(matches("file.**", "file.upload.completed"));
    assert!(matches("file.**", "file"));
    assert!(matches("**", "anything.at.all"));
    assert!(matches("**.failed", "file.upload.failed"));
    assert!(!matches("**.failed", "file.upload.completed"));
    assert!(Pattern::parse("file.a*").is_err());
    assert!(Pattern::parse("file..x").is_err());
}

#[test]
fn the_first_match_wins() {
    let rules = vec![rule("file.*", None, &["first"]), rule("file.**", None, &["second"]), rule("a.b", None, &[])];
    let routes = routes(topic("left"), rules);
    for (name, expected) in
        [("file.ready", "first"), ("file.upload.completed", "second"), ("a.b", "ignored"), ("other", "left")]
    {
        assert_eq!(plan(&routes, &event(name, true, "{}")), [expected], "{name}");
    }
}

#[test]
fn rules_are_for_their_sources() {
    let from =
        |source: &str| Arc::new(Event { source_name: source.into(), ..Arc::unwrap_or_clone(event("a.b", true, "{}")) });
    let of = |sources: &[&str], topic: &str| Rule {
        sources: Some(sources.iter().map(|name| (*name).into()).collect()),
        ..rule("**", None, &[topic])
    };
    let routes = routes(topic("left"), vec![of(&["one"], "first"), of(&["two", "three"], "second")]);
    for (source, expected) in [("one", "first"), ("two", "second"), ("three", "second"), ("four", "left")] {
        assert_eq!(plan(&routes, &from(source)), [expected], "{source}");
    }
}

#[test]
fn rules_preclude_later_ones() {
    let values = |values: &[&str]| {
        let values = values.iter().map(|value| json!(value)).collect();
        Some(When { pointer: "/a".into(), values })
    };
    let rule = |pattern: &str, when: Option<When>| Rule { when, ..rule(pattern, None, &["t"]) };
    for (one, later, expected) in [
        (rule("file.**", None), rule("file.*", None), true),
        (rule("file.*", None), rule("file.ready", values(&["x"])), true),
        (rule("file.*", None), rule("file.**", None), false),
        (rule("file.**", values(&["x"])), rule("file.*", None), false),
        (rule("file.**", values(&["x", "y"])), rule("file.*", values(&["y"])), true),
        (rule("file.**", values(&["x"])), rule("file.*", values(&["x", "y"])), false),
        (Rule { sources: Some(vec!["other".into()]), ..rule("**", None) }, rule("a", None), false),
    ] {
        assert_eq!(one.precludes(&later, "videogen"), expected, "{} {}", one.pattern, later.pattern);
    }
}

#[test]
fn conditions_are_on_the_data() {
    let holds = |pointer: &str, value: Value, data: &str| {
        let rules = vec![rule("**", Some((pointer, value)), &["yes"]), rule("**", None, &["no"])];
        plan(&routes(topic("left"), rules), &event("a.b", true, data)) == ["yes"]
    };
    assert!(holds("/toolType", json!("X"), r#"{"toolType":"X"}"#));
    assert!(!holds("/toolType", json!("X"), r#"{"toolType":"Y"}"#));
    assert!(!holds("/toolType", json!("X"), "{}"));
    assert!(holds("/a/1/b~1c", json!(null), r#"{"a":[0,{"b/c":null}]}"#));
    assert!(!holds("/a", json!(null), "{}"), "absent is not null");
    assert!(holds("/a", json!(1), r#"{"a":1.0}"#) && holds("/a", json!(1.0), r#"{"a":1}"#));
    // JavaScript cuts text inside an emoji: what can be published can be asked.
    assert!(holds("/toolType", json!("X"), r#"{"toolType":"X","prompt":"cut \ud83d"}"#));
    assert!(holds("/toolType", json!("X"), r#"{"huge":1e999,"toolType":"X"}"#));
    assert!(!holds("/a", json!(9_007_199_254_740_993_i64), r#"{"a":9007199254740992}"#));
}

#[test]
fn each_condition_asks_for_its_own() {
    let rules = ["/a", "/b", "/c"].map(|pointer| rule("x.*", Some((pointer, json!(true))), &[&pointer[1..]]));
    let routes =
        routes(topic("left"), [vec![rule("other", Some(("/a", json!(true))), &["other"])], rules.into()].concat());
    let unreadable = r#"{"a":1e999,"c":true}"#;
    for (data, expected) in
        [(r#"{"b":true,"c":true}"#, "b"), (r#"{"c":true}"#, "c"), (r#"{"a":1}"#, "left"), (unreadable, "c")]
    {
        assert_eq!(plan(&routes, &event("x.y", true, data)), [expected], "{data}");
    }
}

#[test]
fn names_of_events_become_topics_only_where_topology_was_made_for_them() {
    let rules = || vec![rule("file.*", None, &["{event}", "fixed"])];
    let new = event("file.new", false, "{}");
    assert_eq!(plan(&routes(topic("left"), rules()), &new), ["left", "fixed"]);
    assert_eq!(plan(&routes(Unrouted::Ignore, rules()), &new), ["fixed"]);
    assert_eq!(plan(&routes(Unrouted::DeadLetter, rules()), &new), ["-", "fixed"], "only what has no topic is buried");
    assert_eq!(plan(&routes(Unrouted::DeadLetter, vec![rule("**", None, &["{event}", "{type}"])]), &new), ["unrouted"]);
    let elsewhere = Routes { fallback: ("other".into(), Kind::Nats), ..routes(topic("left"), rules()) };
    for (only_fallback, expected) in [(false, "stream"), (true, "other")] {
        let Plan::To(all) = (Routes { only_fallback, ..elsewhere.clone() }).plan(&new) else { panic!("a plan") };
        let destination = |index: usize| all[index].target.destination.as_deref();
        assert_eq!((destination(0), destination(1)), (Some(expected), Some("stream")));
    }
    assert_eq!(plan(&routes(topic("left"), rules()), &event("file.ready", true, "{}")), ["file.ready", "fixed"]);
}

#[test]
fn two_targets_of_one_name_are_one() {
    let routes = routes(topic("left"), vec![rule("**", None, &["same", "same", "{event}"])]);
    assert_eq!(plan(&routes, &event("same", true, "{}")), ["same"]);
}

#[test]
fn a_name_that_is_not_legal_is_no_target_to_publish_to() {
    let routes = routes(topic("left"), vec![rule("**", None, &["by.{subject}"])]);
    let with = |subject: Option<&str>| {
        let mut event = Arc::unwrap_or_clone(event("a.b", true, "{}"));
        event.subject = subject.map(str::to_owned);
        plan(&routes, &Arc::new(event))
    };
    assert_eq!(with(Some("vg_file_1")), ["by.vg_file_1"]);
    assert_eq!(with(None), ["by.none"]);
    for subject in ["*", ">", "a.b", "a b", "é", "\u{0}", &"x".repeat(300)] {
        assert_eq!(with(Some(subject)), ["-"], "{subject:?}");
    }
}

#[test]
fn keys() {
    let routes = routes(topic("left"), vec![rule("**", None, &["a"])]);
    let key = |event: &Arc<Event>| match routes.plan(event) {
        Plan::To(all) => all[0].message.as_ref().unwrap().key.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(key(&event("a.b", true, "{}")).as_deref(), Some("vg_file_1"));
}
