//! Work on one client: receives answers, times publishes out, and watches what happens to the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_nats::connection::State as ClientState;
use async_nats::{Client, ClientError, Event, Message, ServerError, Subscriber};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::unconstrained;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::connection::Connection;
use super::state::NatsState;
use super::{api, outcome};
use crate::message::Outcome;
use crate::reason::{Failure, Reason};
use protocol_error::ProtocolError;

mod protocol_error;
mod sender;

/// How often the connection is checked in addition to events: the library drops events when there are many at once.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a publish may wait for its answer before the stream is checked. If another client subscribes to the
/// subject, the server does not report that no stream takes it.
const STALLED: Duration = Duration::from_secs(5);
/// The largest number of answers that are processed before messages are sent again.
const MAX_BATCH: usize = 256;
/// How long a new connection may take to answer before publishes are sent on it all the same.
const ROUND_TRIP: Duration = Duration::from_secs(1);

/// Runs until another client is needed. Returns the reason. `number` is the number of the last connection.
pub(super) async fn run(
    state: &NatsState,
    client: &Client,
    events: UnboundedReceiver<Event>,
    number: &mut u64,
) -> Failure {
    let inbox = client.new_inbox();
    let answers = match client.subscribe(format!("{inbox}.*")).await {
        Ok(answers) => answers,
        Err(error) => return Failure::new(Reason::Unreachable, error.to_string()),
    };
    let session = ClientSession {
        state,
        client,
        prefix: format!("{inbox}."),
        answers,
        outcomes: Vec::new(),
        number,
        largest_request: Arc::default(),
        current: None,
        opening: None,
        last_error: None,
        over: None,
    };
    tokio::select! {
        failure = session.receive(events) => failure,
        () = sender::send(state, client, &inbox) => Reason::Unreachable.into(),
    }
}

struct ClientSession<'a> {
    state: &'a NatsState,
    client: &'a Client,
    /// The subject of an answer is this and the publish's token.
    prefix: String,
    answers: Subscriber,
    /// Empty between calls; kept for its memory.
    outcomes: Vec<(u64, Outcome)>,
    number: &'a mut u64,
    largest_request: Arc<AtomicUsize>,
    /// The current connection, and the library's count of connects at its start.
    current: Option<(Connection, u64)>,
    /// Resolves with the number of the current connection when it can be published on.
    opening: Option<BoxFuture<'static, u64>>,
    /// The last error of the server or the library.
    last_error: Option<Failure>,
    /// Why another client is needed.
    over: Option<Failure>,
}

impl ClientSession<'_> {
    async fn receive(mut self, mut events: UnboundedReceiver<Event>) -> Failure {
        let mut check = interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.check();
        let expiry = sleep_until(self.state.publishes.expire());
        tokio::pin!(expiry);
        let mut stalled = Instant::now();
        loop {
            tokio::select! {
                answer = self.answers.next() => match answer {
                    Some(answer) => self.resolve(Some(answer), MAX_BATCH),
                    None => return self.failure("the client library stopped reconnecting"),
                },
                Some(event) = events.recv() => {
                    self.handle(event);
                    if let Some(failure) = self.over.take() {
                        self.drain();
                        return failure;
                    }
                }
                // With no event waiting: one of them may say that this client is of no use any more.
                _ = check.tick(), if events.is_empty() => {
                    self.check();
                    if stalled.elapsed() >= STALLED && self.state.publishes.stalled(STALLED) {
                        stalled = Instant::now();
                        self.state.recheck.notify_one();
                    }
                }
                number = poll_optional(&mut self.opening) => {
                    self.opening = None;
                    if self.current.as_ref().is_some_and(|(current, _)| current.number == number) {
                        self.state.publishes.connected(number);
                    }
                }
                () = &mut expiry => expiry.as_mut().reset(self.state.publishes.expire()),
            }
        }
    }

    /// Ends the publishes of `first` and of the answers that have arrived, at most `max` of them, under one lock.
    fn resolve(&mut self, first: Option<Message>, max: usize) {
        let mut answer = first;
        while self.outcomes.len() < max {
            // `unconstrained`: the cooperative budget of the task would end the batch early.
            let next = || unconstrained(self.answers.next()).now_or_never().flatten();
            let Some(answer) = answer.take().or_else(next) else { break };
            self.outcomes.extend(self.outcome(&answer));
        }
        self.state.publishes.resolve_all(self.outcomes.drain(..));
    }

    /// The publish that an answer is for, and its outcome.
    fn outcome(&self, answer: &Message) -> Option<(u64, Outcome)> {
        let token = parse_token(answer.subject.strip_prefix(&*self.prefix)?)?;
        let outcome = outcome::of_answer(answer.status, &answer.payload, &self.state.wanted.stream)?;
        if let Outcome::Again(Failure { reason: Reason::Unroutable | Reason::Topology, .. }) = &outcome {
            self.state.recheck.notify_one();
        }
        Some((token, outcome))
    }

    /// Processes the answers that have arrived. They count even if their connection has ended.
    fn drain(&mut self) {
        self.resolve(None, usize::MAX);
    }

    /// Compares the library's state to the known connection.
    fn check(&mut self) {
        let connects = self.client.statistics().connects.load(Ordering::Relaxed);
        let connected = self.client.connection_state() == ClientState::Connected;
        if self.current.as_ref().is_some_and(|(_, before)| !connected || *before != connects) {
            self.drain();
            (self.current, self.opening) = (None, None);
            self.state.disconnected(self.failure("the connection ended"));
        }
        if self.current.is_none() && connected {
            *self.number += 1;
            let connection = Connection {
                number: *self.number,
                client: self.client.clone(),
                denied: Arc::default(),
                permitted: Arc::default(),
                largest_request: Arc::clone(&self.largest_request),
            };
            let info = self.client.server_info();
            self.last_error = None;
            let server = format!("{} (NATS {})", info.server_name, info.version);
            self.state.status.connected(connection.clone(), &server);
            self.opening = Some(self.round_trip(connection.clone()).boxed());
            self.current = Some((connection, connects));
        }
    }

    /// Waits until the server has processed our subscription. If it denies it, it says so before it answers this request,
    /// and nothing must be published by then, because no answer could arrive. A slow JetStream API does not hold
    /// publishes up for long.
    fn round_trip(&self, connection: Connection) -> impl Future<Output = u64> + Send + use<> {
        let endpoint = format!("STREAM.INFO.{}", self.state.wanted.stream);
        async move {
            let _ = timeout(ROUND_TRIP, api::request(&connection, &endpoint, &Value::Null)).await;
            connection.number
        }
    }

    /// The last error, or `otherwise` if there was none.
    fn failure(&self, otherwise: &'static str) -> Failure {
        self.last_error.clone().unwrap_or(Failure::new(Reason::Unreachable, otherwise))
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::ServerError(ServerError::Other(text)) => self.handle_error(text),
            Event::ServerError(ServerError::AuthorizationViolation) => {
                self.handle_error("authorization violation".into())
            }
            Event::ClientError(ClientError::Other(text)) => {
                self.handle_error(text);
                if self.current.is_none() {
                    self.state.disconnected(self.failure("cannot connect"));
                }
            }
            Event::SlowConsumer(_) => {
                tracing::warn!(destination = %self.state.status.name(), "answers were dropped: they arrived too fast");
            }
            _ => {}
        }
        // The library may have connected again already, with credentials that have expired.
        if self.over.is_none() {
            self.check();
        }
    }

    fn handle_error(&mut self, text: String) {
        match ProtocolError::parse(&text) {
            ProtocolError::TooLarge => {
                // An answer that has arrived counts; a publish without one may be the cause.
                self.drain();
                let failure = Failure::new(Reason::TooLarge, format!("the message exceeds the user's limit: {text}"));
                self.state.publishes.too_large(&failure, self.largest_request.load(Ordering::Relaxed));
                // The client may hold further messages that are too large, and would send them on its next connection.
                self.over = Some(Failure::new(Reason::Unreachable, text));
            }
            ProtocolError::Denied(subject) => self.deny(&subject, Failure::new(Reason::NotAuthorized, text)),
            ProtocolError::Credentials => {
                let failure = Failure::new(Reason::NotAuthorized, text);
                // The library would try again with the credentials that it has. The files may have changed since.
                self.over = Some(failure.clone());
                self.last_error = Some(failure);
            }
            ProtocolError::Other => self.last_error = Some(Failure::new(Reason::Unreachable, text)),
        }
    }

    fn deny(&mut self, subject: &str, failure: Failure) {
        if let Some((connection, _)) = &self.current {
            // The topology task reports it, and asks again until it is allowed.
            if connection.permitted.lock().remove(subject) || !self.state.wanted.asks_about(subject) {
                self.state.recheck.notify_one();
            }
            connection.denied.add(subject);
        }
        match subject.strip_prefix(&self.prefix) {
            // Without the inbox no answer arrives, so nothing is sent. The server does not accept the subscription
            // later when the permission is granted: another connection is needed.
            Some("*") => {
                let text = format!(
                    "this user may not subscribe to `_INBOX.>`, where the server's answers arrive: {}",
                    failure.detail
                );
                let failure = Failure::new(Reason::NotAuthorized, text);
                self.state.disconnected(failure.clone());
                self.over = Some(failure);
            }
            Some(token) => {
                if let Some(token) = parse_token(token) {
                    self.state.publishes.resolve(token, Outcome::Again(failure));
                }
            }
            None => self.state.publishes.denied(subject, &failure),
        }
    }
}

fn parse_token(text: &str) -> Option<u64> {
    u64::from_str_radix(text, 16).ok()
}

/// Resolves with the future, if there is one.
async fn poll_optional<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
