use proptest::prelude::*;

use super::*;
use crate::delivery::DeliveryKey;
use crate::samples::{URLS_WORK_FOR, samples};
use crate::source::{Fields, Source, VIDEOGEN_EVENTS};

/// 2026-11-23T12:00:00Z.
const RECEIVED: i64 = 1_795_435_200;

fn source(fields: Fields) -> Source {
    Source {
        name: "videogen".into(),
        path: "/webhooks/videogen".into(),
        uri: "https://api.videogen.io".into(),
        type_prefix: "io.videogen.".into(),
        keys: Vec::new(),
        tolerance: std::time::Duration::from_secs(300),
        legacy_headers: false,
        events: VIDEOGEN_EVENTS.map(str::to_owned).into(),
        fields,
        attributes: Arc::new([("env".into(), "prod".into())]),
        in_flight: 1,
        rate: None,
    }
}

fn delivery(body: impl Into<bytes::Bytes>) -> Delivery {
    Delivery {
        key: DeliveryKey { source: "videogen".into(), id: "msg_1".into() },
        timestamp: RECEIVED,
        signature: "v1,c2ln".into(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        tracestate: None,
        headers: http::HeaderMap::new(),
        body: body.into(),
    }
}

fn normalized(body: impl Into<bytes::Bytes>) -> Result<Event, Failure> {
    normalize(&source(Fields::videogen()), &delivery(body))
}

fn event(body: &str) -> Event {
    normalized(body.to_owned()).unwrap_or_else(|failure| panic!("{failure}: {body}"))
}

fn refused(body: impl Into<bytes::Bytes>) -> Reason {
    normalized(body).expect_err("it cannot be used").reason
}

fn body(members: &str) -> String {
    format!("{{\"event\":\"file.upload.completed\",{members}}}")
}

#[test]
fn each_event_of_today() {
    for sample in samples(7, RECEIVED - 2) {
        let event = event(&sample.body);
        assert_eq!(event.name, sample.name);
        assert_eq!(event.kind, format!("io.videogen.{}", sample.name));
        assert!(event.known, "{}", sample.name);
        assert_eq!(event.subject.as_deref(), Some(sample.subject.as_str()), "{}", sample.name);
        assert_eq!(event.partitionkey, event.subject);
        assert_eq!(event.time, "2026-11-23T11:59:58Z");
        assert_eq!(event.data, sample.body.as_bytes());
        assert_eq!((&*event.id, &*event.source), ("msg_1", "https://api.videogen.io"));
        let expiry = jiff::Timestamp::from_second(RECEIVED - 2 + URLS_WORK_FOR).expect("a time").to_string();
        let expected = sample.body.contains("xpiresAt\":1").then_some(expiry);
        assert_eq!(event.urlexpiry, expected, "{}", sample.name);
    }
}

#[test]
fn the_list_is_videogens() {
    let mut names: Vec<String> = Vec::new();
    for what in ["tool_execution", "workflow_run", "project_export", "assistant_message"] {
        names.extend(["succeeded", "failed", "cancelled"].map(|how| format!("{what}.{how}")));
    }
    names.extend(["upload.completed", "upload.failed"].map(|how| format!("file.{how}")));
    names.extend(
        ["playback_ready", "download_ready", "analysis_completed", "analysis_failed"].map(|how| format!("file.{how}")),
    );
    assert_eq!(VIDEOGEN_EVENTS.map(str::to_owned).to_vec(), names);
}

#[test]
fn samples_are_told_apart() {
    let (one, other) = (samples(1, RECEIVED), samples(2, RECEIVED));
    assert_eq!(one.len(), 18);
    assert!(one.iter().zip(&other).all(|(one, other)| one.name == other.name && one.subject != other.subject));
    assert!(one.iter().any(|sample| sample.body.contains("xpiresAt\":1")));
}

#[test]
fn events_of_former_days() {
    // Up to 1.1.8 runs had their time as text, files their transcript; the oldest had `executionId` and no resource.
    let run = event(
        r#"{"event":"workflow_run.succeeded","workflowRunId":"vg_work_1","occurredAt":"2026-03-01T08:00:00.5+02:00"}"#,
    );
    assert_eq!((run.time.as_str(), run.subject.as_deref()), ("2026-03-01T06:00:00.5Z", Some("vg_work_1")));
    let file = event(&body(r#""fileId":"f1","occurredAt":1795435200.25,"file":{"transcript":"plain text"}"#));
    assert_eq!((file.time.as_str(), file.subject.as_deref()), ("2026-11-23T12:00:00.25Z", Some("f1")));
    let oldest =
        event(r#"{"event":"tool_execution.succeeded","executionId":"x","result":{},"occurredAt":"yesterday"}"#);
    assert_eq!((oldest.time.as_str(), oldest.subject), ("2026-11-23T12:00:00Z", None));
}

#[test]
fn any_form_of_time() {
    for (form, expected) in [
        ("1795435200", "2026-11-23T12:00:00Z"),
        ("1795435200.0", "2026-11-23T12:00:00Z"),
        ("1.7954352e9", "2026-11-23T12:00:00Z"),
        ("1795435200.123456", "2026-11-23T12:00:00.123Z"),
        ("0", "1970-01-01T00:00:00Z"),
        ("-1", "1969-12-31T23:59:59Z"),
        ("\"2026-11-23T13:00:00+01:00\"", "2026-11-23T12:00:00Z"),
        ("\"2026-11-23T11:00:00.123456789Z\"", "2026-11-23T11:00:00.123456789Z"),
    ] {
        assert_eq!(event(&body(&format!("\"occurredAt\":{form}"))).time, expected, "{form}");
    }
    // What cannot be a time is as if it were absent: the delivery's own stands in.
    for form in [
        "null",
        "true",
        "\"\"",
        "\"soon\"",
        "{}",
        "[1]",
        "1e300",
        "-1e300",
        "9223372036854775807",
        "18446744073709551615",
    ] {
        assert_eq!(event(&body(&format!("\"occurredAt\":{form}"))).time, "2026-11-23T12:00:00Z", "{form}");
    }
    assert_eq!(event(&body("\"x\":1")).time, "2026-11-23T12:00:00Z");
}

#[test]
fn the_first_url_to_expire_counts() {
    let nested = r#""results":[{"downloadUrlExpiresAt":1795440000,"file":{"hlsSource":{"expiresAt":1795439000.5}}}]"#;
    assert_eq!(event(&body(nested)).urlexpiry.as_deref(), Some("2026-11-23T13:03:20.5Z"));
    for none in [
        "\"expiresAt\":null",
        "\"expiresAt\":\"soon\"",
        "\"expiresAt\":0",
        "\"expiresAt\":-5",
        "\"expires\":99",
        "\"expiresAt\":1e300",
    ] {
        assert_eq!(event(&body(none)).urlexpiry, None, "{none}");
    }
    // One that cannot be a time does not hide one that can.
    for both in [
        r#""a":{"expiresAt":1e15},"b":{"expiresAt":1795440000}"#,
        r#""a":{"expiresAt":1e400},"b":{"expiresAt":1795440000}"#,
        r#""a":[-1e400,"\"-1e400",1E+999],"b":{"expiresAt":1795440000,"c":"\ud83d"}"#,
        r#""a":{"expiresAt":"soon"},"b":{"expiresAt":"2026-11-23T14:20:00+01:00"}"#,
        r#""a":{"expiresAt":"2026-11-23T13:20:01Z"},"b":{"urlExpiresAt":"2026-11-23T13:20:00Z"}"#,
    ] {
        assert_eq!(event(&body(both)).urlexpiry.as_deref(), Some("2026-11-23T13:20:00Z"), "{both}");
    }
}

#[test]
fn the_subject_is_the_first_resource_that_is_there() {
    for (members, expected) in [
        (r#""fileId":"f","exportId":"e""#, Some("e")),
        (r#""exportId":null,"fileId":"f""#, Some("f")),
        (r#""exportId":"","fileId":"f""#, Some("f")),
        (r#""exportId":7,"fileId":"f""#, Some("7")),
        (r#""exportId":7.5,"messageId":true,"fileId":"f""#, Some("f")),
        (r#""exportId":{"fileId":"no"},"fileId":["no"]"#, None),
        (r#""fileId":"line\nbreak""#, None),
        (r#""fileId":"\u0000""#, None),
        (r#""fileId":"größe €""#, Some("größe €")),
        (r#""file":{"fileId":"nested"}"#, None),
        (r#""fileId":"first","fileId":"last""#, Some("last")),
        (r#""fileId":"first","fileId":null"#, None),
    ] {
        assert_eq!(event(&body(members)).subject.as_deref(), expected, "{members}");
    }
    assert_eq!(
        event(&body(&format!("\"fileId\":\"{}\"", "x".repeat(LONGEST_SUBJECT)))).subject.map(|it| it.len()),
        Some(1024)
    );
    assert_eq!(event(&body(&format!("\"fileId\":\"{}\"", "x".repeat(LONGEST_SUBJECT + 1)))).subject, None);
}

#[test]
fn names_that_are_not_known_pass() {
    for (name, known) in
        [("file.upload.completed", true), ("file.transcoded", false), ("größe", false), ("a/b", false), ("a b", false)]
    {
        let event = event(&format!("{{\"event\":\"{name}\"}}"));
        assert_eq!((event.name.as_str(), event.known), (name, known));
    }
    let names = ["", " ", "a\\nb", "\\u0000", "\\u0085", &"x".repeat(LONGEST_NAME + 1)];
    for name in names {
        assert_eq!(refused(format!("{{\"event\":\"{name}\"}}")), Reason::NoEventName, "{name:?}");
    }
    for value in ["null", "1", "true", "[\"file.upload.completed\"]", "{\"event\":\"x\"}"] {
        assert_eq!(refused(format!("{{\"event\":{value}}}")), Reason::NoEventName, "{value}");
    }
    assert_eq!(refused(r#"{"event":"a.b","event":1}"#), Reason::NoEventName);
    assert_eq!(event(r#"{"event":1,"event":"a.b"}"#).name, "a.b");
    assert_eq!(event(r#"{"\u0065vent":"a.b"}"#).name, "a.b");
}

#[test]
fn missing_name_says_what_to_set() {
    let detail = |fields: Fields, body: &'static str| normalize(&source(fields), &delivery(body)).unwrap_err().detail;
    let begin = "the body has no usable event name at";
    let standard = r#"{"type":"order.paid","data":{}}"#;
    let expected = format!("{begin} `event`; it has one at `type`: set `payload: standard` for the source `videogen`");
    assert_eq!(detail(Fields::videogen(), standard), expected);
    let expected = format!("{begin} `type`; it has one at `event`: set `payload: videogen` for the source `videogen`");
    assert_eq!(detail(Fields::standard(), r#"{"event":"file.ready"}"#), expected);
    let expected = format!(
        "{begin} `event`; set `payload` (videogen or standard) or `fields: {{event: …}}` for the source `videogen`"
    );
    assert_eq!(detail(Fields::videogen(), r#"{"kind":"order.paid","type":7}"#), expected);
}

#[test]
fn bodies_that_nothing_can_be_made_of() {
    for (body, reason) in [
        ("", Reason::NotJson),
        ("   ", Reason::NotJson),
        ("{", Reason::NotJson),
        ("{\"event\":\"a.b\"", Reason::NotJson),
        ("{\"event\":\"a.b\"} x", Reason::NotJson),
        ("{\"event\":\"a.b\",}", Reason::NotJson),
        ("{'event':'a.b'}", Reason::NotJson),
        ("{\"event\":\"a\nb\"}", Reason::NotJson),
        ("{\"event\":\"a.b\",\"n\":01}", Reason::NotJson),
        ("{\"event\":\"a.b\",\"n\":01e400}", Reason::NotJson),
        ("{\"event\":\"a.b\",\"n\":1e400.}", Reason::NotJson),
        ("{\"event\":\"a.b\",\"n\":+1e400}", Reason::NotJson),
        ("{\"event\":\"a.b\",\"n\":NaN}", Reason::NotJson),
        ("\u{feff}{\"event\":\"a.b\"}", Reason::NotJson),
        ("event=a.b", Reason::NotJson),
        ("[]", Reason::NotAnObject),
        ("[{\"event\":\"a.b\"}]", Reason::NotAnObject),
        ("\"a.b\"", Reason::NotAnObject),
        ("7", Reason::NotAnObject),
        ("-7.5", Reason::NotAnObject),
        ("null", Reason::NotAnObject),
        ("true", Reason::NotAnObject),
        ("[1", Reason::NotJson),
        ("{}", Reason::NoEventName),
    ] {
        assert_eq!(refused(body), reason, "{body:?}");
    }
    assert_eq!(refused(&b"{\"event\":\"a.b\",\"x\":\"\xff\"}"[..]), Reason::NotUtf8);
    assert_eq!(refused(&b"\x1f\x8b\x08"[..]), Reason::NotUtf8);
}

#[test]
fn halves_of_characters_do_not_cost_the_event() {
    for half in
        [r"\ud83d", r"\ude00", r"\ud83d\ud83d", r"\ud83dx", r"\ud83d\n", r"\\\ud83d", r"\uD83D\u0041", r"é\ud83d"]
    {
        let text = body(&format!("\"fileId\":\"f1\",\"text\":\"{half}\",\"{half}\":1,\"expiresAt\":1795440000"));
        let event = event(&text);
        assert_eq!((event.subject.as_deref(), event.data == text), (Some("f1"), true), "{half}");
        assert!(event.urlexpiry.is_some());
    }
    assert_eq!(event(&body(r#""fileId":"a\ud83d""#)).subject.as_deref(), Some("a\u{fffd}"));
    assert_eq!(event(&body(r#""fileId":"a\ud83d\ude00","x":"\udc00""#)).subject.as_deref(), Some("a😀"));
    for broken in [
        r#"{"event":"a.b","x":"\ud8"}"#,
        r#"{"event":"a.b","x":"\ud800}"#,
        r#"{"event":"a.b","x":"\ud800""#,
        "\\ud800",
        "\\",
        r#"{"a":"\u+123\ud800"}"#,
        "\\ud83d\\ué",
    ] {
        assert_eq!(refused(broken), Reason::NotJson, "{broken}");
    }
}

/// What the library cannot hold is passed over where nobody asked for it, without recursion.
#[test]
fn depth_and_large_numbers_do_not_cost_the_event() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("\"x\":{}1{}", open.repeat(depth), close.repeat(depth));
        for depth in [100, 127, 128, 100_000] {
            let event = event(&body(&format!("\"fileId\":\"f\",{}", nested(depth))));
            assert_eq!(event.subject.as_deref(), Some("f"), "{depth}");
        }
        assert_eq!(refused(open.repeat(1_000_000)), Reason::NotJson);
        assert_eq!(refused(body(&format!("\"x\":{}1", open.repeat(1000)))), Reason::NotJson);
    }
    let odd = event(&body("\"occurredAt\":1e999,\"exportId\":1e999,\"fileId\":\"f\""));
    assert_eq!((odd.time.as_str(), odd.subject.as_deref()), ("2026-11-23T12:00:00Z", Some("f")));
    for number in ["1e999", "-1e999", &"9".repeat(5000)] {
        assert_eq!(event(&body(&format!("\"n\":{number},\"fileId\":\"f\""))).subject.as_deref(), Some("f"));
    }
}

#[test]
fn years_have_four_digits() {
    for before in ["-62167219201", "-100000000000", "\"-000001-01-01T00:00:00Z\""] {
        assert_eq!(event(&body(&format!("\"occurredAt\":{before}"))).time, "2026-11-23T12:00:00Z", "{before}");
    }
    assert_eq!(event(&body("\"occurredAt\":-62167219200")).time, "0000-01-01T00:00:00Z");
    assert_eq!(event(&body("\"occurredAt\":253402207200")).time, "9999-12-30T22:00:00Z");
}

#[test]
fn fields_of_other_senders() {
    let fields = Fields {
        event: "/meta/type".into(),
        time: "timestamp".into(),
        subject: vec!["/data/object/id".into(), "id".into()],
    };
    let body = r#"{"meta":{"type":"invoice.paid"},"timestamp":"2026-01-01T00:00:00Z","data":{"object":{"id":"in_1"},"id":"no"},"id":"top"}"#;
    let event = normalize(&source(fields), &delivery(body)).expect("usable");
    assert_eq!((event.name.as_str(), event.known), ("invoice.paid", false));
    assert_eq!((event.subject.as_deref(), event.time.as_str()), (Some("in_1"), "2026-01-01T00:00:00Z"));
    let pointers = ["/a/1/b~1c", "/a/0", "/~0", "/a", "/a/2", "/n"];
    let body = r#"{"event":"a.b","a":["zero",{"b/c":"deep"}],"~":true,"n":null}"#;
    let found = look_up(&normalized(body).expect("usable"), &pointers);
    let expected = [Some("deep".into()), Some("zero".into()), Some(true.into()), None, None, Some(Value::Null)];
    assert_eq!(found, expected);
    let standard = r#"{"type":"contact.created","timestamp":"2022-11-03T20:26:10.344522Z","data":{"id":"c1"}}"#;
    let event = normalize(&source(Fields::standard()), &delivery(standard)).expect("usable");
    assert_eq!((event.subject.as_deref(), event.time.as_str()), (Some("c1"), "2022-11-03T20:26:10.344522Z"));
}

/// JSON text with names that matter, at any depth.
fn json() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just("event".to_owned()),
        Just("occurredAt".to_owned()),
        Just("fileId".to_owned()),
        Just("expiresAt".to_owned()),
        "[a-z]{0,3}"
    ];
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no others", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}")),
        any::<String>().prop_map(|text| serde_json::to_string(&text).expect("a string")),
        Just("\"file.upload.completed\"".to_owned()),
    ];
    let object = move |value: BoxedStrategy<String>| {
        prop::collection::vec((name.clone(), value), 0..6).prop_map(|members| {
            let members: Vec<_> = members.into_iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
            format!("{{{}}}", members.join(","))
        })
    };
    let within = object.clone();
    let value = leaf.prop_recursive(4, 24, 6, move |value| {
        let list = prop::collection::vec(value.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(",")));
        prop_oneof![within(value.boxed()), list]
    });
    object(value.boxed())
}

fn clean(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

proptest! {
    #[test]
    fn nothing_panics_and_attributes_are_clean(text in json()) {
        let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        match normalized(text.clone()) {
            Ok(event) => {
                prop_assert_eq!(&event.data[..], text.as_bytes());
                prop_assert!(event.attributes().all(|(_, value)| clean(value)));
                prop_assert_eq!(parsed["event"].as_str(), Some(event.name.as_str()));
                prop_assert!(event.time.parse::<Timestamp>().is_ok());
            }
            Err(failure) => {
                prop_assert_eq!(failure.reason, Reason::NoEventName);
                prop_assert!(!parsed["event"].as_str().is_some_and(is_name));
            }
        }
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(event) = normalized(bytes.clone()) {
            prop_assert_eq!(&event.data[..], &bytes[..]);
        }
    }
}
