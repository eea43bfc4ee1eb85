//! A server of our own, with one database that fifteen carriers share and one for the sixteenth.

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::PostgresServer;
use tenantry::{StaticDirectory, TenantId};

use crate::Failure;
use crate::carriers::{ALONE, Flights, Placement};

pub struct Databases {
    server: PostgresServer,
    /// As the role that owns the tables.
    shared: PgConnectOptions,
    alone: PgConnectOptions,
}

/// The role that the service logs in as. It owns nothing.
const ROLE: &str = "app";

const CREATE_ROLE: &str = "DO $$ BEGIN
        IF to_regrole('app') IS NULL THEN CREATE ROLE app LOGIN; END IF;
    END $$";

const TABLES: &str = "
    CREATE TABLE flights (
        id bigint GENERATED ALWAYS AS IDENTITY,
        year int, month int, day int,
        dep_time int, sched_dep_time int, dep_delay int,
        arr_time int, sched_arr_time int, arr_delay int,
        carrier text NOT NULL, flight int, tailnum text, origin text, dest text,
        air_time int, distance int, hour int, minute int, time_hour timestamptz,
        checks int NOT NULL DEFAULT 0,
        PRIMARY KEY (carrier, id));
    CREATE TABLE remarks (
        carrier text NOT NULL,
        number bigint NOT NULL,
        body text NOT NULL,
        PRIMARY KEY (carrier, number));";

const LOAD: &str = "COPY flights (year, month, day, dep_time, sched_dep_time, dep_delay, \
    arr_time, sched_arr_time, arr_delay, carrier, flight, tailnum, origin, dest, \
    air_time, distance, hour, minute, time_hour) FROM STDIN (FORMAT csv, NULL 'NA')";

impl Databases {
    pub async fn start(flights: &Flights) -> Result<Self, Failure> {
        let server = PostgresServer::start().await?;
        // A server that exists already may be in use by others.
        let name = format!("flights_{}", std::process::id());
        let databases = Self {
            shared: server.create_database(&name).await?,
            alone: server.create_database(&format!("{name}_hawaiian")).await?,
            server,
        };
        let mut admin = connect(&databases.shared).await?;
        admin.execute(CREATE_ROLE).await?;
        admin.close().await?;

        let installation = Installation::new(ROLE).tenant_column("carrier", TenantType::Text);
        let of_one = installation.clone().database_of(ALONE.parse()?);
        prepare(&databases.shared, &installation, &flights.shared).await?;
        prepare(&databases.alone, &of_one, &flights.alone).await?;
        Ok(databases)
    }

    /// Where each carrier lives, for the role of the service.
    pub fn directory(&self, flights: &Flights) -> Result<StaticDirectory, Failure> {
        let sharing = flights
            .carriers
            .iter()
            .filter(|carrier| carrier.placement == Placement::Shared)
            .map(|carrier| carrier.tenant.clone());
        Ok(StaticDirectory::new()
            .shared(self.shared(), sharing)
            .database(ALONE.parse()?, self.alone()))
    }

    pub fn shared(&self) -> PgConnectOptions {
        self.shared.clone().username(ROLE)
    }

    pub fn alone(&self) -> PgConnectOptions {
        self.alone.clone().username(ROLE)
    }

    /// A directory with a mistake in it: it sends this carrier to Hawaiian's database.
    pub fn mistaken(&self, carrier: TenantId) -> StaticDirectory {
        StaticDirectory::new().database(carrier, self.alone())
    }

    /// What this example is there to notice.
    pub async fn drop_policies(&self) -> Result<(), Failure> {
        let mut admin = connect(&self.shared).await?;
        for table in ["flights", "remarks"] {
            let text = format!(
                "DROP POLICY tenantry_tenant ON {table}; DROP POLICY tenantry_backstop ON {table}; \
                 ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"
            );
            admin.execute(sqlx::AssertSqlSafe(text)).await?;
        }
        admin.close().await?;
        Ok(())
    }

    pub fn version(&self) -> String {
        let number = self.server.version();
        format!("{}.{}", number / 10_000, number % 10_000)
    }

    pub async fn stop(self) -> Result<(), Failure> {
        Ok(self.server.stop().await?)
    }
}

/// The work of a migration: what tenantry needs, tables, policies, and here the rows as well.
async fn prepare(
    database: &PgConnectOptions,
    installation: &Installation,
    flights: &[u8],
) -> Result<(), Failure> {
    let mut admin = connect(database).await?;
    installation.install(&mut admin).await?;
    admin.execute(TABLES).await?;
    for table in ["flights", "remarks"] {
        installation.table(table).apply(&mut admin).await?;
    }
    let mut copy = admin.copy_in_raw(LOAD).await?;
    copy.send(flights).await?;
    copy.finish().await?;
    admin.execute("ANALYZE").await?;
    admin.close().await?;
    Ok(())
}

async fn connect(options: &PgConnectOptions) -> Result<PgConnection, Failure> {
    Ok(options
        .clone()
        .disable_statement_logging()
        .connect()
        .await?)
}
