//! Configuration: reads it, checks it, and hands out [`Settings`]. Only this module reads the environment.
//!
//! [`load()`] merges file, environment and flags into the raw tree (`raw`); `check` turns that into [`Settings`] and
//! reports all mistakes of meaning at once. What a setting means is documented where it is used: [`crate::source`],
//! [`crate::destination::settings`], [`crate::route`], [`crate::admission`].

pub use load::{Flags, Loaded, VIDEOGEN, admin_address, keys_given, load, log_filter};
pub use mistake::{Mistake, Mistakes, Place};
pub use settings::{Settings, StoreKind};
pub use substitute::{Environment, environment_of};

mod check;
mod load;
mod mistake;
mod print;
mod raw;
mod settings;
mod substitute;
mod topics;
mod units;
mod url;

#[cfg(test)]
mod tests;
