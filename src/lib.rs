//! Hookbridge: signed webhooks in, confirmed messages out.
//!
//! # The life of a delivery
//!
//! | step | module | job |
//! |---|---|---|
//! | limit | [`admission`], [`ingress`] | size, headers, time to read, requests and bytes in flight |
//! | verify | [`signature`] | Standard Webhooks, over the raw bytes; pure |
//! | claim | [`ledger`] | done already? somebody at it? or ours: [`protocol`] decides, purely |
//! | normalize | [`normalize`] | bytes to a CloudEvent ([`event`]); pure |
//! | route | [`route`], [`template`], [`naming`] | event to targets; pure |
//! | publish | [`courier`], [`destination`] | every target; done when its broker has confirmed |
//! | settle | [`ledger`] | what was confirmed becomes durable |
//! | answer | [`ingress`] | 200, never before the event is safe |
//!
//! Beside it: [`delivery`] and [`event`] are what travels, [`reason`] the words for what went wrong, [`dead_letter`] what
//! becomes of the rest; [`cli`] the commands, of which [`sender`] and [`samples`] are the other side of the wire;
//! [`admin`], [`vitals`], [`telemetry`] and [`tls`] for operators; [`durable`] for directories.
//!
//! [`pipeline`] strings claim to settle together, in a task of its own. [`app`] composes everything from [`config`], and
//! says in which order it starts and ends. Data flows one way: nothing below calls back up.
//!
//! # Where the guarantees are kept
//!
//! - *Nothing lost*: [`pipeline`] answers only what the ledger says once it is durable; [`destination::Outcome`] keeps
//!   "confirmed" apart from "unknown".
//! - *Nothing twice*: [`protocol::step`] lets one ticket at a time publish; confirmed facts merge from any.
//! - *Bounded*: [`admission`] at the door, [`destination::Handle`] before each broker.
//!
//! The two seams are [`ledger::Ledger`] and [`destination::Destination`]; one conformance suite runs over every
//! implementation of each.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod admin;
pub mod admission;
pub mod app;
pub mod cli;
pub mod config;
pub mod courier;
pub mod dead_letter;
pub mod delivery;
pub mod destination;
pub mod durable;
pub mod event;
pub mod ingress;
pub mod ledger;
pub mod listener;
pub mod message;
pub mod naming;
pub mod normalize;
pub mod pipeline;
pub mod protocol;
pub mod reason;
pub mod route;
pub mod samples;
pub mod secret;
pub mod sender;
pub mod signature;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod template;
pub mod tls;
pub mod vitals;
