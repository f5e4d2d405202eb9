//! Helpers that integration tests share: `mod support;`.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "tests take brokers from the environment, block in helpers, and wait on a condition variable"
)]
#![allow(dead_code, reason = "no test binary uses all helpers")]

pub mod bridge;
pub mod brokers;
pub mod command;
pub mod event;
pub mod hot_path;
pub mod load;
pub mod packages;
pub mod preload;
pub mod program;
pub mod sender;
pub mod site;
pub mod validator;
pub mod wait;
