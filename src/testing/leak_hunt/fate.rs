//! What becomes of a turn, whatever it is doing.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use fastrand::Rng;
use futures_util::FutureExt as _;
use tokio::time::timeout;

/// What is done to a turn from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Whole,
    /// Dropped after so many polls: at once, or not before it would have been polled again, when the
    /// answer that it waits for is there.
    Cancelled { polls: usize, late: bool },
    /// A panic after so many polls; the turn is dropped while its thread unwinds.
    Panics { polls: usize },
    /// Dropped by a time-out.
    TimedOut(Duration),
}

/// How a turn came to its end.
#[derive(Debug)]
pub(super) enum End<T> {
    Done(T),
    Cancelled,
    TimedOut,
    /// The one that was planned.
    Panicked,
    /// The subject's own.
    PanickedItself,
    /// It had all the time in the world.
    Stuck,
}

impl Fate {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.u32(..100) {
            0..32 => Self::Cancelled {
                polls: polls(rng),
                late: rng.u8(..4) == 0,
            },
            32..40 => Self::Panics { polls: polls(rng) },
            // In what it takes a server nearby to answer, and in more.
            40..47 => Self::TimedOut(Duration::from_micros(rng.u64(..6_000))),
            _ => Self::Whole,
        }
    }

    /// A turn that nobody disturbs is taken for stuck after so long.
    pub(super) async fn befalls<F: Future>(self, turn: F, patience: Duration) -> End<F::Output> {
        let struck = self.strikes(turn, patience);
        let done = AssertUnwindSafe(struck).catch_unwind().await;
        done.unwrap_or_else(|panic| match panic.is::<Planned>() {
            true => End::Panicked,
            false => End::PanickedItself,
        })
    }

    async fn strikes<F: Future>(self, turn: F, patience: Duration) -> End<F::Output> {
        let (done, otherwise) = match self {
            Self::Cancelled { polls, late: true } => (
                Struck::new(turn, polls, Blow::LateDrop).await,
                End::Cancelled,
            ),
            Self::Cancelled { polls, late: false } => {
                (Struck::new(turn, polls, Blow::Drop).await, End::Cancelled)
            }
            Self::Panics { polls } => (Struck::new(turn, polls, Blow::Panic).await, End::Panicked),
            Self::TimedOut(after) => (timeout(after, turn).await.ok(), End::TimedOut),
            Self::Whole => (timeout(patience, turn).await.ok(), End::Stuck),
        };
        done.map_or(otherwise, End::Done)
    }
}

/// A statement takes a handful of polls, and a transaction over a slow wire many.
fn polls(rng: &mut Rng) -> usize {
    match rng.u8(..8) {
        0..5 => rng.usize(1..5),
        5..7 => rng.usize(1..14),
        _ => rng.usize(1..50),
    }
}

/// A turn that something happens to after so many polls.
struct Struck<F> {
    turn: Option<Pin<Box<F>>>,
    polls_left: usize,
    blow: Blow,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Blow {
    Drop,
    LateDrop,
    Panic,
}

/// What a planned panic carries.
struct Planned;

impl<F: Future> Struck<F> {
    fn new(turn: F, polls: usize, blow: Blow) -> Self {
        Self {
            turn: Some(Box::pin(turn)),
            polls_left: polls,
            blow,
        }
    }

    fn strike<T>(&mut self) -> Poll<Option<T>> {
        let _dropped_here_or_while_unwinding = self.turn.take();
        if self.blow == Blow::Panic {
            // As a panic, but for the hook, which would print a hundred thousand of them.
            resume_unwind(Box::new(Planned));
        }
        Poll::Ready(None)
    }
}

impl<F: Future> Future for Struck<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            return self.strike();
        }
        self.polls_left -= 1;
        let Some(turn) = &mut self.turn else {
            return Poll::Ready(None);
        };
        match turn.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if self.polls_left == 0 && self.blow != Blow::LateDrop => self.strike(),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Counts how often it is polled, and says whether it was dropped in a panic.
    struct Watched<'w> {
        polls: &'w AtomicU32,
        in_a_panic: &'w AtomicU32,
    }

    impl Drop for Watched<'_> {
        fn drop(&mut self) {
            self.in_a_panic
                .fetch_add(u32::from(std::thread::panicking()), Ordering::SeqCst);
        }
    }

    async fn end_after(fate: Fate) -> (End<()>, u32, u32) {
        let (polls, in_a_panic) = (AtomicU32::new(0), AtomicU32::new(0));
        let watched = Watched {
            polls: &polls,
            in_a_panic: &in_a_panic,
        };
        let turn = async move {
            for _ in 0..3 {
                watched.polls.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
            watched.polls.fetch_add(1, Ordering::SeqCst);
        };
        let end = fate.befalls(turn, PATIENCE).await;
        (
            end,
            polls.load(Ordering::SeqCst),
            in_a_panic.load(Ordering::SeqCst),
        )
    }

    #[tokio::test]
    async fn each_fate_strikes_where_it_says() {
        for late in [false, true] {
            let fate = Fate::Cancelled { polls: 2, late };
            let (end, polls, in_a_panic) = end_after(fate).await;
            assert!(matches!(end, End::Cancelled), "{end:?}");
            assert_eq!((polls, in_a_panic), (2, 0));
        }
        let (end, polls, in_a_panic) = end_after(Fate::Panics { polls: 3 }).await;
        assert!(matches!(end, End::Panicked), "{end:?}");
        assert_eq!((polls, in_a_panic), (3, 1), "dropped while unwinding");
        for fate in [
            Fate::Whole,
            Fate::Panics { polls: 4 },
            Fate::TimedOut(PATIENCE),
        ] {
            let (end, polls, _) = end_after(fate).await;
            assert!(matches!(end, End::Done(())), "{end:?}");
            assert_eq!(polls, 4);
        }
        let forever = std::future::pending::<()>();
        let end = Fate::TimedOut(Duration::ZERO)
            .befalls(forever, PATIENCE)
            .await;
        assert!(matches!(end, End::TimedOut), "{end:?}");
    }

    #[tokio::test]
    async fn a_panic_of_its_own_is_told_apart() {
        let end = Fate::Whole
            .befalls(async { resume_unwind(Box::new("the subject's")) }, PATIENCE)
            .await;
        assert!(matches!(end, End::PanickedItself), "{end:?}");
    }

    #[tokio::test]
    async fn what_never_ends_is_stuck() {
        let forever = std::future::pending::<()>();
        let end = Fate::Whole.befalls(forever, Duration::ZERO).await;
        assert!(matches!(end, End::Stuck), "{end:?}");
    }

    #[test]
    fn fates_are_drawn_from_the_seed_alone() {
        let draw = |seed| {
            let mut rng = Rng::with_seed(seed);
            (0..1_000).map(|_| Fate::draw(&mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let cancelled = draw(3)
            .iter()
            .filter(|fate| matches!(fate, Fate::Cancelled { .. }))
            .count();
        assert!((250..400).contains(&cancelled), "{cancelled}");
    }
}
