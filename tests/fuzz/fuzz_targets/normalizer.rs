//! Input: a body. A normalized event contains it unchanged, and its attributes are well-formed.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use hookbridge_fuzz::delivery::{Delivery, DeliveryKey};
use hookbridge_fuzz::normalize::normalize;
use hookbridge_fuzz::source::{Fields, Source, VIDEOGEN_EVENTS};
use libfuzzer_sys::fuzz_target;

fn source(fields: Fields) -> Source {
    Source {
        name: "videogen".into(),
        path: "/webhooks/videogen".into(),
        uri: "https://api.videogen.io".into(),
        type_prefix: "io.videogen.".into(),
        keys: Vec::new(),
        tolerance: Duration::from_secs(300),
        legacy_headers: false,
        events: VIDEOGEN_EVENTS.map(str::to_owned).into(),
        fields,
        attributes: Arc::new([]),
        in_flight: 1,
        rate: None,
    }
}

fuzz_target!(|body: &[u8]| {
    let delivery = Delivery {
        key: DeliveryKey { source: "videogen".into(), id: "msg_1".into() },
        timestamp: 1_795_435_200,
        signature: "v1,c2ln".into(),
        traceparent: None,
        tracestate: None,
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::copy_from_slice(body),
    };
    for fields in [Fields::videogen(), Fields::standard()] {
        let Ok(event) = normalize(&source(fields), &delivery) else { continue };
        assert_eq!(event.data, body);
        assert!(serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok(), "the body is not JSON");
        for (name, value) in event.attributes() {
            assert!(!value.is_empty() && !value.chars().any(char::is_control), "{name}");
        }
    }
});
