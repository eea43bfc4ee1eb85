//! Futures that are dropped after so many polls: every await of an async function, one by one,
//! without a clock.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls `future` so often, and then drops it: what a time-out, a `select!` or a client that hung up
/// does to an async function, at a place of your choice.
///
/// It gives `Some` with the answer, or `None` if the polls ran out before there was one. With 0
/// polls the future is dropped unpolled. To drop an operation at each of its awaits, count up until
/// it answers:
///
/// ```
/// use tenantry::testing::cancelled_after;
///
/// async fn transfer() {
///     for _ in 0..3 {
///         tokio::task::yield_now().await;
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut dropped = 0;
/// while cancelled_after(dropped, transfer()).await.is_none() {
///     // Nothing may be left of it here: whoever comes next finds all in order.
///     dropped += 1;
/// }
/// assert_eq!(dropped, 4, "unpolled, and at each of the three awaits");
/// # }
/// ```
///
/// How many polls an operation takes differs from run to run where it waits for a network: put a
/// little latency in between, so that each answer is waited for.
pub fn cancelled_after<F: Future>(polls: usize, future: F) -> CancelledAfter<F> {
    CancelledAfter {
        future: Some(Box::pin(future)),
        polls_left: polls,
    }
}

/// What [`cancelled_after`] returns.
#[must_use = "futures do nothing unless they are polled"]
pub struct CancelledAfter<F> {
    future: Option<Pin<Box<F>>>,
    polls_left: usize,
}

impl<F: Future> Future for CancelledAfter<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polls_left == 0 {
            self.future = None;
            return Poll::Ready(None);
        }
        self.polls_left -= 1;
        let Some(future) = &mut self.future else {
            return Poll::Ready(None);
        };
        match future.as_mut().poll(context) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.polls_left == 0 => {
                self.future = None;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<F> fmt::Debug for CancelledAfter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelledAfter")
            .field("polls_left", &self.polls_left)
            .finish_non_exhaustive()
    }
}
