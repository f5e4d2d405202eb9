//! The log never stops the work: whatever standard error is, deliveries are answered and health is told.

mod support;

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::time::Duration;

use support::program::{Program, SECRET};
use support::sender::{body, post};
use support::wait::{SOON, until};

struct Served {
    program: Program,
    _directory: tempfile::TempDir,
}

fn serve(stderr: impl Into<Stdio>, filter: &str) -> Served {
    let directory = tempfile::tempdir().expect("a directory");
    let to = format!("file:{}", directory.path().display());
    let arguments = ["--store", "memory", "--to", &to, "--secret", SECRET];
    let program = Program::serve_into(stderr.into(), &arguments, &[("HOOKBRIDGE_LOG", filter)]);
    Served { program, _directory: directory }
}

async fn deliver(program: &Program, id: &str) {
    until("it listens", SOON, async || tokio::net::TcpStream::connect(&program.admin).await.ok().map(drop)).await;
    program.ready().await;
    let answer = post(&program.url("videogen"), id, &body("file.playback_ready", "f")).await;
    assert_eq!(answer.word(), "200 accepted");
}

async fn lost(program: &Program) -> f64 {
    program.metric("hookbridge_log_lines_lost_total").await
}

/// A pipe that is full before the first line, and whose reader stands still.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stands_still_stops_nothing() {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'\n'; 64 << 10]).expect("the pipe's capacity");
    let mut served = serve(writer, "debug");
    deliver(&served.program, "a").await;
    // At `debug`, HTTP/2 has a line for every frame.
    let http2 = reqwest::Client::builder().http2_prior_knowledge().build().expect("a client");
    let livez = format!("http://{}/livez", served.program.admin);
    until("lines are lost", Duration::from_secs(60), async || {
        for _ in 0..200 {
            assert_eq!(http2.get(&livez).send().await.expect("an answer").status(), 200);
        }
        (lost(&served.program).await > 0.0).then_some(())
    })
    .await;
    deliver(&served.program, "b").await;
    // The reader goes on, and learns that lines are missing.
    let read = tokio::task::spawn_blocking(|| {
        let mut lines = BufReader::new(reader).lines().map_while(Result::ok);
        let found = lines.find(|line| line.contains("log lines were lost"));
        (found, lines)
    });
    let (found, rest) = read.await.expect("no panic");
    let line: serde_json::Value = serde_json::from_str(&found.expect("a line")).expect("JSON");
    assert!(line["lines"].as_u64().is_some_and(|lines| lines > 0), "{line}");
    let mut rest = rest;
    let rest = std::thread::spawn(move || rest.any(|line| line.contains("drained")));
    assert!(served.program.term().success());
    assert!(rest.join().expect("no panic"), "the last lines are not written");
}

/// With a reader that never goes on, the end does not wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_wait_for_a_reader() {
    let (_reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&[b'\n'; 64 << 10]).expect("the pipe's capacity");
    let mut served = serve(writer, "info");
    deliver(&served.program, "a").await;
    assert!(served.program.term().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_error_that_takes_nothing_stops_nothing() {
    let full = OpenOptions::new().write(true).open("/dev/full").expect("/dev/full");
    let (reader, closed) = std::io::pipe().expect("a pipe");
    drop(reader);
    for stderr in [Stdio::from(full), closed.into()] {
        let mut served = serve(stderr, "info");
        deliver(&served.program, "a").await;
        assert!(lost(&served.program).await > 0.0);
        assert!(served.program.term().success());
    }
}
