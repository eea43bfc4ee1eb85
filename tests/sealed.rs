//! A sealed database: what somebody tries who writes the whole text of a statement and wants the rows
//! of another tenant, each attack beside the plain level, where it gets them or is shown not to need
//! a seal.

mod support;

#[path = "sealed/attacks.rs"]
mod attacks;
#[path = "sealed/direct.rs"]
mod direct;
#[path = "support/folder.rs"]
mod folder;
#[path = "sealed/installing.rs"]
mod installing;
#[path = "sealed/judged.rs"]
mod judged;
#[path = "sealed/keys.rs"]
mod keys;
#[path = "support/pgbouncer.rs"]
mod pgbouncer;
#[path = "sealed/served.rs"]
mod served;
#[path = "sealed/stage.rs"]
mod stage;
#[path = "sealed/tokens.rs"]
mod tokens;
#[path = "sealed/transactions.rs"]
mod transactions;
