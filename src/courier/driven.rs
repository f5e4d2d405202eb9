//! What the publish to one target led to.

use futures_util::future::BoxFuture;

use crate::dead_letter::DeadLetter;
use crate::letters::LetterRoom;
use crate::protocol::Target;
use crate::reason::Failure;

/// What the publish to one target led to.
#[derive(Debug)]
pub enum Driven {
    /// Its broker has confirmed.
    Confirmed(Target),
    /// It does not take the event. Its dead letter is published already, or the store has to keep it with the fact.
    Dead(Target, Failure, Option<Box<UnkeptLetter>>),
    /// It is still open.
    Open(Target, Failure),
}

/// A dead letter that the store has to keep.
#[derive(Debug)]
pub struct UnkeptLetter {
    /// The dead letter.
    pub letter: DeadLetter,
    /// Its room; dropped once the store has it.
    pub room: Option<LetterRoom>,
}

impl Driven {
    pub(super) fn target(&self) -> &Target {
        match self {
            Driven::Confirmed(target) | Driven::Dead(target, ..) | Driven::Open(target, _) => target,
        }
    }
}

/// A publish in progress. Dropping it does not stop the publish: its outcome is then lost.
pub type Driving = BoxFuture<'static, Driven>;
