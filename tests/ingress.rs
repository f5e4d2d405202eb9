//! Every status of the webhook listener, over HTTP/1.1 and HTTP/2, with the whole program.

mod support;

use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use support::bridge::Bridge;
use support::brokers::{Broker, Kind};
use support::sender::{Answer, answer, body, client, now, post, request, signature};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

fn bridge(configuration: &str) -> Bridge {
    Bridge::serve(&format!("store: memory\n{configuration}"))
}

async fn send(bridge: &Bridge, change: impl FnOnce(&mut HeaderMap), body: &str) -> Answer {
    let now = now();
    let mut headers = HeaderMap::new();
    let signature = signature("msg_1", now, body.as_bytes());
    headers.insert("webhook-id", HeaderValue::from_static("msg_1"));
    headers.insert("webhook-timestamp", now.into());
    headers.insert("webhook-signature", signature.parse().expect("a value"));
    change(&mut headers);
    let request = client().post(bridge.program.url("videogen")).headers(headers).body(body.to_owned());
    answer(request).await.expect("an answer")
}

#[tokio::test]
async fn requests_that_are_no_deliveries_are_refused_and_leave_no_trace() {
    let bridge = bridge("");
    let good = body("file.playback_ready", "f1");
    let old = now() - 301;
    type Change = Box<dyn FnOnce(&mut HeaderMap)>;
    let without = |name: &'static str| -> Change { Box::new(move |headers| drop(headers.remove(name))) };
    let set = |name: &'static str, value: String| -> Change {
        Box::new(move |headers| drop(headers.insert(name, value.parse().expect("a value"))))
    };
    let twice = |name: &'static str| -> Change {
        Box::new(move |headers| {
            let value = headers[name].clone();
            headers.append(name, value);
        })
    };
    let old_signature = signature("msg_1", old, good.as_bytes());
    let outdated: Change = Box::new(move |headers| {
        headers.insert("webhook-timestamp", old.into());
        headers.insert("webhook-signature", old_signature.parse().expect("a value"));
    });
    let cases: Vec<(&str, Change)> = vec![
        ("400 missing_header", without("webhook-id")),
        ("400 missing_header", without("webhook-timestamp")),
        ("400 missing_header", without("webhook-signature")),
        ("400 duplicate_header", twice("webhook-id")),
        ("400 invalid_id", set("webhook-id", "a.b".into())),
        ("400 invalid_timestamp", set("webhook-timestamp", "+5".into())),
        ("401 not_verified", set("webhook-signature", "v1,AAAA".into())),
        ("401 not_verified", set("webhook-id", "msg_2".into())),
        ("401 not_verified", outdated),
        ("415 content_encoding", set("content-encoding", "gzip".into())),
        ("431 headers_too_large", set("x-large", "x".repeat(33 * 1024))),
    ];
    for (expected, change) in cases {
        let answer = send(&bridge, change, &good).await;
        assert_eq!(answer.word(), expected);
        assert_eq!(answer.body["status"], answer.status, "{:?}", answer.body);
    }
    assert_eq!(bridge.program.metric("hookbridge_ledger_ids").await, 0.0);
    let clock = "hookbridge_clock_refusals_total{source=\"videogen\"}";
    assert_eq!(bridge.program.metric(clock).await, 1.0);
    for (encoding, expected) in [("identity", "200 accepted"), ("", "200 duplicate")] {
        let set =
            |headers: &mut HeaderMap| drop(headers.insert("content-encoding", HeaderValue::from_static(encoding)));
        assert_eq!(send(&bridge, set, &good).await.word(), expected);
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let bridge = bridge("");
    let (client, base) = (client(), format!("http://{}", bridge.program.webhooks));
    for (method, path, status) in [
        ("POST", "/webhooks/other", 404),
        ("POST", "/", 404),
        ("GET", "/webhooks/videogen", 405),
        ("PUT", "/webhooks/videogen", 405),
        ("GET", "/healthz", 200),
    ] {
        let method = method.parse().expect("a method");
        let response = client.request(method, format!("{base}{path}")).send().await.expect("an answer");
        assert_eq!(response.status(), status, "{path}");
        assert!(response.headers().contains_key("x-request-id"));
        if status != 200 {
            assert_eq!(response.headers()["content-type"], "application/problem+json");
        }
        if status == 405 {
            assert_eq!(response.headers()["allow"], "POST");
        }
    }
    let given = client.get(format!("{base}/healthz")).header("x-request-id", "mine-1").send().await.expect("an answer");
    assert_eq!(given.headers()["x-request-id"], "mine-1");
}

#[tokio::test]
async fn bodies_over_the_limit_are_refused_with_and_without_content_length() {
    let bridge = bridge("limits: {body: 4KiB}");
    let large = "x".repeat(5000);
    assert_eq!(send(&bridge, |_| (), &large).await.word(), "413 body_too_large");
    // A chunked body announces no length.
    let chunks = futures_util::stream::iter((0..5).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1000])));
    let request = request(&client(), &bridge.program.url("videogen"), "msg_1", b"");
    let answer = answer(request.body(reqwest::Body::wrap_stream(chunks))).await.expect("an answer");
    assert_eq!(answer.word(), "413 body_too_large");
}

/// With and without an announced length, and although the buffer grows while the body arrives.
#[tokio::test]
async fn the_largest_body_fits_when_all_bodies_together_may_not_be_larger() {
    const LARGEST: usize = 1 << 20;
    let bridge = bridge("limits: {body: 1MiB, bytes: 1MiB}");
    let rest = body("file.playback_ready", "").len();
    let event = body("file.playback_ready", &"f".repeat(LARGEST - rest));
    assert_eq!(post(&bridge.url("videogen"), "m1", &event).await.word(), "200 accepted");
    let chunks: Vec<_> = event.as_bytes().chunks(9000).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    let request = request(&client(), &bridge.url("videogen"), "m2", event.as_bytes());
    let chunked = request.body(reqwest::Body::wrap_stream(futures_util::stream::iter(chunks)));
    assert_eq!(answer(chunked).await.expect("an answer").word(), "200 accepted");
}

/// Sends raw bytes, and reads until the head of the answer is complete or the connection ends.
async fn raw(bridge: &Bridge, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(&bridge.program.webhooks).await.expect("connects");
    stream.write_all(bytes).await.expect("sent");
    read_head(&mut stream).await
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.windows(4).any(|window| window == b"\r\n\r\n") {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer)).await.expect("in time");
        match read.expect("read") {
            0 => break,
            read => answer.extend_from_slice(&buffer[..read]),
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn an_incomplete_body_times_out_with_408() {
    let bridge = bridge("limits: {read_timeout: 300ms}");
    let head = format!(
        "POST /webhooks/videogen HTTP/1.1\r\nhost: x\r\nwebhook-id: a\r\nwebhook-timestamp: {}\r\n\
         webhook-signature: v1,x\r\ncontent-length: 10\r\n\r\nhalf",
        now()
    );
    let answer = raw(&bridge, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

/// Unverified bodies give way to later ones, so that they cannot keep a delivery out.
#[tokio::test]
async fn a_slow_unverified_body_gives_its_bytes_to_a_delivery() {
    let bridge = bridge("limits: {bytes: 16KiB, body: 16KiB, read_timeout: 20s}\n");
    // A request that has only announced its body takes none of the limit; then it takes what it has sent.
    let mut slow = TcpStream::connect(&bridge.program.webhooks).await.expect("connects");
    let head = format!(
        "POST /webhooks/videogen HTTP/1.1\r\nhost: x\r\nwebhook-id: a\r\nwebhook-timestamp: {}\r\n\
         webhook-signature: v1,x\r\ncontent-length: 15000\r\n\r\n",
        now()
    );
    slow.write_all(head.as_bytes()).await.expect("sent");
    assert_eq!(post(&bridge.program.url("videogen"), "m1", &body("file.playback_ready", "f")).await.status, 200);
    slow.write_all(&[b'x'; 14_900]).await.expect("sent");
    support::wait::until("the slow body in memory", Duration::from_secs(20), async || {
        (bridge.program.metric("hookbridge_in_flight_bytes").await >= 14_000.0).then_some(())
    })
    .await;
    let large = body("file.playback_ready", &"f".repeat(3000));
    assert_eq!(post(&bridge.program.url("videogen"), "m2", &large).await.word(), "200 accepted");
    let answer = read_head(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 2"), "{answer}");
}

#[tokio::test]
async fn http_1_and_2_are_served() {
    let bridge = bridge("");
    hookbridge::tls::install_provider();
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    for (client, version) in [(client(), http::Version::HTTP_11), (http2, http::Version::HTTP_2)] {
        let id = format!("{version:?}").replace(['/', '.'], "_");
        let body = body("file.playback_ready", "f");
        let response = request(&client, &bridge.program.url("videogen"), &id, body.as_bytes()).send().await;
        let response = response.expect("an answer");
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
    }
}

/// The first bytes of a connection show its protocol, in however many segments they arrive.
#[tokio::test]
async fn the_protocol_is_found_from_the_first_bytes() {
    let bridge = bridge("");
    let empty_settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let http2 = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &empty_settings].concat();
    let http1 = b"PUT / HTTP/1.1\r\nhost: x\r\n\r\n";
    for (bytes, at, answer) in [
        (&http2[..], 1, &[][..]),
        (&http2, 23, &[]),
        (&http2, 24, &[]),
        (http1, 1, b"HTTP/1.1 404"),
        (http1, 2, b"HTTP/1.1 404"),
        (http1, http1.len(), b"HTTP/1.1 404"),
    ] {
        let mut stream = TcpStream::connect(&bridge.program.webhooks).await.expect("connects");
        stream.set_nodelay(true).expect("set");
        stream.write_all(&bytes[..at]).await.expect("sent");
        // Meanwhile the first bytes arrive.
        assert!(raw(&bridge, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        stream.write_all(&bytes[at..]).await.expect("sent");
        let mut first = [0; 12];
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_exact(&mut first)).await;
        read.expect("in time").expect("an answer");
        match answer {
            [] => assert_eq!(first[3..5], [4, 0], "settings"),
            _ => assert_eq!(first, answer),
        }
    }
}

/// With 10,000 of them, the bridge must not outgrow a small pod.
#[tokio::test]
async fn idle_connections_take_little_memory() {
    const WARM: usize = 300;
    const MEASURED: usize = 600;
    /// hyper's two buffers take 16 KiB of it. With debug assertions a connection's task takes more than in a release.
    const MOST: usize = 28 * 1024;
    let bridge = bridge("limits: {connections: 1000}");
    let mut connections = Vec::new();
    let mut open = async |count: usize| {
        for _ in 0..count {
            let mut stream = TcpStream::connect(&bridge.program.webhooks).await.expect("connects");
            stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
            assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 404"));
            connections.push(stream);
        }
        bridge.program.resident()
    };
    let before = open(WARM).await;
    let each = (open(MEASURED).await - before) / MEASURED;
    assert!(each <= MOST, "{each} bytes each");
}

/// A bridge whose events `file.playback_ready` go to a NATS server that can be paused: then they stay in flight.
struct Stalling {
    bridge: Bridge,
    nats: Broker,
}

impl Stalling {
    async fn serve(configuration: &str) -> Stalling {
        let nats = Broker::start(Kind::Nats);
        let routes = "routes: [{match: file.playback_ready, to: [broker]}, {match: '**', to: [files]}]";
        let bridge = Bridge::serve_with(
            &format!("store: memory\n{routes}\n{configuration}"),
            &format!("broker: {{url: '{}'}}", nats.url()),
            &[],
        );
        bridge.program.ready().await;
        nats.pause();
        Stalling { bridge, nats }
    }

    /// Posts a delivery that stays in flight.
    async fn post(&self, id: &str) -> tokio::task::JoinHandle<Answer> {
        let before = self.bridge.program.metric("hookbridge_in_flight").await;
        let (url, id) = (self.bridge.url("videogen"), id.to_owned());
        let posted = tokio::spawn(async move { post(&url, &id, &body("file.playback_ready", "f")).await });
        in_flight(&self.bridge, before + 1.0).await;
        posted
    }
}

async fn in_flight(bridge: &Bridge, count: f64) {
    let all = async || (bridge.program.metric("hookbridge_in_flight").await == count).then_some(());
    support::wait::until("requests in flight", Duration::from_secs(20), all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_with_too_much_in_flight_gets_429() {
    let secret = support::program::SECRET;
    let sources = format!("sources: {{videogen: {{in_flight: 2}}, other: {{secrets: ['{secret}'], events: [a]}}}}\n");
    let stalling = Stalling::serve(&sources).await;
    let bridge = &stalling.bridge;
    let posted = [stalling.post("m1").await, stalling.post("m2").await];
    let refused = post(&bridge.url("videogen"), "m3", &body("file.playback_ready", "f")).await;
    assert_eq!((refused.word().as_str(), refused.retry_after.as_deref()), ("429 source_full", Some("2")));
    // The limit is per source: the other source is not affected.
    assert_eq!(post(&bridge.url("other"), "m1", r#"{"event":"a"}"#).await.word(), "200 accepted");
    stalling.nats.resume();
    for posted in posted {
        assert_eq!(posted.await.expect("no panic").word(), "200 accepted");
    }
    in_flight(bridge, 0.0).await;
    assert_eq!(post(&bridge.url("videogen"), "m3", &body("file.playback_ready", "f")).await.word(), "200 accepted");
    let counted = "hookbridge_refusals_total{source=\"videogen\",status=\"429\",reason=\"source_full\"}";
    assert_eq!(bridge.program.metric(counted).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_connections_are_bounded() {
    let stalling = Stalling::serve("limits: {requests: 2, connections: 3}\n").await;
    let bridge = &stalling.bridge;
    let posted = [stalling.post("m1").await, stalling.post("m2").await];
    // The third and last connection. It stays open, without a request in progress.
    let full = answer(request(&client(), &bridge.url("videogen"), "m3", b"{}")).await.expect("an answer");
    assert_eq!((full.word().as_str(), full.retry_after.as_deref()), ("503 process_full", Some("2")));
    // A fourth connection takes the place of the idle one. The two with a delivery in flight keep theirs.
    let mut fourth = TcpStream::connect(&bridge.program.webhooks).await.expect("connects");
    fourth.write_all(b"POST /webhooks/videogen HTTP/1.1\r\nhost: x\r\n").await.expect("sent");
    stalling.nats.resume();
    for posted in posted {
        assert_eq!(posted.await.expect("no panic").word(), "200 accepted");
    }
    in_flight(bridge, 0.0).await;
    fourth.write_all(b"\r\n").await.expect("sent");
    assert!(read_head(&mut fourth).await.starts_with("HTTP/1.1 400"));
}

/// Kubernetes restarts a process whose `/livez` does not answer, and a sender gives up.
#[tokio::test]
async fn idle_connections_do_not_keep_others_out() {
    let bridge = bridge("limits: {connections: 50}\n");
    for (address, request) in [
        (&bridge.program.admin, "GET /livez HTTP/1.1\r\nhost: x\r\n\r\n"),
        (&bridge.program.webhooks, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"),
    ] {
        let mut idle = Vec::new();
        for number in 0..200 {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(request.as_bytes()).await.expect("sent");
            assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"), "connection {number}");
            idle.push(stream);
        }
    }
    assert_eq!(post(&bridge.url("videogen"), "m1", &body("file.playback_ready", "f")).await.word(), "200 accepted");
}

/// Heads without a body, on many connections and streams, by a sender that has no secret.
#[tokio::test(flavor = "multi_thread")]
async fn unverified_requests_do_not_keep_deliveries_out() {
    let bridge = bridge("sources: {videogen: {rate: 100, in_flight: 64}}\nlimits: {requests: 64}\n");
    hookbridge::tls::install_provider();
    let stop = tokio_util::sync::CancellationToken::new();
    let mut attack = tokio::task::JoinSet::new();
    for connection in 0..20 {
        let http2 = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
        let junk = if connection % 2 == 0 { http2 } else { client() };
        for stream in 0..60 {
            let (junk, url, stop) = (junk.clone(), bridge.url("videogen"), stop.clone());
            // Every third is outside the tolerance.
            let timestamp = if stream % 3 == 0 { 0 } else { now() };
            attack.spawn(async move {
                while !stop.is_cancelled() {
                    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
                    let request = junk.post(&url).header("webhook-id", "junk").header("webhook-timestamp", timestamp);
                    let request = request.header("webhook-signature", "v1,AAAA");
                    let sent = request.body(reqwest::Body::wrap_stream(never)).send();
                    let _ = stop.run_until_cancelled(sent).await;
                }
            });
        }
    }
    support::wait::until("the attack", Duration::from_secs(20), async || {
        let counted = "hookbridge_refusals_total{source=\"videogen\",status=\"503\",reason=\"process_full\"}";
        (bridge.program.metric(counted).await > 100.0).then_some(())
    })
    .await;
    let client = client();
    for number in 0..50 {
        let event = body("file.playback_ready", "f");
        let sent = request(&client, &bridge.url("videogen"), &format!("m{number}"), event.as_bytes());
        assert_eq!(answer(sent).await.expect("an answer").word(), "200 accepted", "delivery {number}");
    }
    stop.cancel();
    while attack.join_next().await.is_some() {}
}

#[tokio::test]
async fn too_many_header_lines_get_431() {
    let bridge = bridge("limits: {headers: 20}\n");
    let good = body("file.playback_ready", "f1");
    let many = |headers: &mut HeaderMap| {
        for number in 0..20 {
            headers.insert(http::HeaderName::try_from(format!("x-{number}")).expect("a name"), 1.into());
        }
    };
    assert_eq!(send(&bridge, many, &good).await.word(), "431 headers_too_large");
    assert_eq!(send(&bridge, |_| (), &good).await.word(), "200 accepted");
}

#[tokio::test]
async fn silent_connections_are_closed_to_make_room() {
    let bridge = bridge("limits: {connections: 3, read_timeout: 300ms}\n");
    let mut silent = Vec::new();
    for start in ["", "POST /webhooks/videogen HTTP/1.1\r\nhost: ", ""] {
        let mut stream = TcpStream::connect(&bridge.program.webhooks).await.expect("connects");
        stream.write_all(start.as_bytes()).await.expect("sent");
        silent.push(stream);
    }
    let event = body("file.playback_ready", "f");
    assert_eq!(post(&bridge.url("videogen"), "m1", &event).await.word(), "200 accepted");
    for mut stream in silent {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "a connection without a request was kept");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_still_gets_its_answers() {
    let bridge = bridge("");
    let (now, event) = (now(), body("file.playback_ready", "f"));
    let request = |id: &str| {
        format!(
            "POST /webhooks/videogen HTTP/1.1\r\nhost: x\r\nwebhook-id: {id}\r\nwebhook-timestamp: {now}\r\n\
             webhook-signature: {}\r\ncontent-length: {}\r\n\r\n{event}",
            signature(id, now, event.as_bytes()),
            event.len()
        )
    };
    let mut stream = TcpStream::connect(&bridge.program.webhooks).await.expect("connects");
    stream.write_all((request("h1") + &request("h2")).as_bytes()).await.expect("sent");
    stream.shutdown().await.expect("ended");
    let mut answers = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_string(&mut answers)).await;
    read.expect("in time").expect("text");
    assert_eq!(answers.matches("\"status\":\"accepted\"").count(), 2, "{answers}");
    assert_eq!(bridge.ids("file.playback_ready"), ["h1", "h2"]);
}

#[tokio::test]
async fn expect_100_continue_gets_413_before_a_large_body_is_sent() {
    let bridge = bridge("limits: {body: 4KiB}\n");
    let head = format!(
        "POST /webhooks/videogen HTTP/1.1\r\nhost: x\r\nwebhook-id: a\r\nwebhook-timestamp: {}\r\n\
         webhook-signature: v1,x\r\ncontent-length: 5000\r\nexpect: 100-continue\r\n\r\n",
        now()
    );
    assert!(raw(&bridge, head.as_bytes()).await.starts_with("HTTP/1.1 413"));
}

#[tokio::test]
async fn a_source_above_its_rate_gets_429() {
    let bridge = bridge("sources: {videogen: {rate: 1}}\n");
    let event = body("file.playback_ready", "f");
    let mut words = Vec::new();
    for number in 0..30 {
        let answer = post(&bridge.url("videogen"), &format!("m{number}"), &event).await;
        if answer.status == 429 {
            assert_eq!((answer.word().as_str(), answer.retry_after.as_deref()), ("429 source_rate", Some("1")));
        }
        words.push(answer.word());
    }
    let taken = words.iter().filter(|word| *word == "200 accepted").count();
    assert!((1..30).contains(&taken), "{words:?}");
}

/// What happened to a delivery: one line for each that was refused, with what the sender knows it by.
#[tokio::test]
async fn refused_deliveries_leave_a_line_each_and_no_flood() {
    let bridge = Bridge::serve_with("", "", &[("HOOKBRIDGE_LOG", "debug")]);
    let url = bridge.url("videogen");
    let forged = |id: &str| {
        let request = request(&client(), &url, id, b"{}").header("x-request-id", "req-7");
        answer(request.header("webhook-id", "another"))
    };
    assert_eq!(forged("first").await.expect("an answer").status, 400);
    for _ in 0..300 {
        let replayed = client().post(&url).header("webhook-id", "old").header("webhook-timestamp", "1700000000");
        let replayed = replayed.header("webhook-signature", "v1,c2VjcmV0").body("{}");
        assert_eq!(answer(replayed).await.expect("an answer").status, 401);
    }
    assert_eq!(post(&url, "good", &body("file.playback_ready", "f")).await.status, 200);
    bridge.program.logged("\"ended\"");
    let lines: Vec<serde_json::Value> =
        bridge.program.log().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |message: &str, reason: &str| {
        let found = lines.iter().filter(|line| line["message"] == message);
        found.filter(|line| reason.is_empty() || line["reason"] == reason).collect::<Vec<_>>()
    };
    let duplicate = of("refused", "duplicate_header");
    assert_eq!(duplicate.len(), 1, "{lines:?}");
    let line = duplicate[0];
    let shown = ["source", "webhook_id", "request_id"].map(|field| line[field].as_str().unwrap_or_default());
    assert_eq!((line["status"].as_u64(), shown), (Some(400), ["videogen", "first", "req-7"]));
    assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{line}");
    let old = of("refused", "timestamp_too_old");
    assert!((1..=10).contains(&old.len()), "{} lines for 300 replays", old.len());
    let ended = of("ended", "");
    assert_eq!(ended.len(), 1);
    let shown = ["webhook_id", "destination", "topic", "end"].map(|field| ended[0][field].as_str().unwrap_or_default());
    assert_eq!(shown, ["good", "files", "file.playback_ready", "accepted"]);
    assert!(ended[0]["milliseconds"].as_f64().is_some_and(|took| took > 0.0), "{}", ended[0]);
}

/// At level `trace`, with refusals, dead letters, duplicates and an unreachable broker.
#[tokio::test]
async fn logs_contain_no_body_url_or_secret() {
    let mut bridge = Bridge::serve_with(
        "sources: {videogen: {}}\nroutes: [{match: 'file.playback_ready', to: [files]}, {match: '**', to: [broker]}]\n",
        "broker: {url: 'nats://user:hunter2hunter2@127.0.0.1:1'}",
        &[("HOOKBRIDGE_LOG", "trace")],
    );
    let marked = |event: &str| {
        format!(r#"{{"event":"{event}","fileId":"f","downloadUrl":"https://signed.example/xyzzy?sig=plugh"}}"#)
    };
    let url = bridge.url("videogen");
    for (id, body, status) in [
        ("a", marked("file.playback_ready"), 200),
        ("a", marked("file.playback_ready"), 200),
        ("b", marked("file.upload.failed"), 503),
        ("c", format!("xyzzy {}", marked("x")), 200),
    ] {
        assert_eq!(post(&url, id, &body).await.status, status, "{id}");
    }
    let forged = request(&client(), &url, "d", marked("x").as_bytes()).header("x-api-key", "plugh-key");
    let forged = forged.header("webhook-signature", "v1,eHl6enk=");
    assert_eq!(answer(forged).await.expect("an answer").status, 400);
    assert!(bridge.program.term().success());
    bridge.program.logged("(end)");
    let log = bridge.program.log();
    assert!(
        log.contains("\"level\":\"DEBUG\"") && log.contains("\"dead letter\"") && log.contains("request_id"),
        "{log}"
    );
    for secret in ["xyzzy", "plugh", "signed.example", "hunter2", "eHl6enk", &support::program::SECRET[6..]] {
        assert!(!log.contains(secret), "the log contains {secret}");
    }
}

#[tokio::test]
async fn metrics_count_deliveries_and_refusals() {
    let bridge = bridge("");
    let url = bridge.url("videogen");
    // A series that appears with its first count looks like no change to an alert.
    let (_, page) = bridge.program.get("/metrics").await;
    for series in [
        "hookbridge_deliveries_total{source=\"videogen\",outcome=\"dead-lettered\"} 0",
        "hookbridge_refusals_total{source=\"videogen\",status=\"401\",reason=\"no_matching_signature\"} 0",
        "hookbridge_refusals_total{source=\"videogen\",status=\"503\",reason=\"unreachable\"} 0",
        "hookbridge_publishes_total{destination=\"files\",outcome=\"unknown\",reason=\"timeout\"} 0",
        "hookbridge_publishes_total{destination=\"files\",outcome=\"never\",reason=\"too_large\"} 0",
        "hookbridge_late_outcomes_total{source=\"videogen\"} 0",
        &format!("hookbridge_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(page.lines().any(|line| line == series), "{series}: {page}");
    }
    assert!(!page.contains("hookbridge_last_delivery_timestamp_seconds{"), "there was none: {page}");
    let process = bridge.program.metric("process_resident_memory_bytes").await;
    assert!((1e6..1e9).contains(&process), "{process}");
    assert!(bridge.program.metric("process_open_fds").await > 3.0);
    let started = bridge.program.metric("process_start_time_seconds").await;
    assert!((now() as f64 - started).abs() < 60.0, "{started}");
    assert_eq!(post(&url, "m1", &body("file.playback_ready", "f")).await.status, 200);
    assert_eq!(send(&bridge, |headers| drop(headers.remove("webhook-id")), "{}").await.status, 400);
    for (name, value) in [
        ("hookbridge_deliveries_total{source=\"videogen\",outcome=\"accepted\"}", 1.0),
        ("hookbridge_deliveries_total{source=\"videogen\",outcome=\"refused\"}", 1.0),
        ("hookbridge_verified_total{source=\"videogen\",key=\"1\"}", 1.0),
        ("hookbridge_refusals_total{source=\"videogen\",status=\"400\",reason=\"missing_header\"}", 1.0),
        ("hookbridge_publishes_total{destination=\"files\",outcome=\"confirmed\",reason=\"\"}", 1.0),
        ("hookbridge_request_seconds_count", 2.0),
        ("hookbridge_publish_seconds_count{destination=\"files\"}", 1.0),
        ("hookbridge_settle_seconds_count", 1.0),
        ("hookbridge_destination_up{destination=\"files\"}", 1.0),
        ("hookbridge_ledger_ids", 1.0),
        ("hookbridge_in_flight", 0.0),
        ("hookbridge_publishes_in_flight{destination=\"files\"}", 0.0),
    ] {
        assert_eq!(bridge.program.metric(name).await, value, "{name}");
    }
    let last = bridge.program.metric("hookbridge_last_delivery_timestamp_seconds{source=\"videogen\"}").await;
    assert!((now() as f64 - last).abs() < 60.0, "{last}");
    let offset = bridge.program.metric("hookbridge_sender_clock_offset_seconds{source=\"videogen\"}").await;
    assert!(offset.abs() < 60.0, "{offset}");
    // Answers that are not about deliveries have a request id too.
    let (status, page) = bridge.program.get("/nowhere").await;
    assert!(status == 404 && page.contains("urn:hookbridge:problem:not_found"), "{page}");
    let health = client().post(format!("http://{}/healthz", bridge.program.webhooks)).send().await.expect("an answer");
    assert_eq!((health.status().as_u16(), &health.headers()["allow"]), (405, &HeaderValue::from_static("GET,HEAD")));
    assert!(health.headers().contains_key("x-request-id"));
}
