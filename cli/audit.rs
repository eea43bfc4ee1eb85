//! `tenantry audit` and `tenantry rules`.

use std::io::IsTerminal as _;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection};
use tenantry::audit::{AuditReport, Auditor, Rule, Severity};

use crate::arguments::{Arguments, AuditOptions, ListFormat, ReportFormat, RulesOptions};
use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::{DONE, FOUND, NOT_ALL_SEEN, paint};

/// How long it may take until there is a connection.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(arguments: &Arguments, options: &AuditOptions) -> Result<u8, Failure> {
    let configuration = Configuration::read(&arguments.subject)?;
    let mut config = configuration.audit()?;
    for table in &options.global_table {
        config = config.global_table(table);
    }
    if let Some(named) = &options.tenants_table {
        let (table, column) = named.rsplit_once('.').ok_or_else(|| {
            Failure::new("the table of tenants is named with its column: app.firms.id")
        })?;
        config = config.tenants_table(table, column);
    }
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(connectable(arguments).await?);
    if std::io::stderr().is_terminal() {
        eprintln!("reading the catalog");
    }
    let report = Auditor::new(config).run(&pool).await?;
    let text = match options.format {
        ReportFormat::Text => paint::report(&report.to_string()),
        ReportFormat::Json => json(&report)?,
        ReportFormat::Sarif => match &configuration.file {
            Some(file) => json(&report.sarif().artifact(file))?,
            None => json(&report.sarif())?,
        },
        ReportFormat::Sql => fixes(&report, options.fail_on),
    };
    anstream::print!("{text}");
    Ok(
        match (report.has(options.fail_on), report.unseen().next()) {
            (true, _) => FOUND,
            (false, Some(_)) => NOT_ALL_SEEN,
            (false, None) => DONE,
        },
    )
}

/// A pool tries to connect until it gives up, and does not say why it could not.
async fn connectable(arguments: &Arguments) -> Result<PgConnectOptions, Failure> {
    let options = arguments.database.connect_options()?;
    let connection = tokio::time::timeout(PATIENCE, PgConnection::connect_with(&options)).await;
    let connection = connection.map_err(|_| Failure::new("the server does not answer"))?;
    let connection = connection
        .map_err(|error| Failure::new("the database cannot be reached").because(&error))?;
    // That it answers is all there is to know.
    let _ = connection.close().await;
    Ok(options)
}

fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(value);
    let text =
        text.map_err(|error| Failure::new("the report cannot be written").because(&error))?;
    Ok(text + "\n")
}

/// Each statement below what it mends.
fn fixes(report: &AuditReport, least: Severity) -> String {
    let mut text = String::new();
    let mut written = Vec::new();
    for finding in report.findings().filter(|one| one.severity() >= least) {
        // A name of a database may hold a line break, which would end the comment.
        let object = finding.object().replace(['\n', '\r'], " ");
        text += &format!("-- {} {}: {object}\n", finding.severity(), finding.rule());
        if finding.fix().is_empty() {
            text += "-- no statement mends this: see the report\n";
        }
        for statement in finding.fix() {
            if !written.contains(&statement) {
                text += &format!("{statement}\n");
                written.push(statement);
            }
        }
    }
    text
}

pub(crate) fn rules(options: &RulesOptions) -> Result<u8, Failure> {
    let text = match options.format {
        ListFormat::Text => Rule::all()
            .map(|rule| format!("{:<9} {:<36} {}\n", rule.severity(), rule, rule.title()))
            .map(|line| paint::report(&line))
            .collect(),
        ListFormat::Json => {
            let rules: Vec<_> = Rule::all()
                .map(|rule| {
                    serde_json::json!({
                        "id": rule.id(),
                        "severity": rule.severity().as_str(),
                        "title": rule.title(),
                        "page": rule.page(),
                    })
                })
                .collect();
            json(&rules)?
        }
    };
    anstream::print!("{text}");
    Ok(DONE)
}
