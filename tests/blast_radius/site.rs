//! Servers, and who lives on them.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Executor as _};
use tenantry::PostgresDirectory;
use tenantry::sql::{Installation, TenantType};
use tenantry::testing::{FaultProxy, PostgresServer};

use crate::support::control::Control;
use crate::support::fleet::Fleet;
use crate::support::{server, tenant};

/// A server with two tenants that have a database of their own, and two that share one.
pub(crate) struct Site {
    name: String,
    fleet: Fleet,
    /// As the role of the application.
    options: PgConnectOptions,
    shared: String,
    wire: Option<FaultProxy>,
}

impl Site {
    /// Reached past any wire, so that the operating system says when nobody is there.
    pub(crate) async fn direct(server: &PostgresServer, name: &str) -> Self {
        let ids = [format!("{name}_1"), format!("{name}_2")];
        let fleet = Fleet::of(server, ids.iter().map(String::as_str)).await;
        let options = fleet.admin.clone().username(&fleet.role());
        let shared = format!("{}_shared", fleet.role());
        let site = Self {
            name: name.to_owned(),
            fleet,
            options,
            shared,
            wire: None,
        };
        site.share().await;
        site
    }

    pub(crate) async fn behind_a_wire(server: &PostgresServer, name: &str) -> Self {
        let mut site = Self::direct(server, name).await;
        let wire = FaultProxy::start(&site.options).await.expect("a port");
        site.options = wire.connect_options(&site.options);
        site.wire = Some(wire);
        site
    }

    async fn share(&self) {
        let create = format!("CREATE DATABASE {}", self.shared);
        self.fleet.run(create).await;
        let options = self.fleet.admin.clone().database(&self.shared);
        let mut owner = options.connect().await.expect("there");
        let installation =
            Installation::new(self.fleet.role()).tenant_column("tenant_id", TenantType::Text);
        installation.install(&mut owner).await.expect("installed");
        owner
            .execute("CREATE TABLE notes (body text NOT NULL)")
            .await
            .expect("a table");
        let table = installation.table("notes");
        table.apply(&mut owner).await.expect("policies");
        for id in self.sharers() {
            let insert =
                format!("INSERT INTO notes (tenant_id, body) VALUES ('{id}', 'a note of {id}')");
            owner.execute(AssertSqlSafe(insert)).await.expect("a note");
        }
    }

    fn sharers(&self) -> [String; 2] {
        [format!("{}-3", self.name), format!("{}-4", self.name)]
    }

    pub(crate) fn ids(&self) -> Vec<String> {
        let own = self.fleet.tenants.iter().map(ToString::to_string);
        own.chain(self.sharers()).collect()
    }

    pub(crate) fn wire(&self) -> &FaultProxy {
        self.wire.as_ref().expect("it was put behind one")
    }

    /// Where the tenant of this number lives.
    pub(crate) fn database(&self, number: usize) -> PgConnectOptions {
        let name = self.fleet.name(&self.fleet.tenants[number]);
        self.options.clone().database(&name)
    }

    /// Their rows of the table of tenants.
    fn rows(&self, server: &str) -> Vec<String> {
        let row = |id: &str, placement: &str, database: &str| {
            format!("('{id}', '{placement}', '{server}', '{database}')")
        };
        let own = self.fleet.tenants.iter().map(|id| {
            let id = tenant(id.as_str());
            row(id.as_str(), "database", &self.fleet.name(&id))
        });
        let sharers = self.sharers();
        let shared = sharers.iter().map(|id| row(id, "shared", &self.shared));
        own.chain(shared).collect()
    }
}

/// One server that is well and one that is not going to be, and a third one that knows who lives
/// where.
pub(crate) struct Stage {
    pub(crate) sound: Site,
    pub(crate) troubled: Site,
    pub(crate) directory: PostgresDirectory,
    control: Control,
}

impl Stage {
    pub(crate) async fn new(troubled: Site) -> Self {
        Self::with_control(troubled, server().await).await
    }

    pub(crate) async fn with_control(troubled: Site, control: &PostgresServer) -> Self {
        let sound = Site::direct(server().await, "sound").await;
        let database = format!("control_of_{}", sound.fleet.role());
        let admin = control.create_database(&database).await;
        let mut control = Control::on(admin.expect("a database")).await;
        let rows = [sound.rows("sound"), troubled.rows("troubled")].concat();
        let insert = format!(
            "INSERT INTO tenantry.tenants (id, placement, server, database) VALUES {}",
            rows.join(", ")
        );
        control.run(&insert).await;
        let directory = PostgresDirectory::builder(control.reader.clone())
            .server("sound", sound.options.clone())
            .server("troubled", troubled.options.clone())
            .connect()
            .await
            .expect("a directory");
        Self {
            sound,
            troubled,
            directory,
            control,
        }
    }

    /// To the control database, after its server was down.
    pub(crate) async fn reconnect(&mut self, server: &PostgresServer) {
        let database = self.control.reader.get_database().expect("named");
        let admin = server.connect_options().database(database);
        self.control.admin = admin.connect().await.expect("up again");
    }

    pub(crate) async fn set_state(&mut self, id: &str, state: &str) {
        self.control.state(id, state).await;
    }
}
