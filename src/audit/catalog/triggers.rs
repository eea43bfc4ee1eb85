//! Triggers, of tables and of events: which functions they call.

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

/// Of a table or a view.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Trigger {
    pub(in crate::audit) relation: Id,
    pub(in crate::audit) function: Id,
    /// Of a view, in place of what was asked for.
    pub(in crate::audit) instead: bool,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct EventTrigger {
    /// Quoted where SQL needs it.
    pub(in crate::audit) display: String,
    pub(in crate::audit) function: Id,
}

/// Those that somebody made and that fire.
pub(super) async fn triggers(connection: &mut PgConnection) -> Result<Vec<Trigger>, Error> {
    Ok(sqlx::query_as(
        "SELECT DISTINCT tgrelid AS relation, tgfoid AS function, tgtype & 64 <> 0 AS instead FROM pg_trigger \
         WHERE NOT tgisinternal AND tgenabled <> 'D'",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}

pub(super) async fn event_triggers(
    connection: &mut PgConnection,
) -> Result<Vec<EventTrigger>, Error> {
    Ok(sqlx::query_as(
        "SELECT quote_ident(evtname) AS display, evtfoid AS function FROM pg_event_trigger \
         WHERE evtenabled <> 'D' ORDER BY 1",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?)
}
