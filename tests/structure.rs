//! How the modules of `src` may depend on each other: in one direction, and the pure ones on no I/O.
//!
//! A file depends on another when it names something that the other defines. Whoever names a re-export depends on the
//! file that defines the thing, and a `mod` line is no dependency.

use std::collections::{BTreeMap, BTreeSet};

use modules::Modules;

#[path = "structure/modules.rs"]
mod modules;

/// Modules that decide without I/O: the same input gives the same answer.
const PURE: [&str; 6] = ["naming", "normalize", "protocol", "route", "signature", "template"];
/// What they must not use, nor anything that they use.
const IMPURE: [&str; 12] = [
    "tokio",
    "tokio_util",
    "axum",
    "hyper",
    "reqwest",
    "async_nats",
    "rdkafka",
    "lapin",
    "rusqlite",
    "rustls",
    "prometheus_client",
    "rand",
];
/// A longer file has two jobs.
const MOST_LINES: usize = 400;

#[test]
fn no_two_modules_import_each_other_directly_or_round_a_corner() {
    let modules = Modules::read();
    let edges = modules.edges();
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 150, "the imports were not read");
    let reachable: BTreeMap<_, _> = edges.keys().map(|from| (from, reachable(&edges, from))).collect();
    let circle = |from: &str| reachable.get(&from.to_owned()).is_some_and(|found| found.contains(from));
    let tied: Vec<String> = edges
        .iter()
        .filter(|(from, _)| circle(from))
        .map(|(from, to)| {
            let back = to.iter().filter(|to| reachable.get(to).is_some_and(|found| found.contains(from)));
            format!("{from} -> {}", back.cloned().collect::<Vec<_>>().join(", "))
        })
        .collect();
    assert!(tied.is_empty(), "these import each other:\n{}", tied.join("\n"));
}

#[test]
fn pure_modules_know_no_io_and_no_configuration() {
    let modules = Modules::read();
    let edges = modules.edges();
    for pure in PURE {
        let mut all = reachable(&edges, pure);
        all.extend(edges.keys().filter(|name| *name == pure || name.starts_with(&format!("{pure}::"))).cloned());
        for module in &all {
            let top = module.split("::").next();
            assert_ne!(top, Some("config"), "`{pure}` reaches {module}");
            let impure = modules.crates(module).into_iter().find(|used| IMPURE.contains(&used.as_str()));
            assert_eq!(impure, None, "`{pure}` reaches {module}, which uses it");
        }
    }
}

#[test]
fn no_file_has_two_jobs() {
    for (name, lines) in Modules::read().lines() {
        assert!(lines <= MOST_LINES, "{name} has {lines} lines: split it");
    }
}

fn reachable(edges: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = vec![from];
    while let Some(next) = open.pop() {
        for to in edges.get(next).into_iter().flatten() {
            if found.insert(to.clone()) {
                open.push(to);
            }
        }
    }
    found
}
