//! Helpers that integration tests share: `mod support;`.
#![allow(dead_code, reason = "no test binary uses all helpers")]

pub mod bridge;
pub mod brokers;
pub mod event;
pub mod program;
pub mod sender;
pub mod wait;
