//! Futures that are dropped after so many polls: every await of an async function, one by one,
//! without a clock.

use std::pin::Pin;
use std::task::{Context, Poll};

/// Polls its future this often, and then drops it.
pub struct Cancellable<F> {
    future: Option<Pin<Box<F>>>,
    polls_left: usize,
}

/// `Some` with the answer, or `None` if the polls ran out before there was one.
pub fn cancelled_after<F: Future>(polls: usize, future: F) -> Cancellable<F> {
    Cancellable {
        future: Some(Box::pin(future)),
        polls_left: polls,
    }
}

impl<F: Future> Future for Cancellable<F> {
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
