//! What the command line says.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tenantry::audit::Severity;

const AFTER: &str = "\
Exit codes:
  0  nothing was found, or all was done
  1  the audit found something that matters at least as much as --fail-on
  2  it could not be done: the message says why
  3  nothing was found in what could be seen, and not all could be

Without --database-url and DATABASE_URL the database is found as psql finds it: PGHOST, PGPORT,
PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and the password file.

A configuration file says the same as options do, and more. They win where both speak:

  application_role = \"app\"
  tenant_column = \"tenant_id\"
  tenant_type = \"uuid\"                    # uuid, bigint or text
  tenant_setting = \"app.tenant_id\"        # this, user_setting and further_settings: what
  user_setting = \"app.user_id\"            # the context is read from
  further_settings = [\"app.request_id\"]
  seal = \"sealed\"                         # signed contexts only; \"prepared\" is the step before
  tables = [\"app.cases\", \"app.invoices\"]
  reference_tables = [\"app.countries\"]
  authorization = true                    # also number_series, trail

  [audit]
  roles = [\"app_jobs\"]                    # further roles that tenants are served as
  global_tables = [\"app.migrations\"]      # meant for all tenants; reference tables are known
  tenants_table = { table = \"app.firms\", column = \"id\" }
  # Where the tenant's key has several columns, the outermost first:
  # key = [{ column = \"firm_id\", setting = \"app.firm_id\" }, ..]

  [audit.tenant_columns]                  # where it has another name
  \"app.archive\" = \"owner_id\"

  [[audit.allow]]                         # looked at, and to stay
  rule = \"view-bypasses-policies\"
  object = \"app.monthly_totals\"           # as the report writes it, or *
  reason = \"sums over all tenants, for the operator's own page\"
  until = \"2027-06-30\"

  [[audit.allow]]                         # what a role that is no superuser does not see
  rule = \"unseen\"
  object = \"pg_statistic\"
  reason = \"audited by hand before each release\"";

/// Tenant isolation in PostgreSQL: installs it, and looks for ways around it.
#[derive(Debug, Parser)]
#[command(version, after_long_help = AFTER)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) database: DatabaseOptions,

    #[command(flatten)]
    pub(crate) subject: SubjectOptions,

    /// When output has colours.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct DatabaseOptions {
    /// postgres://USER@HOST:PORT/DATABASE. Other users of this machine can see what is on a command
    /// line: a password belongs into the variable, or into the password file.
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "DATABASE_URL",
        hide_env_values = true
    )]
    pub(crate) database_url: Option<String>,
}

/// Whose isolation it is.
#[derive(Debug, Args)]
pub(crate) struct SubjectOptions {
    /// What is known of the database. Without this option tenantry.toml is read where there is one.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The role that the service logs in as.
    #[arg(long, global = true, value_name = "ROLE")]
    pub(crate) role: Option<String>,

    /// The column that says whose a row is; tenant_id unless said otherwise.
    #[arg(long, global = true, value_name = "COLUMN")]
    pub(crate) tenant_column: Option<String>,

    /// The type of that column; text unless said otherwise.
    #[arg(long, global = true, value_name = "TYPE")]
    pub(crate) tenant_type: Option<Type>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Look for ways around the isolation of a database. It reads the catalog, in one transaction
    /// that is READ ONLY, and no table; any role may run it.
    #[command(
        after_help = "Exit codes: 0 nothing found, 1 found, 2 could not be done, 3 not all seen"
    )]
    Audit(AuditOptions),
    /// Audit a database, and then really try to get at the rows of other tenants. Only on a database
    /// that can be thrown away: it locks tables, and puts rows into them, which it rolls back. As a
    /// superuser, or a role that may become the one that serves tenants.
    #[command(
        after_help = "Exit codes: 0 nothing found, 1 found, 2 could not be done, 3 not all tried"
    )]
    Probe(ProbeOptions),
    /// List what an audit looks for.
    Rules(RulesOptions),
    /// Print what `install` would run, for migrations of your own. Needs no database.
    Sql(TablesOptions),
    /// Install what the library needs in a database, and put tables under row-level security: as
    /// the owner of both. Running it again mends what has drifted.
    Install(TablesOptions),
    /// Add and retire the keys of a sealed database: as the owner of its schema tenantry.
    #[command(subcommand)]
    Key(KeyCommand),
}

#[derive(Debug, Args)]
pub(crate) struct AuditOptions {
    /// How the report is written.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ReportFormat,

    /// The least severity that counts as found: info, low, medium, high or critical.
    #[arg(long, value_name = "SEVERITY", default_value = "low")]
    pub(crate) fail_on: Severity,

    /// A table that is meant for all tenants. May be given several times.
    #[arg(long, value_name = "TABLE")]
    pub(crate) global_table: Vec<String>,

    /// The table of tenants itself and its key, such as app.firms.id.
    #[arg(long, value_name = "TABLE.COLUMN")]
    pub(crate) tenants_table: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ProbeOptions {
    /// The name of the database, so that no other one is tried by mistake.
    #[arg(value_name = "DATABASE")]
    pub(crate) database: String,

    /// Call the functions as well that the role may call. What they do beyond the database is not
    /// undone.
    #[arg(long)]
    pub(crate) functions: bool,

    #[command(flatten)]
    pub(crate) audit: AuditOptions,
}

#[derive(Debug, Args)]
pub(crate) struct RulesOptions {
    /// How the list is written.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub(crate) format: ListFormat,
}

#[derive(Debug, Args)]
pub(crate) struct TablesOptions {
    /// Only these tables of tenants, such as app.invoices. Without any, all that the configuration
    /// names, and what they need.
    #[arg(value_name = "TABLE")]
    pub(crate) tables: Vec<String>,

    /// Take the seal off that the database has, as far as the configuration asks for less. Without
    /// this nothing is installed then.
    #[arg(long)]
    pub(crate) unseal: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Let processes sign with this key, beside those that the database knows.
    Add(AddKeyOptions),
    /// Take a key back: what was signed with it is refused from then on.
    Retire {
        /// The id of the key.
        id: String,
    },
    /// Have the server make itself another key for its seals. Nothing has to be deployed.
    RotateServer,
}

#[derive(Debug, Args)]
pub(crate) struct AddKeyOptions {
    /// The id of the key, as processes name it.
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) secret: SecretOptions,
}

/// A secret is on no command line, where other users of the machine could see it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SecretOptions {
    /// The file that its secret is in; a line break at the end is none of it.
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,

    /// The environment variable that its secret is in.
    #[arg(long, value_name = "NAME")]
    pub(crate) secret_variable: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// For people.
    Text,
    /// All of it, for programs.
    Json,
    /// SARIF 2.1.0, for viewers of findings.
    Sarif,
    /// The statements that mend what was found. Read them before you run them.
    Sql,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ListFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Type {
    Uuid,
    Bigint,
    Text,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Seal {
    Prepared,
    Sealed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    Always,
    Never,
}

impl Color {
    pub(crate) fn apply(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}
