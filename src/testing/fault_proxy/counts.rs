//! What has passed through a proxy.

use std::collections::BTreeMap;

use super::dialogue;
use super::fault::Direction;

/// What has passed through a [`FaultProxy`](super::FaultProxy), over all its connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyCounts {
    connections: u64,
    cuts: u64,
    freezes: u64,
    round_trips: u64,
    to_server: Passed,
    to_client: Passed,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Passed {
    bytes: u64,
    messages: BTreeMap<&'static str, u64>,
}

impl ProxyCounts {
    /// How many connections came.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    /// How many of them the proxy has cut.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    /// How many of them were frozen by [`FaultProxy::freeze_after_messages`].
    ///
    /// [`FaultProxy::freeze_after_messages`]: super::FaultProxy::freeze_after_messages
    pub fn freezes(&self) -> u64 {
        self.freezes
    }

    /// How often a client sent something after it had heard of the server. Who asks and waits for
    /// the answer makes one round trip, however many messages that takes.
    pub fn round_trips(&self) -> u64 {
        self.round_trips
    }

    /// How many bytes have passed.
    pub fn bytes(&self, direction: Direction) -> u64 {
        self.passed(direction).bytes
    }

    /// How many messages have passed whole.
    pub fn messages(&self, direction: Direction) -> u64 {
        self.passed(direction).messages.values().sum()
    }

    /// How many messages of one type have passed whole, by the name that PostgreSQL's manual has
    /// for it: `Parse`, `DataRow`, .. The server's answer to a request for encryption, which is one
    /// byte, is called `EncryptionResponse`.
    /// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
    ///
    /// # Panics
    ///
    /// No message has this name in this direction: a count of 0 would hide that.
    pub fn messages_of(&self, direction: Direction, name: &str) -> u64 {
        assert!(
            dialogue::is_name(direction, name),
            "no message {direction:?} is called `{name}`"
        );
        let passed = self.passed(direction).messages.get(name);
        passed.copied().unwrap_or(0)
    }

    /// The types that have passed, and how many of each.
    pub fn by_type(&self, direction: Direction) -> impl Iterator<Item = (&'static str, u64)> {
        let messages = &self.passed(direction).messages;
        messages.iter().map(|(name, count)| (*name, *count))
    }

    /// What has been added since an earlier look at the same proxy.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            cuts: self.cuts - earlier.cuts,
            freezes: self.freezes - earlier.freezes,
            round_trips: self.round_trips - earlier.round_trips,
            to_server: self.to_server.since(&earlier.to_server),
            to_client: self.to_client.since(&earlier.to_client),
        }
    }

    /// The number of the one that has just come.
    pub(super) fn count_connection(&mut self) -> u64 {
        self.connections += 1;
        self.connections - 1
    }

    pub(super) fn count_cut(&mut self) {
        self.cuts += 1;
    }

    pub(super) fn count_freeze(&mut self) {
        self.freezes += 1;
    }

    pub(super) fn count_round_trip(&mut self) {
        self.round_trips += 1;
    }

    pub(super) fn count_bytes(&mut self, direction: Direction, bytes: usize) {
        self.passed_mut(direction).bytes += bytes as u64;
    }

    pub(super) fn count_message(&mut self, direction: Direction, name: &'static str) {
        *self.passed_mut(direction).messages.entry(name).or_default() += 1;
    }

    fn passed(&self, direction: Direction) -> &Passed {
        match direction {
            Direction::ToServer => &self.to_server,
            Direction::ToClient => &self.to_client,
        }
    }

    fn passed_mut(&mut self, direction: Direction) -> &mut Passed {
        match direction {
            Direction::ToServer => &mut self.to_server,
            Direction::ToClient => &mut self.to_client,
        }
    }
}

impl Passed {
    fn since(&self, earlier: &Self) -> Self {
        let added = self.messages.iter().filter_map(|(name, count)| {
            let before = earlier.messages.get(name).copied().unwrap_or(0);
            (*count > before).then(|| (*name, count - before))
        });
        Self {
            bytes: self.bytes - earlier.bytes,
            messages: added.collect(),
        }
    }
}
