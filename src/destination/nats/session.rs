//! Work on one client: hand messages over, take answers, notice what happens to the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, ClientError, Event, Message, PublishErrorKind, ServerError, Subject, Subscriber};
use futures_util::StreamExt as _;
use futures_util::future::FutureExt as _;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::unconstrained;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::pending::Work;
use super::{Connection, Link, Shared, outcome};
use crate::message::Outcome;
use crate::reason::{Failure, Reason};

/// How often the state is looked at besides events: the library drops events when there are many at once.
const LOOK: Duration = Duration::from_millis(250);
/// How long a publish may be without an answer before the stream is looked at again: where somebody else listens on the
/// subject, the server does not say that no stream does.
const STALLED: Duration = Duration::from_secs(5);
/// Most answers that are taken before messages are sent again.
const MOST_AT_ONCE: usize = 256;
/// Most refused subjects that are remembered of a connection.
const MOST_DENIED: usize = 1024;

/// Works until the library has given the client up; says why. `number` counts connections.
pub(super) async fn run(
    shared: &Shared,
    client: &Client,
    events: UnboundedReceiver<Event>,
    number: &mut u64,
) -> Failure {
    let inbox = client.new_inbox();
    let answers = match client.subscribe(format!("{inbox}.*")).await {
        Ok(answers) => answers,
        Err(error) => return Failure::new(Reason::Unreachable, error.to_string()),
    };
    let session = Session {
        shared,
        client,
        prefix: format!("{inbox}."),
        answers,
        ended: Vec::new(),
        number,
        asked: Arc::default(),
        up: None,
        last: None,
        over: None,
    };
    tokio::select! {
        why = session.receive(events) => why,
        () = send(shared, client, &inbox) => Reason::Unreachable.into(),
    }
}

/// Hands queued messages to the library, in their order.
async fn send(shared: &Shared, client: &Client, inbox: &str) {
    let mut link = shared.link.subscribe();
    loop {
        let Work { token, connection, message } = shared.pending.work().await;
        if client.connection_state() != State::Connected {
            // The event is on its way; what is handed over now would be sent by a later connection.
            shared.pending.resolve(token, Outcome::Again(Reason::Unreachable.into()));
            continue;
        }
        let (subject, reply) = (Subject::from(&*message.subject), Subject::from(format!("{inbox}.{token:x}")));
        let handed = client.publish_with_reply_and_headers(subject, reply, message.headers, message.body);
        let ended = link.wait_for(|link| !matches!(link, Link::Up(now) if now.number == connection));
        let outcome = tokio::select! {
            biased;
            handed = handed => match handed {
                Ok(()) => {
                    shared.pending.sent(token, connection);
                    continue;
                }
                Err(error) => match error.kind() {
                    // The server closes the connection of a client that sends more. The limit is that of the time of the
                    // connect: where it is raised since, the dead letter can be replayed after another connect.
                    PublishErrorKind::MaxPayloadExceeded =>
                        Outcome::Never(Failure::new(Reason::TooLarge, error.to_string())),
                    PublishErrorKind::InvalidSubject => Outcome::Never(Reason::IllegalName.into()),
                    PublishErrorKind::Send => Outcome::Again(Reason::Unreachable.into()),
                },
            },
            // The library's queue is full, and the message is not in it.
            _ = ended => Outcome::Again(Reason::Unreachable.into()),
        };
        shared.pending.resolve(token, outcome);
    }
}

struct Session<'a> {
    shared: &'a Shared,
    client: &'a Client,
    prefix: String,
    answers: Subscriber,
    /// Empty; kept for its memory.
    ended: Vec<(u64, Outcome)>,
    number: &'a mut u64,
    asked: Arc<AtomicUsize>,
    /// The connection that is up, and the library's count of connects when it came.
    up: Option<(Connection, u64)>,
    /// What the server or the library complained about last.
    last: Option<Failure>,
    /// Why another client is needed.
    over: Option<Failure>,
}

impl Shared {
    /// What an answer is for and means.
    fn outcome(&self, prefix: &str, answer: &Message) -> Option<(u64, Outcome)> {
        let token = u64::from_str_radix(answer.subject.strip_prefix(prefix)?, 16).ok()?;
        let outcome = outcome::of_answer(answer.status, &answer.payload, &self.settings.stream)?;
        if let Outcome::Again(Failure { reason: Reason::Unroutable | Reason::Topology, .. }) = &outcome {
            self.misplaced.notify_one();
        }
        Some((token, outcome))
    }
}

impl Session<'_> {
    async fn receive(mut self, mut events: UnboundedReceiver<Event>) -> Failure {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.look();
        let expiry = sleep_until(Instant::from_std(self.shared.pending.expire()));
        tokio::pin!(expiry);
        let mut stalled = Instant::now();
        loop {
            tokio::select! {
                answer = self.answers.next() => match answer {
                    Some(answer) => self.answered(Some(answer), MOST_AT_ONCE),
                    None => return self.why("the client gave up"),
                },
                Some(event) = events.recv() => {
                    self.happened(event);
                    if let Some(failure) = self.over.take() {
                        self.drain();
                        return failure;
                    }
                }
                _ = look.tick() => {
                    self.look();
                    if stalled.elapsed() >= STALLED && self.shared.pending.stalled(STALLED) {
                        stalled = Instant::now();
                        self.shared.misplaced.notify_one();
                    }
                }
                () = &mut expiry => expiry.as_mut().reset(Instant::from_std(self.shared.pending.expire())),
            }
        }
    }

    /// Ends what this answer and those that have arrived are for, at most so many, all together.
    fn answered(&mut self, first: Option<Message>, most: usize) {
        let mut answer = first;
        while self.ended.len() < most {
            // Without the budget of a task, which would end it early.
            let next = || unconstrained(self.answers.next()).now_or_never().flatten();
            let Some(answer) = answer.take().or_else(next) else { break };
            self.ended.extend(self.shared.outcome(&self.prefix, &answer));
        }
        self.shared.pending.resolve_all(self.ended.drain(..));
    }

    /// An answer that has arrived counts, even if its connection has ended.
    fn drain(&mut self) {
        self.answered(None, usize::MAX);
    }

    /// Compares what the library says of its connection with what was known.
    fn look(&mut self) {
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        let connected = self.client.connection_state() == State::Connected;
        if self.up.as_ref().is_some_and(|(_, then)| !connected || *then != connects) {
            self.drain();
            self.up = None;
            let why = self.why("the connection ended");
            self.shared.set_down(why);
        }
        if self.up.is_none() && connected {
            *self.number += 1;
            let connection = Connection {
                number: *self.number,
                client: self.client.clone(),
                denied: Arc::new(watch::Sender::new(Vec::new())),
                asked: Arc::clone(&self.asked),
            };
            let info = self.client.server_info();
            tracing::info!(
                destination = %self.shared.settings.name, server = info.server_name, version = info.version, "connected"
            );
            self.shared.metrics.connects.get_or_create(&self.shared.label()).inc();
            self.last = None;
            self.shared.link.send_replace(Link::Up(connection.clone()));
            self.shared.pending.connected(connection.number);
            self.up = Some((connection, connects));
        }
    }

    fn why(&self, otherwise: &'static str) -> Failure {
        self.last.clone().unwrap_or(Failure::new(Reason::Unreachable, otherwise))
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::ServerError(ServerError::Other(text)) => self.complained(text),
            Event::ServerError(ServerError::AuthorizationViolation) => {
                self.complained("authorization violation".into())
            }
            Event::ClientError(ClientError::Other(text)) => {
                self.complained(text);
                if self.up.is_none() {
                    self.shared.set_down(self.why("cannot connect"));
                }
            }
            Event::SlowConsumer(_) => {
                tracing::warn!(destination = %self.shared.settings.name, "answers came faster than they were read");
            }
            _ => {}
        }
        self.look();
    }

    fn complained(&mut self, text: String) {
        let permission = text.starts_with("Permissions Violation");
        let quoted = permission.then(|| quoted(&text)).flatten();
        let lower = text.to_lowercase();
        let user = lower.contains("authentication") || lower.contains("authorization");
        let reason = if user { Reason::NotAuthorized } else { Reason::Unreachable };
        if lower.contains("maximum payload") {
            // What is not answered yet may be refused or not, but an answer that has arrived counts.
            self.drain();
            let why = Failure::new(Reason::TooLarge, format!("this user may not send so much: {text}"));
            self.shared.pending.too_large(&why, self.asked.load(Ordering::Relaxed));
            // The client may have more of them that it would send by its next connection.
            self.over = Some(Failure::new(Reason::Unreachable, text));
            return;
        }
        let Some(subject) = quoted else {
            let failure = Failure::new(reason, text);
            if user {
                // The library would try again with the credentials that it has, and the files may hold others by now.
                self.over = Some(failure.clone());
            }
            self.last = Some(failure);
            return;
        };
        let failure = Failure::new(Reason::NotAuthorized, text);
        if let Some((connection, _)) = &self.up {
            connection.denied.send_if_modified(|denied| {
                let new = denied.len() < MOST_DENIED && !denied.contains(&subject);
                if new {
                    // Who asks the API says so himself, at each attempt.
                    if !subject.starts_with("$JS.API.") {
                        tracing::warn!(destination = %self.shared.settings.name, "{failure}");
                    }
                    denied.push(subject.clone());
                }
                new
            });
        }
        match subject.strip_prefix(&self.prefix) {
            // Without the inbox no publish would ever be answered, so none is sent. The server does not take the
            // subscription back when the permission comes: only another connection can be better.
            Some("*") => {
                self.shared.set_down(failure.clone());
                self.over = Some(failure);
            }
            Some(token) => {
                if let Ok(token) = u64::from_str_radix(token, 16) {
                    self.shared.pending.resolve(token, Outcome::Again(failure));
                }
            }
            None => self.shared.pending.denied(&subject, &failure),
        }
    }
}

/// The first quoted text, as Go's `%q` writes it.
fn quoted(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut characters = text.split_once('"')?.1.chars();
    loop {
        match characters.next()? {
            '"' => return Some(out),
            '\\' => out.push(characters.next()?),
            character => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subject_of_a_violation() {
        assert_eq!(quoted(r#"Permissions Violation for Publish to "a.b""#).as_deref(), Some("a.b"));
        assert_eq!(quoted(r#"… Subscription to "a\"\\b" (sid "1")"#).as_deref(), Some("a\"\\b"));
        assert_eq!(quoted(r#"nothing"#), None);
        assert_eq!(quoted(r#"open "a"#), None);
    }
}
