//! What policies let through: the predicates that they come to, judged by their form, and on rows
//! that are made up.

mod effective;
mod evaluation;
mod form;
mod helpers;
mod per_row;

pub(super) use effective::{Effective, effective, effective_for};
pub(super) use evaluation::{Evaluated, Passed, evaluate};
pub(super) use form::{Known, KnownColumn, is_bound, is_bound_view};
pub(super) use helpers::{Answers, answers};
pub(super) use per_row::called_per_row;
