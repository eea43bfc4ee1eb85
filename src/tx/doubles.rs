//! A transaction without a server, in which doubles of repositories take part. It behaves as
//! PostgreSQL's does, as far as they can tell: what fails dooms it, savepoints undo, nothing is
//! seen by others before the commit, and then all of it at once.

use std::any::Any;
use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};

use super::hatch::Hatch;
use super::said::Said;
use super::{Failure, TenantTx, TxOptions, savepoint};
use crate::assertion::Assertion;
use crate::error::{Error, ErrorKind};
use crate::lease::Lease;
use crate::settings::ContextSettings;

/// The part that one double has in a transaction.
pub(crate) trait Participant: Any + Send + Sync {
    /// Forgets what was done at this depth of savepoints, and deeper.
    fn undo(&mut self, depth: usize);

    /// What was done deeper than that counts as done at this depth.
    fn release(&mut self, depth: usize);

    /// Whether what was done can be kept.
    fn check(&self) -> Result<(), Error>;

    /// Keeps it. [`check`](Self::check) has just said that it can be.
    fn keep(&mut self);
}

#[derive(Default)]
pub(super) struct Doubles {
    read_only: bool,
    participants: Vec<Box<dyn Participant>>,
}

/// Held by whoever commits, so that what several doubles keep is seen at once.
static COMMIT: RwLock<()> = RwLock::new(());

/// While this is held nothing is committed to any double.
pub(crate) fn nobody_commits() -> RwLockReadGuard<'static, ()> {
    COMMIT.read()
}

impl TenantTx {
    pub(crate) fn detached(
        assertion: &Arc<Assertion>,
        names: &Arc<ContextSettings>,
        options: &TxOptions,
    ) -> Result<Self, Error> {
        options.begin(assertion.set_local(), None)?;
        Ok(Self {
            lease: Lease::of_nothing(),
            assertion: Arc::clone(assertion),
            names: Arc::clone(names),
            unsettled: false,
            savepoints: savepoint::Stack::default(),
            said: Said::default(),
            hatch: Hatch::default(),
            failure: None,
            doubles: Some(Box::new(Doubles {
                read_only: options.is_read_only(),
                participants: Vec::new(),
            })),
        })
    }

    /// The part of a double in what is read, if it has one.
    pub(crate) async fn part<P: Participant>(
        &mut self,
        is_its: impl Fn(&P) -> bool,
    ) -> Result<Option<&P>, Error> {
        self.ready_for_doubles().await?;
        let doubles = self.doubles.iter();
        let mut participants = doubles.flat_map(|doubles| &doubles.participants);
        Ok(participants.find_map(|one| downcast(&**one).filter(|one| is_its(one))))
    }

    /// The part of a double in what is written, which it takes now if it had none, and how many
    /// savepoints are set.
    pub(crate) async fn part_mut<P: Participant>(
        &mut self,
        is_its: impl Fn(&P) -> bool,
        join: impl FnOnce() -> P,
    ) -> Result<(&mut P, usize), Error> {
        self.ready_for_doubles().await?;
        let depth = self.savepoints.depth();
        let Some(doubles) = &mut self.doubles else {
            return Err(Error::new(
                ErrorKind::StatementRefused,
                "a double writes in transactions of a detached scope only: \
                 the server would commit, and the double could not",
            ));
        };
        if doubles.read_only {
            return Err(Error::new(
                ErrorKind::Database,
                "the transaction is read-only",
            ));
        }
        let participants = &mut doubles.participants;
        let found = participants
            .iter()
            .position(|one| downcast(&**one).is_some_and(&is_its));
        let at = found.unwrap_or_else(|| {
            participants.push(Box::new(join()));
            participants.len() - 1
        });
        let one: &mut dyn Any = &mut *participants[at];
        let one = one.downcast_mut().expect("found by its type, or just made");
        Ok((one, depth))
    }

    /// A double has refused something as the server does with a statement: the transaction, or
    /// what of it is behind the last savepoint, can only be rolled back.
    pub(crate) fn fails(&mut self, error: &Error) {
        if let Some(said) = error.database_error() {
            self.failure.get_or_insert(Failure::new(said));
        }
    }

    async fn ready_for_doubles(&mut self) -> Result<(), Error> {
        self.settle().await?;
        match (&self.doubles, &self.failure) {
            (Some(_), Some(_)) => Err(aborted()),
            _ => Ok(()),
        }
    }

    /// What the server says to a message of transaction control.
    pub(super) fn answer(&self, message: &str) -> Result<(), Error> {
        match &self.failure {
            Some(_) if !message.starts_with("ROLLBACK") => Err(aborted()),
            _ => Ok(()),
        }
    }

    pub(super) fn undo_doubles(&mut self) {
        let depth = self.savepoints.depth() + 1;
        for one in self.participants() {
            one.undo(depth);
        }
    }

    pub(super) fn release_doubles(&mut self) {
        let depth = self.savepoints.depth();
        for one in self.participants() {
            one.release(depth);
        }
    }

    pub(super) async fn commit_doubles(&mut self) -> Result<(), Error> {
        self.ready_for_doubles().await?;
        let _alone = COMMIT.write();
        for one in self.participants() {
            one.check()?;
        }
        for one in self.participants() {
            one.keep();
        }
        Ok(())
    }

    fn participants(&mut self) -> impl Iterator<Item = &mut Box<dyn Participant>> {
        let doubles = self.doubles.iter_mut();
        doubles.flat_map(|doubles| &mut doubles.participants)
    }
}

fn downcast<P: Participant>(one: &dyn Participant) -> Option<&P> {
    let one: &dyn Any = one;
    one.downcast_ref()
}

fn aborted() -> Error {
    Error::new(
        ErrorKind::TransactionAborted,
        "an earlier statement failed: the transaction can only be rolled back",
    )
}
