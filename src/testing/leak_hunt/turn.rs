//! One operation for one tenant.

use std::fmt;
use std::sync::Arc;

use super::canary::{self, Place};
use super::ledger::Ledger;
use crate::tenant::TenantId;

/// One operation for one tenant: what is to be done, and who is told what came of it.
///
/// What is told counts at once, also if the work is dropped a moment later. Cheap to clone.
#[derive(Clone)]
pub struct Turn(Arc<Inner>);

struct Inner {
    ledger: Arc<Ledger>,
    tenant: TenantId,
    another: TenantId,
    operation: &'static str,
    place: Place,
    random: u64,
    canary: String,
    doomed: String,
}

impl Turn {
    pub(super) fn new(
        ledger: &Arc<Ledger>,
        (tenant, another): (&TenantId, &TenantId),
        operation: &'static str,
        place: Place,
        random: u64,
    ) -> Self {
        let seed = ledger.seed();
        Self(Arc::new(Inner {
            canary: canary::of(tenant, seed, place),
            doomed: canary::doomed(tenant, seed, place),
            ledger: Arc::clone(ledger),
            tenant: tenant.clone(),
            another: another.clone(),
            operation,
            place,
            random,
        }))
    }

    /// Whose work it is.
    pub fn tenant(&self) -> &TenantId {
        &self.0.tenant
    }

    /// Somebody else, for code that is careless on purpose.
    pub fn another_tenant(&self) -> &TenantId {
        &self.0.another
    }

    /// Which of [`Subject::operations`](super::Subject::operations).
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// A number for choices of the subject's own: the same for the same seed, task and turn.
    pub fn random(&self) -> u64 {
        self.0.random
    }

    /// The text to be written in this turn, which is nobody else's: a row with it belongs to
    /// [`tenant`](Self::tenant). Binding it to a question, and having it back with the answer, tells
    /// that the answer is to this question: see [`answered`](Self::answered).
    pub fn canary(&self) -> &str {
        &self.0.canary
    }

    /// The same for a row that is never committed: wherever it is found by others, something was
    /// kept that was rolled back, or seen before it was committed.
    pub fn doomed_canary(&self) -> &str {
        &self.0.doomed
    }

    /// Another tenant's row was seen, if this text is not one of this tenant's canaries. A text that
    /// is no canary at all counts as another's.
    pub fn saw(&self, row: impl AsRef<str>) {
        self.0.ledger.saw(self, row.as_ref());
    }

    /// As [`saw`](Self::saw), for each of the rows of an answer that should hold all, or the newest,
    /// of the tenant's rows: where the hunt looks after [`Canaries`](super::Canaries), each tenant
    /// has one from the beginning, so that an answer without any of its own is a finding as well.
    pub fn saw_all<R: AsRef<str>>(&self, rows: impl IntoIterator<Item = R>) {
        let mut any = false;
        for row in rows {
            any |= self.0.ledger.saw(self, row.as_ref());
        }
        if !any {
            self.0.ledger.saw_nothing(self);
        }
    }

    /// The answer held this as the text that was sent with the question: another's, if it is not
    /// [`canary`](Self::canary).
    pub fn answered(&self, question: impl AsRef<str>) {
        if question.as_ref() != self.canary() {
            self.0.ledger.crossed(self);
        }
    }

    /// A setting of the session that is free for all to use had this value: another turn's, if it is
    /// a canary and not that of this turn.
    pub fn found_on_session(&self, value: impl AsRef<str>) {
        self.0.ledger.found_on_session(self, value.as_ref());
    }

    /// The row with [`canary`](Self::canary) is committed: the server has said so. If the hunt looks
    /// after [`Canaries`](super::Canaries), it has to be there in the end.
    pub fn wrote(&self) {
        self.0.ledger.wrote(self.0.place);
    }

    pub(super) fn place(&self) -> Place {
        self.0.place
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn")
            .field("operation", &self.0.operation)
            .field("canary", &self.0.canary)
            .finish_non_exhaustive()
    }
}
