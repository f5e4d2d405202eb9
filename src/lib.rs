//! Hookbridge: signed webhooks in, confirmed messages out.
//!
//! # The life of a delivery
//!
//! | step | module | job |
//! |---|---|---|
//! | connect | [`listener`] | connections: bounded in number, in the size and the time of a request's head |
//! | limit | [`ingress`], [`admission`] | checks the head, then takes a place among the requests in flight; the body takes its bytes as it arrives |
//! | verify | [`signature`] | Standard Webhooks, over the raw bytes; pure |
//! | claim | [`ledger`] | has it ended, is it in flight, or is it ours to publish? [`protocol`] decides, and is pure |
//! | normalize | [`normalize`] | bytes to a CloudEvent ([`event`]); pure |
//! | route | [`route`], [`template`], [`naming`] | event to targets; pure |
//! | publish | [`courier`], [`destination`] | every target; a target is done when its broker has confirmed |
//! | settle | [`courier`], [`ledger`], [`store`] | what was confirmed becomes durable |
//! | answer | [`ingress`] | 200, never before the event is safe |
//!
//! With `--ack stored`, an event is safe once [`spool`] has it together with its id: the answer comes then, and [`lanes`] take
//! it to publish and settle, for as long as an outage takes.
//!
//! [`pipeline`] connects claim to settle, in a task of its own. [`app`] composes everything from [`config`], starts it and
//! shuts it down in order. Dependencies run one way: `tests/structure.rs` fails if two modules import each other.
//!
//! What travels: [`delivery`], [`event`], [`message`] and [`delivered`]; [`oversize`] makes a message smaller that is too large
//! for a broker; [`reason`] has the words for failures, [`dead_letter`] the form of a dead letter, [`letters`] keeps them, and
//! [`replay`] publishes them again. For operators: [`admin`], [`management`], [`vitals`], [`telemetry`]. [`reload`] takes up new secrets ([`keyring`]) while the process runs. For several
//! modules: [`source`] (the settings of a source), [`secret`], [`tls`], [`trace_context`], [`urls`], [`durable`],
//! [`settings_file`], [`watched_files`], `backoff`, `printable`, [`fail_point`] (for tests). The commands are in [`cli`]; [`sender`] and [`samples`] play the sender,
//! [`videogen_api`] manages its endpoints, and [`overview`] shows where each event goes. [`payloads`] and [`asyncapi`]
//! describe what workers receive.
//!
//! # Where the guarantees are kept
//!
//! - *Nothing lost*: [`courier`] returns only what the ledger says once it is durable; [`message::Outcome`] tells
//!   "confirmed" from "unknown".
//! - *Nothing twice*: [`protocol`] lets one ticket at a time publish, and merges confirmed facts from any ticket.
//! - *Bounded*: [`listener`] and [`admission`] for clients, [`destination::Handle`] for each broker.
//!
//! Comments call the guarantees G1 to G8, as README does (*What a 200 means*), and the protocol's rules P1 to P14, as [`protocol`].
//!
//! The two seams are [`ledger::Ledger`] and [`destination::Destination`]. A conformance suite runs over every
//! implementation of each.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod admission;
pub mod app;
pub mod asyncapi;
mod backoff;
pub mod cli;
pub mod config;
pub mod courier;
pub mod dead_letter;
pub mod delivered;
pub mod delivery;
pub mod destination;
pub mod durable;
pub mod event;
pub mod fail_point;
pub mod ingress;
pub mod keyring;
pub mod lanes;
pub mod ledger;
pub mod letters;
pub mod listener;
pub mod management;
pub mod message;
pub mod naming;
pub mod normalize;
pub mod oversize;
pub mod overview;
pub mod payloads;
pub mod pipeline;
mod printable;
pub mod protocol;
pub mod reason;
pub mod reload;
pub mod replay;
pub mod route;
pub mod samples;
pub mod secret;
pub mod sender;
pub mod settings_file;
pub mod signature;
pub mod source;
pub mod spool;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod tls;
pub mod trace_context;
pub mod urls;
pub mod videogen_api;
pub mod vitals;
pub mod watched_files;
