//! What is to happen, and after how much.

/// Which way something goes through a [`FaultProxy`](super::FaultProxy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way")]
pub enum Direction {
    /// What the client says.
    ToServer,
    /// What the server says.
    ToClient,
}

/// Something that happens to a connection once so much has passed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault {
    direction: Direction,
    unit: Unit,
    left: u64,
    pub(super) effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Messages,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Cut,
    Freeze,
}

impl Fault {
    pub(super) fn new(direction: Direction, unit: Unit, left: u64, effect: Effect) -> Self {
        Self {
            direction,
            unit,
            left,
            effect,
        }
    }

    /// Whether nothing more may pass in this direction.
    pub(super) fn is_due(&self, direction: Direction) -> bool {
        self.direction == direction && self.left == 0
    }

    /// How much of so many bytes may pass before the question is asked again.
    pub(super) fn limit(&self, direction: Direction, bytes: usize) -> usize {
        match self.unit {
            Unit::Bytes if self.direction == direction => {
                usize::try_from(self.left).map_or(bytes, |left| left.min(bytes))
            }
            _ => bytes,
        }
    }

    pub(super) fn passed(&mut self, direction: Direction, bytes: usize, is_message: bool) {
        if self.direction != direction {
            return;
        }
        let passed = match self.unit {
            Unit::Bytes => bytes as u64,
            Unit::Messages => is_message.into(),
        };
        self.left = self.left.saturating_sub(passed);
    }
}
