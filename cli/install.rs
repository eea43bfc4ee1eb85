//! `tenantry sql` and `tenantry install`.

use sqlx::{Connection as _, PgConnection};
use tenantry::sql::{Advice, Installation};

use crate::arguments::{Arguments, TablesOptions};
use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::{DONE, database};

/// One script.
enum Part {
    Schema,
    Table(String),
    ReferenceTable(String),
    Authorization,
    NumberSeries,
    Trail,
}

/// In the order in which they need each other.
fn parts(configuration: &Configuration, options: &TablesOptions) -> Vec<Part> {
    if !options.tables.is_empty() {
        return options.tables.iter().cloned().map(Part::Table).collect();
    }
    let mut parts = vec![Part::Schema];
    for (is_wanted, part) in [
        (configuration.authorization, Part::Authorization),
        (configuration.number_series, Part::NumberSeries),
        (configuration.trail, Part::Trail),
    ] {
        if is_wanted {
            parts.push(part);
        }
    }
    let reference = configuration.reference_tables.iter().cloned();
    parts.extend(reference.map(Part::ReferenceTable));
    parts.extend(configuration.tables.iter().cloned().map(Part::Table));
    parts
}

impl Part {
    fn title(&self) -> String {
        match self {
            Self::Schema => "the schema tenantry".to_owned(),
            Self::Table(name) => format!("{name}: each row is a tenant's"),
            Self::ReferenceTable(name) => format!("{name}: for all tenants to read"),
            Self::Authorization => "members and their roles".to_owned(),
            Self::NumberSeries => "number series".to_owned(),
            Self::Trail => "the audit log".to_owned(),
        }
    }

    fn sql(&self, installation: &Installation) -> Result<String, tenantry::Error> {
        match self {
            Self::Schema => installation.sql(),
            Self::Table(name) => installation.table(name).sql(),
            Self::ReferenceTable(name) => installation.reference_table(name).sql(),
            Self::Authorization => installation.authorization().sql(),
            Self::NumberSeries => installation.number_series().sql(),
            Self::Trail => installation.trail().sql(),
        }
    }

    /// With what is left to decide afterwards.
    async fn apply(
        &self,
        installation: &Installation,
        owner: &mut PgConnection,
    ) -> Result<Vec<Advice>, tenantry::Error> {
        match self {
            Self::Schema => installation.install(owner).await?,
            Self::Table(name) => {
                let table = installation.table(name);
                table.apply(owner).await?;
                return table.advice(owner).await;
            }
            Self::ReferenceTable(name) => installation.reference_table(name).apply(owner).await?,
            Self::Authorization => installation.authorization().apply(owner).await?,
            Self::NumberSeries => installation.number_series().apply(owner).await?,
            Self::Trail => installation.trail().apply(owner).await?,
        }
        Ok(Vec::new())
    }
}

fn installation(
    configuration: &Configuration,
    options: &TablesOptions,
) -> Result<Installation, Failure> {
    let installation = configuration.installation()?;
    Ok(match options.unseal {
        true => installation.unseal(),
        false => installation,
    })
}

pub(crate) fn print(arguments: &Arguments, options: &TablesOptions) -> Result<u8, Failure> {
    let configuration = Configuration::read(&arguments.subject)?;
    let installation = installation(&configuration, options)?;
    for part in parts(&configuration, options) {
        // A name may hold a line break, which would end the comment.
        let title = part.title().replace(['\n', '\r'], " ");
        let sql = part.sql(&installation)?;
        anstream::println!("-- {title}\n{};\n", sql.trim_end().trim_end_matches(';'));
    }
    Ok(DONE)
}

pub(crate) async fn run(arguments: &Arguments, options: &TablesOptions) -> Result<u8, Failure> {
    let configuration = Configuration::read(&arguments.subject)?;
    let installation = installation(&configuration, options)?;
    let mut owner = database::connect(&arguments.database).await?;
    for part in parts(&configuration, options) {
        let advice = part
            .apply(&installation, &mut owner)
            .await
            .map_err(|error| {
                let failure = Failure::from(error);
                Failure::new(format!("{}: {failure}", part.title()))
            })?;
        anstream::println!("installed {}", part.title());
        for advice in advice {
            for line in advice.to_string().lines() {
                anstream::println!("  {line}");
            }
        }
    }
    // What was asked for is done, whether the good-bye arrives or not.
    let _ = owner.close().await;
    Ok(DONE)
}
