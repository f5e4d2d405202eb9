//! Input: a configuration file. Loading it returns mistakes with messages, or usable settings.
#![no_main]

use std::io::Write as _;

use hookbridge_fuzz::config::{Flags, environment_of, load};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text).expect("written");
    let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
    let environment = environment_of([("SECRET", "whsec_4Vq5pQnC2yYwqHk1tB8mQF0hXb3sT6uR9wJzLdEa7Gk=")]);
    match load(&flags, &environment) {
        Ok(loaded) => {
            assert!(!loaded.settings.sources.is_empty() && !loaded.settings.destinations.is_empty());
            assert!(loaded.settings.sources.iter().all(|source| !source.keys.is_empty()), "a source without keys");
            for destination in &loaded.settings.destinations {
                loaded.settings.topics(&destination.name);
            }
        }
        Err(mistakes) => {
            assert!(!mistakes.0.is_empty());
            assert!(mistakes.0.iter().all(|mistake| !mistake.message.is_empty()));
        }
    }
});
