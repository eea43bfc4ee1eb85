//! The transaction of a request.

use std::fmt;
use std::sync::Arc;

use super::request::RequestTransaction;
use crate::tx::TxOptions;

/// Gives each request a transaction, for [`Tx`](super::Tx): a layer for tower, a middleware for
/// actix.
///
/// It is begun when it is first asked for; a request that does not ask takes no connection.
///
/// | what becomes of the request | the transaction |
/// |---|---|
/// | an answer with a status below 400 | is committed, and the answer sent after that |
/// | an answer with a status from 400 on, or an error of the service | is rolled back |
/// | a panic that nobody catches, or while a [`Tx`](super::Tx) was held | is rolled back, and a success that a middleware makes of it becomes 500 |
/// | its future is dropped: a client that hung up, a time-out | is rolled back |
/// | a success while the [`Tx`](super::Tx) is still held, by a body or a task | is rolled back, and the answer is 500 |
///
/// A commit that fails replaces the answer by a [`Rejection`](super::Rejection): 409 where a
/// deferred constraint refused it, `outcome-unknown` where nobody can tell. A success is told only
/// when the server has committed. The body of an answer is sent after the commit; what it streams
/// comes from a scope, not from the transaction.
///
/// What is to be told by its status alone must have it when it gets here: layers that turn an error
/// into a success, or the other way round, go inside, those that only add headers outside, because an
/// answer that is replaced loses its own. The outermost of several counts.
#[derive(Clone, Debug, Default)]
pub struct TransactionLayer {
    options: Arc<TxOptions>,
}

impl TransactionLayer {
    /// With transactions of the server's defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// With transactions that are begun with these options. Their retries do not count here: a
    /// request is not repeated.
    #[must_use]
    pub fn options(mut self, options: TxOptions) -> Self {
        self.options = Arc::new(options);
        self
    }

    pub(super) fn around<S>(&self, inner: S) -> TransactionService<S> {
        TransactionService {
            inner,
            options: Arc::clone(&self.options),
        }
    }
}

/// What a [`TransactionLayer`] makes of a service.
#[derive(Clone)]
pub struct TransactionService<S> {
    pub(super) inner: S,
    options: Arc<TxOptions>,
}

impl<S> TransactionService<S> {
    pub(super) fn transaction(&self) -> RequestTransaction {
        RequestTransaction::new(Arc::clone(&self.options))
    }
}

impl<S> fmt::Debug for TransactionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionService").finish_non_exhaustive()
    }
}
