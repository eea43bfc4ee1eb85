//! Whether policies hold rows back from the owner of a view or of a function, in whose name whoever
//! calls it reads.

use std::collections::BTreeMap;

use crate::audit::catalog::{Catalog, Command, Id, Relation};
use crate::audit::predicate::{self, Evaluated, Passed};
use crate::audit::samples::{Context, Whose};
use crate::audit::session::Session;
use crate::audit::subject::Subject;
use crate::audit::unseen::Unseen;
use crate::error::Error;

/// What becomes of the rows of a table in the name of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Those of other tenants are held back, as far as anybody can tell.
    Held,
    /// No policy holds: why, to be read behind the owner's name.
    Exempt(&'static str),
    /// A policy lets a row of another tenant through: which, and when.
    Through(String),
    /// Nobody can tell, and why.
    Unknown(&'static str),
}

/// In whose name, and who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Caller {
    /// Of a view: tables are read with the rights of the owner, and functions called with those of
    /// whoever asks.
    View,
    /// Of a function, for which everybody is the owner.
    Function,
}

type Asked = (Id, Id, Caller, Vec<Command>);

/// Each question is asked once.
pub(super) struct Owners<'a> {
    catalog: &'a Catalog,
    subject: &'a Subject,
    helpers: &'a BTreeMap<String, String>,
    answers: BTreeMap<Asked, Rows>,
    unseen: Vec<Unseen>,
}

impl<'a> Owners<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        subject: &'a Subject,
        helpers: &'a BTreeMap<String, String>,
    ) -> Self {
        Self {
            catalog,
            subject,
            helpers,
            answers: BTreeMap::new(),
            unseen: Vec::new(),
        }
    }

    /// What the auditor's role could not ask.
    pub(super) fn unseen(self) -> Vec<Unseen> {
        self.unseen
    }

    /// Of a table that has row-level security.
    pub(super) async fn rows(
        &mut self,
        session: &mut Session,
        table: &Relation,
        owner: Id,
        caller: Caller,
        commands: &[Command],
    ) -> Result<Rows, Error> {
        let asked = (table.oid, owner, caller, commands.to_vec());
        if let Some(rows) = self.answers.get(&asked) {
            return Ok(rows.clone());
        }
        let rows = self.ask(session, table, owner, caller, commands).await?;
        self.answers.insert(asked, rows.clone());
        Ok(rows)
    }

    async fn ask(
        &mut self,
        session: &mut Session,
        table: &Relation,
        owner: Id,
        caller: Caller,
        commands: &[Command],
    ) -> Result<Rows, Error> {
        if self.catalog.is_above_policies(owner) {
            return Ok(Rows::Exempt("who is above policies"));
        }
        if self.catalog.is_exempt(owner, table) {
            return Ok(Rows::Exempt(match owner == table.owner {
                true => "who owns it: its policies are not forced",
                false => "who has the privileges of its owner: its policies are not forced",
            }));
        }
        let asks_tables = || {
            let policies = self.catalog.policies.get(&table.oid);
            policies.is_some_and(|policies| policies.iter().any(|p| !p.asks.is_empty()))
        };
        let asker = match (caller, self.catalog.reach.own().next()) {
            (Caller::View, Some(own)) if !asks_tables() => own,
            _ => owner,
        };
        let commands: Vec<_> = commands
            .iter()
            .copied()
            .filter(|command| self.catalog.has(owner, table, command.privilege()))
            .collect();
        let known = self.subject.known(table, self.helpers);
        let all = predicate::effective_for(self.catalog, table, owner, asker, &commands);
        let open: Vec<_> = all
            .iter()
            .filter(|effective| !predicate::is_bound(&effective.predicate, &known))
            .collect();
        if open.is_empty() {
            return Ok(Rows::Held);
        }
        if !self.subject.is_of_tenants(table) {
            return Ok(Rows::Unknown("it has no tenant column"));
        }
        let evaluated =
            predicate::evaluate(session, self.catalog, self.subject, table, &open).await?;
        Ok(match evaluated {
            Evaluated::Passed(passed) => match passed.iter().find(|passed| is_foreign(passed)) {
                Some(witness) => Rows::Through(format!(
                    "the row {} passes {}",
                    witness.document,
                    witness.context.words()
                )),
                None => Rows::Held,
            },
            Evaluated::NotJudged(why) => Rows::Unknown(why),
            Evaluated::NotAllowed => {
                let owner = self.catalog.role_display(owner);
                self.unseen.push(Unseen::new(
                    &table.display,
                    format!(
                        "what its policies hold back from {owner} has to be evaluated, and the \
                         auditor's role may not become {owner}: GRANT {owner} TO the role that audits"
                    ),
                ));
                Rows::Unknown("the auditor's role may not become its owner")
            }
        })
    }
}

/// Not its own, or its own where there is no context.
fn is_foreign(passed: &Passed) -> bool {
    match passed.whose {
        Whose::Foreign => true,
        Whose::Own => passed.context != Context::Own,
        Whose::Empty | Whose::Nobody => false,
    }
}
