//! `schema json`: the samples of all events fit, further members are allowed, and what is required is required.

mod support;

use hookbridge::samples::samples;
use hookbridge::source::VIDEOGEN_EVENTS;
use serde_json::{Value, json};
use support::command::run;
use support::validator::Validator;

fn schema(arguments: &[&str]) -> Value {
    let (code, out, err) = run(&[&["schema", "json"], arguments].concat(), &[], "");
    assert_eq!((code, err.as_str()), (0, ""));
    serde_json::from_str(&out).expect("JSON")
}

fn bodies() -> Vec<(String, Value)> {
    let all: Vec<(String, Value)> = samples(7, 1_745_409_600)
        .into_iter()
        .map(|sample| (sample.name, serde_json::from_str(&sample.body).expect("JSON")))
        .collect();
    assert_eq!(all.len(), 18);
    all
}

#[test]
fn each_sample_fits_the_schema_of_its_event_only() {
    let all = schema(&[]);
    assert_eq!(all["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let any = Validator::new(&all);
    for (event, body) in bodies() {
        let own = schema(&["--event", &event]);
        assert_eq!(Validator::new(&own).check(&body), Ok(()), "{event}");
        assert_eq!(any.check(&body), Ok(()), "{event}");
        let named = format!("/$defs/{}", own["title"].as_str().expect("a title"));
        assert_eq!(Validator::at(&all, &named).check(&body), Ok(()), "{event}");
        for other in VIDEOGEN_EVENTS.iter().filter(|other| **other != event) {
            assert!(Validator::new(&schema(&["--event", other])).check(&body).is_err(), "{event} as {other}");
        }
    }
}

#[test]
fn structured_events_fit() {
    let any = Validator::new(&schema(&["--structured"]));
    for (event, body) in bodies() {
        let own = Validator::new(&schema(&["--event", &event, "--structured"]));
        let mut wrapped = json!({
            "specversion": "1.0", "id": "msg_1", "source": "https://api.videogen.io", "type": format!("io.videogen.{event}"),
            "time": "2025-04-23T12:00:00Z", "datacontenttype": "application/json", "env": "prod", "data": body,
        });
        assert_eq!((own.check(&wrapped), any.check(&wrapped)), (Ok(()), Ok(())), "{event}");
        wrapped["type"] = "io.videogen.other".into();
        assert!(own.check(&wrapped).is_err(), "{event}");
    }
}

/// Adds a member to each object of a value.
fn extended(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: serde_json::Map<String, Value> =
                members.iter().map(|(name, value)| (name.clone(), extended(value))).collect();
            members.insert("addedTomorrow".into(), "text".into());
            members.into()
        }
        Value::Array(items) => items.iter().map(extended).collect(),
        other => other.clone(),
    }
}

#[test]
fn new_members_are_allowed_and_missing_ones_are_not() {
    for (event, body) in bodies() {
        let schema = schema(&["--event", &event]);
        let own = Validator::new(&schema);
        assert_eq!(own.check(&extended(&body)), Ok(()), "{event}");
        let required = schema["required"].as_array().expect("a list");
        assert!(required.len() >= 4, "{event}: {required:?}");
        for name in required {
            let mut body = body.clone();
            body.as_object_mut().expect("an object").remove(name.as_str().expect("a name")).expect("present");
            assert!(own.check(&body).is_err(), "{event} without {name}");
        }
    }
}

/// The words of VideoGen's lists grow: a new one must not make a worker refuse the event.
#[test]
fn new_words_are_allowed() {
    let (event, mut body) = bodies().swap_remove(0);
    body["toolType"] = "GENERATE_SMELL".into();
    body["results"][0]["type"] = "SMELL".into();
    body["results"][0]["file"]["scope"] = "GALAXY".into();
    assert_eq!(Validator::new(&schema(&["--event", &event])).check(&body), Ok(()));
}

#[test]
fn unknown_events_are_refused_with_the_nearest_name() {
    let (code, _, err) = run(&["schema", "json", "--event", "file.analysis_complete"], &[], "");
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `file.analysis_completed`?"), "{err}");
}
