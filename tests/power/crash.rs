//! What a power loss leaves of a directory, by the log of `disk.c`.
//!
//! What was not synced may be lost, in part or as a whole, in any order: each write by its 512-byte sectors, each new
//! length, and each name in a directory until the directory was synced.

use std::collections::BTreeMap;
use std::path::Path;

use rand::Rng;

/// The smallest part of a write that a disk keeps.
const SECTOR: usize = 512;

/// What the disk does with writes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// All are lost.
    Lost,
    /// Half of their sectors are lost.
    Torn,
    /// All are kept.
    Kept,
}

/// A directory and what was done to its files.
pub struct Disk<'a> {
    log: &'a [u8],
    /// Where the next record begins.
    position: usize,
    files: Vec<DiskFile>,
    /// What is at a path: `None` is a directory.
    names: Names,
    durable_names: Names,
    unsynced_names: Vec<(usize, String, NameChange)>,
    /// Whether syncs of a file whose name ends so do nothing.
    pub liar: Option<&'a str>,
}

type Names = BTreeMap<String, Option<usize>>;

#[derive(Default)]
struct DiskFile {
    durable: Vec<u8>,
    unsynced: Vec<(usize, Change)>,
}

#[derive(Clone)]
enum Change {
    Write { offset: usize, data: (usize, usize) },
    Length(usize),
}

#[derive(Clone, Copy)]
enum NameChange {
    Link(Option<usize>),
    Unlink,
}

impl<'a> Disk<'a> {
    pub fn new(log: &'a [u8]) -> Self {
        let names = Names::from([(".".to_owned(), None)]);
        Disk {
            log,
            position: 0,
            files: Vec::new(),
            durable_names: names.clone(),
            names,
            unsynced_names: Vec::new(),
            liar: None,
        }
    }

    /// How much of the log was read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Reads the next record; false at the end of the log, whose last record may be torn.
    pub fn step(&mut self) -> bool {
        let at = self.position;
        let rest = &self.log[at..];
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return false };
        let line = std::str::from_utf8(&rest[..end]).expect("a line of the log");
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<usize>().expect("a number");
        let mut next = at + end + 1;
        match words[..] {
            ["C", path] => {
                self.files.push(DiskFile::default());
                self.rename_to(at, path, NameChange::Link(Some(self.files.len() - 1)));
            }
            ["M", path] => self.rename_to(at, path, NameChange::Link(None)),
            ["U", path] => self.rename_to(at, path, NameChange::Unlink),
            ["R", old, new] => {
                let found = self.names[old];
                self.rename_to(at, new, NameChange::Link(found));
                self.rename_to(at, old, NameChange::Unlink);
            }
            ["W", path, offset, length] => {
                let data = (next, next + number(length));
                if data.1 > self.log.len() {
                    return false;
                }
                next = data.1;
                self.file(path).unsynced.push((at, Change::Write { offset: number(offset), data }));
            }
            ["T", path, length] => self.file(path).unsynced.push((at, Change::Length(number(length)))),
            ["S", path, before] => self.sync(path, number(before)),
            _ => panic!("{line}"),
        }
        self.position = next;
        true
    }

    fn file(&mut self, path: &str) -> &mut DiskFile {
        let number = self.names.get(path).copied().flatten().unwrap_or_else(|| panic!("{path} is no file"));
        &mut self.files[number]
    }

    fn rename_to(&mut self, at: usize, path: &str, change: NameChange) {
        apply(&mut self.names, path, change);
        self.unsynced_names.push((at, path.to_owned(), change));
    }

    fn sync(&mut self, path: &str, before: usize) {
        if self.liar.is_some_and(|liar| path.ends_with(liar)) {
            return;
        }
        match self.names.get(path) {
            Some(Some(number)) => {
                let (log, file) = (self.log, &mut self.files[*number]);
                let synced = file.unsynced.partition_point(|(at, _)| *at < before);
                for (_, change) in file.unsynced.drain(..synced) {
                    make(&mut file.durable, &change, log, |_| true);
                }
            }
            Some(None) => {
                let is_in = |name: &str| Path::new(name).parent() == Some(Path::new(path.trim_start_matches('.')));
                let durable = &mut self.durable_names;
                self.unsynced_names.retain(|(at, name, change)| {
                    let synced = *at < before && is_in(name);
                    if synced {
                        apply(durable, name, *change);
                    }
                    !synced
                });
            }
            // The file was removed.
            None => {}
        }
    }

    /// Writes what a power loss leaves now into an empty directory.
    pub fn crash(&self, directory: &Path, unsynced: Unsynced, random: &mut impl Rng) {
        let mut names = self.durable_names.clone();
        let kept = match unsynced {
            Unsynced::Lost => 0,
            Unsynced::Torn => random.random_range(0..=self.unsynced_names.len()),
            Unsynced::Kept => self.unsynced_names.len(),
        };
        for (_, name, change) in &self.unsynced_names[..kept] {
            apply(&mut names, name, *change);
        }
        // A parent comes before what is in it. What is in a lost directory is lost.
        for (name, file) in names.iter().filter(|(name, _)| *name != ".") {
            let path = directory.join(name);
            match file {
                None => drop(std::fs::create_dir(path)),
                Some(number) => {
                    let file = &self.files[*number];
                    let mut content = file.durable.clone();
                    for (_, change) in &file.unsynced {
                        match unsynced {
                            Unsynced::Lost => {}
                            Unsynced::Kept => make(&mut content, change, self.log, |_| true),
                            Unsynced::Torn => make(&mut content, change, self.log, |_| random.random()),
                        }
                    }
                    drop(std::fs::write(path, content));
                }
            }
        }
    }
}

fn apply(names: &mut Names, path: &str, change: NameChange) {
    match change {
        NameChange::Link(file) => drop(names.insert(path.to_owned(), file)),
        NameChange::Unlink => drop(names.remove(path)),
    }
}

/// Makes a change to a content, by the sectors that are kept.
fn make(content: &mut Vec<u8>, change: &Change, log: &[u8], mut is_kept: impl FnMut(usize) -> bool) {
    match change {
        Change::Length(length) => {
            if is_kept(0) {
                content.resize(*length, 0);
            }
        }
        Change::Write { offset, data: (from, to) } => {
            let mut rest = &log[*from..*to];
            let mut at = *offset;
            while !rest.is_empty() {
                let length = (SECTOR - at % SECTOR).min(rest.len());
                let (sector, others) = rest.split_at(length);
                if is_kept(at / SECTOR) {
                    if content.len() < at + length {
                        content.resize(at + length, 0);
                    }
                    content[at..at + length].copy_from_slice(sector);
                }
                (rest, at) = (others, at + length);
            }
        }
    }
}
