//! One connection through a proxy.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join, select};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::dialogue::{Dialogue, TERMINATE};
use super::fault::{Direction, Effect, Fault};

/// Its number is the order of its coming.
pub(super) struct Link {
    number: u64,
    shared: Arc<Shared>,
    state: Mutex<State>,
    /// Rung when a fault has cut this one.
    cut: Notify,
}

struct State {
    dialogue: Dialogue,
    /// Of this connection alone.
    fault: Option<Fault>,
    /// Whether the server was heard of since the client last spoke.
    answered: bool,
    /// Whether the client has said that it leaves.
    has_parted: bool,
    is_cut: bool,
}

/// What of some bytes may pass.
struct Passing {
    bytes: usize,
    /// A farewell is among them.
    parts: bool,
    /// What happens behind them.
    then: Option<Effect>,
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let number = shared.counts.lock().count_connection();
        let fault = shared.dials.borrow().each;
        shared.open.send_modify(|open| {
            open.insert(number, false);
        });
        Self {
            number,
            shared,
            state: Mutex::new(State {
                dialogue: Dialogue::new(),
                fault,
                answered: true,
                has_parted: false,
                is_cut: false,
            }),
            cut: Notify::new(),
        }
    }

    /// Comes back when something may pass.
    pub(super) async fn thawed(&self) {
        let mut dials = self.shared.dials.subscribe();
        let thawed = dials.wait_for(|dials| !dials.frozen.holds(self.number));
        // Without a proxy there is nobody who could thaw it; but then this task has ended.
        let _ = thawed.await;
    }

    /// Passes on what either says until both have ended, or the connection is cut.
    pub(super) async fn run<S>(self, client: TcpStream, server: S)
    where
        S: AsyncRead + AsyncWrite,
    {
        let (mut from_server, mut to_server) = tokio::io::split(server);
        let is_cut = {
            let (from_client, to_client) = client.into_split();
            let both = join(
                self.forward(Direction::ToServer, from_client, &mut to_server),
                self.forward(Direction::ToClient, &mut from_server, to_client),
            );
            // Both in one task, so that none passes while the other is being cut.
            match select(pin!(self.is_cut()), pin!(both)).await {
                Either::Left(_) => true,
                Either::Right(_) => false,
            }
        };
        if is_cut {
            // Closed with answers unread, the connection would be reset, and the server might not
            // read what has passed.
            let _ = to_server.shutdown().await;
            let _ = timeout(
                UNHEARD,
                tokio::io::copy(&mut from_server, &mut tokio::io::sink()),
            )
            .await;
        }
    }

    async fn is_cut(&self) {
        let mut dials = self.shared.dials.subscribe();
        let all = pin!(dials.wait_for(|dials| self.number < dials.cut_below));
        if let Either::Left(_) = select(all, pin!(self.cut.notified())).await {
            let mut state = self.state.lock();
            if !std::mem::replace(&mut state.is_cut, true) {
                self.shared.counts.lock().count_cut();
            }
        }
    }

    async fn forward(
        &self,
        direction: Direction,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
    ) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            self.heard(direction);
            let latency = self.shared.dials.borrow().latency;
            if !latency.is_zero() {
                sleep(latency).await;
            }
            let mut rest = &buffer[..length];
            while !rest.is_empty() {
                self.thawed().await;
                let passing = self.pass(direction, rest);
                if passing.parts {
                    self.keep_back().await;
                }
                let (now, later) = rest.split_at(passing.bytes);
                rest = later;
                if to.write_all(now).await.is_err() {
                    return;
                }
                if passing.then == Some(Effect::Cut) {
                    self.cut.notify_one();
                    return std::future::pending().await;
                }
            }
        }
        self.thawed().await;
        if direction == Direction::ToServer && !self.state.lock().has_parted {
            self.keep_back().await;
        }
        // Half a connection that ended is passed on as such: the server must see that its client
        // left.
        let _ = to.shutdown().await;
    }

    async fn keep_back(&self) {
        let farewell = self.shared.dials.borrow().farewell;
        if !farewell.is_zero() {
            sleep(farewell).await;
        }
    }

    fn heard(&self, direction: Direction) {
        let mut state = self.state.lock();
        match direction {
            Direction::ToServer if state.answered => {
                state.answered = false;
                self.shared.counts.lock().count_round_trip();
            }
            Direction::ToServer => {}
            Direction::ToClient => state.answered = true,
        }
    }

    /// Decides about some bytes, and counts those that pass. What happens behind them is in force
    /// from now on for the other direction, so that no answer overtakes it.
    fn pass(&self, direction: Direction, bytes: &[u8]) -> Passing {
        let mut state = self.state.lock();
        let mut passing = Passing {
            bytes: 0,
            parts: false,
            then: None,
        };
        if state.is_cut {
            // Counted as passed, it would not be true; and it does not get there.
            passing.then = Some(Effect::Cut);
            return passing;
        }
        let mut of_all = self.shared.fault.lock();
        let mut counts = self.shared.counts.lock();
        loop {
            let state = &mut *state;
            for fault in [&mut *of_all, &mut state.fault] {
                if let Some(due) = fault.take_if(|fault| fault.is_due(direction)) {
                    passing.then = Some(due.effect);
                }
            }
            match passing.then {
                Some(Effect::Cut) => {
                    state.is_cut = true;
                    counts.count_cut();
                    self.shared.open.send_modify(|open| {
                        open.insert(self.number, true);
                    });
                    return passing;
                }
                Some(Effect::Freeze) => {
                    counts.count_freeze();
                    let freeze = |dials: &mut super::Dials| {
                        dials.frozen.ones.insert(self.number);
                    };
                    self.shared.dials.send_modify(freeze);
                    return passing;
                }
                None if passing.bytes == bytes.len() => return passing,
                None => {}
            }
            let faults = [of_all.as_ref(), state.fault.as_ref()];
            let rest = &bytes[passing.bytes..];
            let limit = faults
                .into_iter()
                .flatten()
                .fold(rest.len(), |most, fault| fault.limit(direction, most));
            let part = state.dialogue.read(direction, &rest[..limit]);
            for fault in [of_all.as_mut(), state.fault.as_mut()]
                .into_iter()
                .flatten()
            {
                fault.passed(direction, part.bytes, part.ended.is_some());
            }
            counts.count_bytes(direction, part.bytes);
            if let Some(name) = part.ended {
                counts.count_message(direction, name);
                if name == TERMINATE {
                    passing.parts = true;
                    state.has_parted = true;
                }
            }
            passing.bytes += part.bytes;
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.open.send_modify(|open| {
            open.remove(&self.number);
        });
    }
}

/// How long a server that was cut off is listened to.
const UNHEARD: Duration = Duration::from_secs(10);
