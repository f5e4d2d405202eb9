//! Configuration: merges file, environment and flags, checks them, and returns [`Settings`].
//!
//! [`load()`] merges the three into one tree of unchecked values (`raw`, `layer`); `check` turns that into [`Settings`] and
//! reports all mistakes of meaning at once. What a setting means is documented where it is used: [`crate::source`],
//! [`crate::destination::settings`], [`crate::route`], [`crate::admission`].
//!
//! Nothing here calls `std::env`: callers pass the environment as a function ([`Environment`]). The commands in
//! [`crate::cli`] pass `std::env::var_os`; tests pass a table. Files that settings name are read here.

pub use layer::Flags;
pub use load::{Loaded, admin_address, bridge_access, keys_given, load, load_without_secrets, log_filter};
pub use mistake::{Mistake, Mistakes, Place, nearest, quoted};
pub use schema::schema;
pub use settings::{Ack, BridgeAccess, Settings, StoreKind};
pub use substitute::{Environment, environment_of};

mod check;
mod layer;
mod load;
mod mistake;
mod print;
mod raw;
mod schema;
mod settings;
mod substitute;
mod topics;
mod units;
mod url;

#[cfg(test)]
mod tests;
