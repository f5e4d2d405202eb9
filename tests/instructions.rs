//! How many instructions a delivery costs, as callgrind counts them: a guard that does not depend on the speed of the machine
//! or on what else runs on it.
//!
//! Counted is the code as `cargo test` builds it, without optimisation, so that no other build is needed. Hence the number says
//! whether more is done for a delivery than before, not how fast that is: `cargo bench --bench compare` does. Not counted:
//! SHA-256, whose code depends on the processor.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::collections::HashMap;
use std::process::Command;

use hookbridge::protocol::End;
use hookbridge::source::VIDEOGEN_EVENTS;
use support::hot_path::{HotPath, Request};

mod support;

/// Instructions for one delivery, from verify to record, with the forms of four brokers.
const EXPECTED: u64 = 663_000;
/// How far the count may be from it, in percent.
const TOLERANCE: u64 = 10;

/// Each event this often. The first of each warms up, and is not counted.
const ROUNDS: u64 = 4;

#[test]
fn every_sample_event_passes_the_hot_path() {
    let path = HotPath::new();
    let number = |round, at| round * VIDEOGEN_EVENTS.len() as u64 + at;
    let round = |round| (0..).zip(VIDEOGEN_EVENTS).map(move |(at, event)| Request::new(event, number(round, at)));
    assert!(round(0).all(|request| path.deliver(&request) == Some(End::Delivered)));
    let requests: Vec<Request> = (1..ROUNDS).flat_map(round).collect();
    assert_eq!(counted_region(&path, &requests), requests.len());
}

/// Callgrind counts while this function runs, which it finds by its name. No closure may be here: its name would contain
/// this one, and callgrind would stop where it begins.
#[inline(never)]
fn counted_region(path: &HotPath, requests: &[Request]) -> usize {
    let mut delivered = 0;
    for request in requests {
        if path.deliver(request) == Some(End::Delivered) {
            delivered += 1;
        }
    }
    delivered
}

#[test]
fn a_delivery_costs_as_many_instructions_as_recorded() {
    let directory = tempfile::tempdir().expect("a directory");
    let profile = directory.path().join("callgrind.out");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted_region*", "--error-exitcode=99"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe().expect("a path"))
        .args(["--exact", "every_sample_event_passes_the_hot_path", "--test-threads=1"])
        .output()
        .expect("valgrind is installed: tests/run installs it");
    assert!(output.status.success(), "{output:?}");
    let (all, sha256) = instructions(&std::fs::read_to_string(&profile).expect("a profile"));
    assert!(0 < sha256 && sha256 < all, "SHA-256 was not found: {sha256} of {all} instructions");
    let deliveries = (ROUNDS - 1) * VIDEOGEN_EVENTS.len() as u64;
    let found = (all - sha256) / deliveries;
    let difference = found as f64 / EXPECTED as f64 * 100.0 - 100.0;
    println!("{found} instructions a delivery, and {} in SHA-256", sha256 / deliveries);
    assert!(
        found.abs_diff(EXPECTED) * 100 <= EXPECTED * TOLERANCE,
        "a delivery costs {found} instructions, and {EXPECTED} are recorded: {difference:+.1} %. If it costs more, find out \
         why: `valgrind --tool=callgrind '--toggle-collect=*counted_region*' {} every_sample_event`, then \
         `callgrind_annotate`, on this commit and the one before. If that is intended, or it costs less, set EXPECTED in \
         tests/instructions.rs to {found} in the same commit and say why in its message. A new version of Rust may change it \
         too.",
        std::env::current_exe().expect("a path").display()
    );
}

/// All instructions in a profile of callgrind, and those of SHA-256 with everything that it calls.
fn instructions(profile: &str) -> (u64, u64) {
    let mut names: HashMap<&str, &str> = HashMap::new();
    let (mut caller_is_sha256, mut callee_is_sha256) = (false, false);
    let (mut all, mut sha256) = (0, 0);
    let mut lines = profile.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("fn=") {
            caller_is_sha256 = is_sha256(name, &mut names);
        } else if let Some(name) = line.strip_prefix("cfn=") {
            callee_is_sha256 = is_sha256(name, &mut names);
        } else if line.starts_with("calls=") {
            // The cost of the calls, with all that is called.
            let cost = lines.next().and_then(cost).unwrap_or(0);
            sha256 += if callee_is_sha256 && !caller_is_sha256 { cost } else { 0 };
        } else if let Some(total) = line.strip_prefix("totals: ") {
            all = total.trim().parse().expect("a number");
        }
    }
    (all, sha256)
}

/// `(12) name` names a function; `(12)` names it again.
fn is_sha256<'a>(text: &'a str, names: &mut HashMap<&'a str, &'a str>) -> bool {
    let (number, name) = text.split_once(' ').unwrap_or((text, ""));
    let name = if name.is_empty() { names.get(number).copied().unwrap_or_default() } else { name };
    names.insert(number, name);
    name.contains("sha256")
}

/// The last number of a line: its instructions.
fn cost(line: &str) -> Option<u64> {
    line.rsplit(' ').next()?.parse().ok()
}
