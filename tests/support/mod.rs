//! What integration tests share. Each test binary takes what it needs: `mod support;`.
#![allow(dead_code, reason = "no test binary uses all of it")]

pub mod bridge;
pub mod brokers;
pub mod event;
pub mod program;
pub mod sender;
pub mod wait;
