//! Which channels a configuration has, and which events are published to each.

use std::sync::Arc;

use crate::config::Settings;
use crate::dead_letter;
use crate::destination::settings::DestinationSettings;
use crate::overview::{OTHER_NAMES, rows};
use crate::route::{Plan, Unrouted};
use crate::source::Source;
use crate::template::Template;

/// What a channel carries.
pub(super) enum Content<'a> {
    /// Events of a source.
    Event {
        /// The source.
        source: &'a Source,
        /// The event's name; `None`: every name that the source does not list.
        event: Option<&'a str>,
        /// The condition on the data, in words.
        when: Option<String>,
    },
    /// Dead letters, if `dead_letters.to` names a destination.
    DeadLetters,
}

/// A topic of a destination, or several whose names differ in `{subject}` or `{partition:N}`.
pub(super) struct Channel<'a> {
    pub(super) destination: &'a DestinationSettings,
    /// The name with its placeholders.
    pub(super) outline: String,
    pub(super) content: Vec<Content<'a>>,
}

/// All channels, by destination and name.
pub(super) fn channels(settings: &Settings) -> Vec<Channel<'_>> {
    let mut all = Vec::new();
    for source in &settings.sources {
        for row in rows(&settings.routes, source) {
            let event = Some(row.event).filter(|name| *name != OTHER_NAMES);
            let Ok(Plan::To(targets)) = row.plan else { continue };
            for planned in targets {
                let (Some(destination), Ok(message)) = (planned.target.destination, planned.message) else { continue };
                let when = row.when.map(ToString::to_string);
                add(settings, &mut all, &destination, &message.topic, Content::Event { source, event, when });
            }
        }
    }
    // Names that are new to hookbridge can match a narrower route than `any other name` does in the overview.
    for destination in &settings.destinations {
        for source in &settings.sources {
            for topic in settings.topics_of(source, &destination.name) {
                let here = |it: &Channel<'_>| it.destination.name == destination.name && it.covers(&topic);
                let channel = all.iter().find(|it| here(it));
                let described = channel.is_some_and(|it| match &settings.routes.unrouted {
                    Unrouted::Topic(unrouted) if **unrouted == topic => it.takes_other_names_of(source),
                    _ => it.takes_events_of(source),
                });
                if !described {
                    let outline = channel.map_or(topic, |it| it.outline.clone());
                    let content = Content::Event { source, event: None, when: None };
                    add(settings, &mut all, &destination.name, &outline, content);
                }
            }
        }
    }
    if let Some(to) = &settings.dead_letters_to {
        add(settings, &mut all, to, dead_letter::TOPIC, Content::DeadLetters);
    }
    all.sort_by(|a, b| (&a.destination.name, &a.outline).cmp(&(&b.destination.name, &b.outline)));
    all
}

fn add<'a>(
    settings: &'a Settings,
    all: &mut Vec<Channel<'a>>,
    destination: &Arc<str>,
    outline: &str,
    content: Content<'a>,
) {
    let same = |it: &&mut Channel<'_>| it.destination.name == *destination && it.outline == outline;
    if let Some(channel) = all.iter_mut().find(same) {
        return channel.content.push(content);
    }
    let Some(destination) = settings.destinations.iter().find(|it| it.name == *destination) else { return };
    all.push(Channel { destination, outline: outline.to_owned(), content: vec![content] });
}

impl Channel<'_> {
    /// Whether a topic, with `*` in place of `{subject}`, is one of the channel's.
    fn covers(&self, topic: &str) -> bool {
        // Everything but `{subject}` and `{partition:N}` is already filled in.
        let names = Template::parse(&self.outline).map(|it| it.names("", "", &[], "*")).unwrap_or_default();
        names.iter().any(|name| name == topic)
    }

    fn takes_events_of(&self, source: &Source) -> bool {
        self.content.iter().any(|it| matches!(it, Content::Event { source: other, .. } if other.name == source.name))
    }

    fn takes_other_names_of(&self, source: &Source) -> bool {
        let of_source = |other: &Source| other.name == source.name;
        self.content.iter().any(|it| matches!(it, Content::Event { source, event: None, .. } if of_source(source)))
    }
}
