//! `tenantry audit`, `tenantry probe` and `tenantry rules`.

use std::io::IsTerminal as _;

use tenantry::audit::{AuditReport, Auditor, Probe, Rule, Severity};

use crate::arguments::{
    Arguments, AuditOptions, ListFormat, ProbeOptions, ReportFormat, RulesOptions,
};
use crate::configuration::Configuration;
use crate::failure::Failure;
use crate::{DONE, FOUND, NOT_ALL_SEEN, database, paint};

pub(crate) async fn run(arguments: &Arguments, options: &AuditOptions) -> Result<u8, Failure> {
    let configuration = Configuration::read(&arguments.subject)?;
    let auditor = auditor(&configuration, options)?;
    let pool = database::pool(&arguments.database).await?;
    say("reading the catalog");
    let report = auditor.run(&pool).await?;
    print(&report, &configuration, options)
}

pub(crate) async fn probe(arguments: &Arguments, options: &ProbeOptions) -> Result<u8, Failure> {
    let configuration = Configuration::read(&arguments.subject)?;
    let auditor = auditor(&configuration, &options.audit)?;
    let pool = database::pool(&arguments.database).await?;
    let probe = Probe::of(&options.database);
    let probe = match options.functions {
        true => probe.functions(),
        false => probe,
    };
    say("trying to cross");
    let report = auditor.probe(&pool, &probe).await?;
    print(&report, &configuration, &options.audit)
}

fn auditor(configuration: &Configuration, options: &AuditOptions) -> Result<Auditor, Failure> {
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
    Ok(Auditor::new(config))
}

/// For somebody who waits.
fn say(what: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{what}");
    }
}

fn print(
    report: &AuditReport,
    configuration: &Configuration,
    options: &AuditOptions,
) -> Result<u8, Failure> {
    let text = match options.format {
        ReportFormat::Text => paint::report(&report.to_string()),
        ReportFormat::Json => json(report)?,
        ReportFormat::Sarif => match &configuration.file {
            Some(file) => json(&report.sarif().artifact(file))?,
            None => json(&report.sarif())?,
        },
        ReportFormat::Sql => fixes(report, options.fail_on),
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
