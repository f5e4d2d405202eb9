//! The stored bytes, read over a socket in the NATS text protocol, independently of the client library.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hookbridge::destination::settings::Mode;
use hookbridge::message::Outcome;
use serde_json::Value;

use crate::rig::{STREAM, open, opening, up};
use crate::support::brokers::{Broker, Kind};
use crate::support::event::{event, message};
use crate::support::wait::SOON;

struct PlainClient(BufReader<TcpStream>);

/// A message as the stream holds it.
struct Stored {
    subject: String,
    /// The lines of the header block, in alphabetical order.
    headers: Vec<String>,
    body: Vec<u8>,
}

impl PlainClient {
    fn connect(url: &str) -> PlainClient {
        let socket = TcpStream::connect(url.trim_start_matches("nats://")).expect("a connection");
        socket.set_read_timeout(Some(SOON)).expect("a limit");
        let mut client = PlainClient(BufReader::new(socket));
        assert!(client.line().starts_with("INFO {"));
        client.write("CONNECT {\"verbose\":false,\"pedantic\":true,\"headers\":true,\"no_responders\":true}\r\n");
        client.write("SUB my.inbox 1\r\nPING\r\n");
        assert_eq!(client.line(), "PONG");
        client
    }

    fn write(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("written");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line.strip_suffix("\r\n").expect("CR LF").to_owned()
    }

    /// The last message of the subject in the stream.
    fn last(&mut self, subject: &str) -> Stored {
        let body = format!("{{\"last_by_subj\":\"{subject}\"}}");
        self.write(&format!("PUB $JS.API.STREAM.MSG.GET.{STREAM} my.inbox {}\r\n{body}\r\n", body.len()));
        let line = self.line();
        let size = line.strip_prefix("MSG my.inbox 1 ").expect("an answer without headers");
        let mut payload = vec![0; size.parse().expect("a size")];
        self.0.read_exact(&mut payload).expect("the answer");
        assert_eq!(self.line(), "");
        let answer: Value = serde_json::from_slice(&payload).expect("JSON");
        let text =
            |key: &str| answer["message"][key].as_str().unwrap_or_else(|| panic!("no {key}: {answer}")).to_owned();
        let bytes = |key: &str| BASE64_STANDARD.decode(text(key)).expect("base64");
        let block = String::from_utf8(bytes("hdrs")).expect("text");
        let lines = block.strip_prefix("NATS/1.0\r\n").and_then(|rest| rest.strip_suffix("\r\n\r\n"));
        let mut headers: Vec<_> = lines.expect("a header block").split("\r\n").map(str::to_owned).collect();
        headers.sort();
        Stored { subject: text("subject"), headers, body: bytes("data") }
    }
}

const TOPIC: &str = "file.analysis_completed";

/// Publishes one event and reads it back.
async fn published(mode: Mode, forward_signature: bool) -> Stored {
    let nats = Broker::start(Kind::Nats);
    let mut opening = opening(&[nats.url()], &[TOPIC]);
    (opening.settings.mode, opening.settings.forward_signature) = (mode, forward_signature);
    let destination = open(opening);
    up(&*destination).await;
    assert_eq!(destination.publish(message(TOPIC, event("msg_1"))).await, Outcome::Confirmed);
    tokio::task::block_in_place(|| PlainClient::connect(nats.url()).last(TOPIC))
}

#[tokio::test(flavor = "multi_thread")]
async fn binary_mode_puts_attributes_into_headers() {
    let stored = published(Mode::Binary, false).await;
    assert_eq!(stored.subject, "file.analysis_completed");
    assert_eq!(
        stored.headers,
        [
            "Nats-Expected-Stream: EVENTS",
            "Nats-Msg-Id: videogen/msg_1/file.analysis_completed",
            "ce-datacontenttype: application/json",
            "ce-env: prod",
            "ce-id: msg_1",
            "ce-partitionkey: the%20key%20%E2%82%AC",
            "ce-source: https://api.videogen.io",
            "ce-specversion: 1.0",
            "ce-subject: vg%20file%20100%25%20%22%C3%A9%E2%82%AC%22%20msg_1",
            "ce-tenant: gr%C3%B6%C3%9Fe",
            "ce-time: 2026-11-23T12:00:00Z",
            "ce-traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "ce-tracestate: vendor=a%20b,other=1",
            "ce-type: io.videogen.file.analysis_completed",
            "ce-urlexpiry: 2026-11-30T12:00:00Z",
        ]
    );
    let signed = "{ \"event\" : \"file.analysis_completed\",\n  \"fileId\" : \"msg_1\", \"text\": \"a b \\\" é €\", \"n\": 1.50 }";
    assert_eq!(String::from_utf8(stored.body).expect("text"), signed);
}

#[tokio::test(flavor = "multi_thread")]
async fn structured_mode_puts_attributes_into_the_body() {
    let stored = published(Mode::Structured, true).await;
    assert_eq!(stored.subject, "file.analysis_completed");
    assert_eq!(
        stored.headers,
        [
            "Nats-Expected-Stream: EVENTS",
            "Nats-Msg-Id: videogen/msg_1/file.analysis_completed",
            "content-type: application/cloudevents+json",
            "webhook-id: msg_1",
            "webhook-signature: v1,c2lnbmF0dXJl",
            "webhook-timestamp: 1795435200",
        ]
    );
    let body = concat!(
        r#"{"specversion":"1.0","id":"msg_1","source":"https://api.videogen.io","#,
        r#""type":"io.videogen.file.analysis_completed","time":"2026-11-23T12:00:00Z","#,
        r#""subject":"vg file 100% \"é€\" msg_1","partitionkey":"the key €","#,
        r#""traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","tracestate":"vendor=a b,other=1","#,
        r#""urlexpiry":"2026-11-30T12:00:00Z","env":"prod","tenant":"größe","datacontenttype":"application/json","#,
        r#""data":{"event":"file.analysis_completed","fileId":"msg_1","text":"a b \" é €","n":1.50}}"#,
    );
    assert_eq!(String::from_utf8(stored.body).expect("text"), body);
}
