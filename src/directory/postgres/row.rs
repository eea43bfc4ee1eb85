//! What a row of the table means.

use std::collections::HashMap;
use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::known::Entry;
use crate::directory::{Database, Placement, TenantRecord, TenantState};
use crate::tenant::TenantId;

/// All rows, in the order that [`TenantId`] has.
pub(super) const ALL_ROWS: &str = "SELECT id, placement, server, database, schema, state, epoch \
    FROM tenantry.tenants ORDER BY id COLLATE \"C\"";

/// The rows with these ids.
pub(super) const SOME_ROWS: &str = "SELECT id, placement, server, database, schema, state, epoch \
    FROM tenantry.tenants WHERE id = ANY($1)";

/// A row as it was read. The table lets no column but `schema` be NULL, and a directory does not
/// depend on that: somebody may have altered the table.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row<'r> {
    pub(super) id: Option<&'r str>,
    placement: Option<&'r str>,
    server: Option<&'r str>,
    database: Option<&'r str>,
    schema: Option<&'r str>,
    state: Option<&'r str>,
    epoch: Option<i64>,
}

impl<'r> Row<'r> {
    pub(super) fn read(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            placement: row.try_get(1)?,
            server: row.try_get(2)?,
            database: row.try_get(3)?,
            schema: row.try_get(4)?,
            state: row.try_get(5)?,
            epoch: row.try_get(6)?,
        })
    }

    /// `None` if no tenant can have this id, or has it in another form.
    pub(super) fn tenant(&self) -> Option<TenantId> {
        let id = self.id?;
        id.parse()
            .ok()
            .filter(|tenant: &TenantId| tenant.as_str() == id)
    }

    pub(super) fn entry(&self, servers: &mut Servers) -> Entry {
        match self.record(servers) {
            Ok(record) => Entry::Record(record),
            Err(rule) => Entry::Unusable(rule),
        }
    }

    fn record(&self, servers: &mut Servers) -> Result<TenantRecord, &'static str> {
        let server = self.server.and_then(|name| servers.get(name));
        let server = server.ok_or("its server is none that this process was told of")?;
        let name = name(self.database).ok_or("the name of its database has 1 to 63 bytes")?;
        let schema = self.schema.map(name_of_schema).transpose()?;
        let placement = match (self.placement, schema) {
            (Some("shared"), None) => Placement::Shared {
                database: server.shared(name),
            },
            (Some("database"), None) => Placement::Database {
                database: server.database.named(name),
            },
            (Some("schema"), Some(schema)) => Placement::Schema {
                database: server.shared(name),
                schema,
            },
            (Some("schema"), None) => return Err("its placement is a schema, and none is named"),
            (Some("shared" | "database"), Some(_)) => {
                return Err("it names a schema, and its placement is none");
            }
            _ => return Err("its placement is none that this release knows"),
        };
        let state = match self.state {
            Some("active") => TenantState::Active,
            Some("suspended") => TenantState::Suspended,
            Some("moving") => TenantState::Moving,
            Some("deleted") => TenantState::Deleted,
            _ => return Err("its state is none that this release knows"),
        };
        let epoch = self.epoch.and_then(|epoch| u64::try_from(epoch).ok());
        let epoch = epoch.ok_or("its epoch is a number from 0 up")?;
        Ok(TenantRecord::new(placement).state(state).epoch(epoch))
    }
}

/// What the names of servers mean, and the databases on them that tenants share: one record of
/// each, not one for each tenant.
pub(super) struct Servers(HashMap<Arc<str>, Server>);

struct Server {
    database: Database,
    shared: HashMap<Arc<str>, Database>,
    /// Those of the reading before, to be taken over as they are met again.
    before: HashMap<Arc<str>, Database>,
}

impl Servers {
    pub(super) fn new(servers: HashMap<Arc<str>, Database>) -> Self {
        let servers = servers.into_iter().map(|(name, database)| {
            let server = Server {
                database,
                shared: HashMap::new(),
                before: HashMap::new(),
            };
            (name, server)
        });
        Self(servers.collect())
    }

    /// Forgets the shared databases that the last reading of the whole table did not meet.
    pub(super) fn begin_reading(&mut self) {
        for server in self.0.values_mut() {
            server.before = std::mem::take(&mut server.shared);
        }
    }

    fn get(&mut self, name: &str) -> Option<&mut Server> {
        self.0.get_mut(name)
    }
}

impl Server {
    fn shared(&mut self, name: &str) -> Database {
        if let Some(database) = self.shared.get(name) {
            return database.clone();
        }
        let (name, database) = self.before.remove_entry(name).unwrap_or_else(|| {
            let name = Arc::<str>::from(name);
            (Arc::clone(&name), self.database.named(name))
        });
        self.shared.insert(name, database.clone());
        database
    }
}

fn name(name: Option<&str>) -> Option<&str> {
    name.filter(|name| (1..=MAX_NAME_BYTES).contains(&name.len()))
}

fn name_of_schema(schema: &str) -> Result<Arc<str>, &'static str> {
    let name = name(Some(schema)).ok_or("the name of its schema has 1 to 63 bytes")?;
    Ok(name.into())
}

/// The longest name PostgreSQL keeps.
const MAX_NAME_BYTES: usize = 63;

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgConnectOptions;

    use super::*;

    fn servers() -> Servers {
        let main = Database::new(
            PgConnectOptions::new_without_pgpass()
                .host("h")
                .username("u"),
        );
        Servers::new(HashMap::from([("main".into(), main)]))
    }

    fn good() -> Row<'static> {
        Row {
            id: Some("acme"),
            placement: Some("database"),
            server: Some("main"),
            database: Some("shop_acme"),
            schema: None,
            state: Some("active"),
            epoch: Some(3),
        }
    }

    fn rule(row: Row<'_>) -> &'static str {
        match row.entry(&mut servers()) {
            Entry::Record(_) => "none",
            Entry::Unusable(rule) => rule,
        }
    }

    #[test]
    fn each_column_is_read() {
        let Entry::Record(record) = good().entry(&mut servers()) else {
            panic!("a good row");
        };
        let Placement::Database { database } = record.placement() else {
            panic!("a database of its own");
        };
        assert_eq!(database.name(), "shop_acme");
        assert_eq!(
            (record.placement_epoch(), record.tenant_state()),
            (3, TenantState::Active)
        );
        let schema = Row {
            placement: Some("schema"),
            schema: Some("s"),
            ..good()
        };
        let Entry::Record(record) = schema.entry(&mut servers()) else {
            panic!("a good row");
        };
        assert!(matches!(record.placement(), Placement::Schema { schema, .. } if &**schema == "s"));
        for (text, state) in [
            ("suspended", TenantState::Suspended),
            ("moving", TenantState::Moving),
            ("deleted", TenantState::Deleted),
        ] {
            let row = Row {
                state: Some(text),
                ..good()
            };
            let entry = row.entry(&mut servers());
            assert!(matches!(entry, Entry::Record(record) if record.tenant_state() == state));
        }
    }

    #[test]
    fn what_cannot_be_understood_has_a_rule() {
        let good = good();
        assert_eq!(rule(good), "none");
        let long = "x".repeat(64);
        for bad in [
            Row {
                server: Some("other"),
                ..good
            },
            Row {
                server: None,
                ..good
            },
            Row {
                database: Some(""),
                ..good
            },
            Row {
                database: Some(&long),
                ..good
            },
            Row {
                database: None,
                ..good
            },
            Row {
                placement: Some("schema"),
                ..good
            },
            Row {
                placement: Some("schema"),
                schema: Some(""),
                ..good
            },
            Row {
                schema: Some("s"),
                ..good
            },
            Row {
                placement: Some("moon"),
                ..good
            },
            Row {
                placement: None,
                ..good
            },
            Row {
                state: Some("asleep"),
                ..good
            },
            Row {
                state: None,
                ..good
            },
            Row {
                epoch: Some(-1),
                ..good
            },
            Row {
                epoch: None,
                ..good
            },
        ] {
            assert_ne!(rule(bad), "none", "{bad:?}");
        }
    }

    #[test]
    fn an_id_in_another_form_is_nobody() {
        for id in ["", "a b", "ABCDEF00-1122-3344-5566-778899AABBCC"] {
            let row = Row {
                id: Some(id),
                ..good()
            };
            assert_eq!(row.tenant(), None, "{id}");
        }
    }

    #[test]
    fn a_shared_database_is_kept_once_and_forgotten_when_no_row_names_it() {
        let mut servers = servers();
        let row = Row {
            placement: Some("shared"),
            ..good()
        };
        let record = |servers: &mut Servers| match row.entry(servers) {
            Entry::Record(record) => record,
            Entry::Unusable(rule) => panic!("{rule}"),
        };
        // Held, so that its place cannot be taken by another.
        let first = record(&mut servers);
        let is_first = |other: TenantRecord| {
            let [first, other] = [&first, &other].map(|record| record.placement().database());
            std::ptr::eq(first.name(), other.name())
        };
        assert!(is_first(record(&mut servers)));
        servers.begin_reading();
        assert!(is_first(record(&mut servers)));
        servers.begin_reading();
        servers.begin_reading();
        assert!(!is_first(record(&mut servers)));
    }
}
