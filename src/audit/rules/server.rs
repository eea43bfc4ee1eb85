//! What reaches past a database, or past what it keeps apart: parameters, functions and extensions.

use crate::audit::catalog::Catalog;
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{Critical, High, Info, Low};

const PAGE: &str = "privileges";

const PARAMETER: Rule = Rule::new(
    PAGE,
    "privilege-parameter",
    High,
    "the application role may set a parameter that switches checks off",
);
const SERVER_FUNCTION: Rule = Rule::new(
    PAGE,
    "privilege-server-files",
    Critical,
    "the application role may call a function that reads or writes files of the server",
);
const OTHER_SESSIONS: Rule = Rule::new(
    PAGE,
    "server-activity",
    Info,
    "sessions of the same role see each other's statements, with the values that are written in them",
);
pub(super) const OTHER_BACKENDS: Rule = Rule::new(
    PAGE,
    "server-signals",
    Low,
    "sessions of the same role can cancel and end each other",
);
const STATEMENT_STATISTICS: Rule = Rule::new(
    PAGE,
    "extension-statements",
    Low,
    "an extension shows the statements of others, some with the values that are written in them",
);
const STORAGE_STATISTICS: Rule = Rule::new(
    PAGE,
    "extension-storage",
    Low,
    "an extension shows rows or pages that policies hide",
);
const PREPARED_TRANSACTIONS: Rule = Rule::new(
    PAGE,
    "server-prepared-transactions",
    Info,
    "a prepared transaction can be committed by any session of the same role",
);

pub(super) const RULES: &[Rule] = &[
    PARAMETER,
    SERVER_FUNCTION,
    OTHER_SESSIONS,
    OTHER_BACKENDS,
    STATEMENT_STATISTICS,
    STORAGE_STATISTICS,
    PREPARED_TRANSACTIONS,
];

pub(super) fn judge(catalog: &Catalog) -> Vec<Finding> {
    let mut findings = Vec::new();
    parameters(catalog, &mut findings);
    functions(catalog, &mut findings);
    extensions(catalog, &mut findings);
    if catalog.database.max_prepared_transactions > 0 {
        findings.push(
            Finding::new(
                PREPARED_TRANSACTIONS,
                "max_prepared_transactions",
                format!(
                    "is {}: PREPARE TRANSACTION leaves a transaction that no session owns",
                    catalog.database.max_prepared_transactions
                ),
            )
            .advise("set max_prepared_transactions = 0 unless a transaction manager needs it"),
        );
    }
    findings
}

fn parameters(catalog: &Catalog, findings: &mut Vec<Finding>) {
    for granted in &catalog.parameter_privileges {
        if !catalog.is_ours(granted.grantee) {
            continue;
        }
        let who = catalog.role_display(granted.grantee);
        let problem = match &*granted.parameter {
            "session_replication_role" => {
                "with it triggers do not fire and foreign keys are not checked"
            }
            "lo_compat_privileges" => "with it large objects are everybody's to read and write",
            "session_preload_libraries" | "dynamic_library_path" => {
                "with it code of the server's files is loaded into sessions"
            }
            "log_statement" | "log_min_duration_statement" | "log_parameter_max_length" => {
                "with it what it does is kept out of the server's log"
            }
            _ if granted.privilege == "ALTER SYSTEM" => "and that for the whole server",
            _ => continue,
        };
        findings.push(
            Finding::new(
                PARAMETER,
                &granted.parameter,
                format!("{who} may {} it: {problem}", granted.privilege),
            )
            .mend(format!(
                "REVOKE {} ON PARAMETER {} FROM {who};",
                granted.privilege, granted.parameter
            )),
        );
    }
}

fn functions(catalog: &Catalog, findings: &mut Vec<Finding>) {
    for function in &catalog.server_functions {
        let (rule, problem) = match &*function.name {
            "pg_read_file"
            | "pg_read_binary_file"
            | "pg_ls_dir"
            | "pg_stat_file"
            | "lo_import"
            | "lo_export"
            | "pg_file_write" => (
                SERVER_FUNCTION,
                "it reaches the files of the server, those of tables too",
            ),
            "dblink_connect_u" => (
                SERVER_FUNCTION,
                "it connects as the server without a password",
            ),
            "pg_stat_get_activity" => (
                OTHER_SESSIONS,
                "it shows the statements of the same role's other sessions",
            ),
            "pg_cancel_backend" | "pg_terminate_backend" => (
                OTHER_BACKENDS,
                "it ends what the same role's other sessions are doing",
            ),
            "pgrowlocks" | "pgstattuple" | "pgstattuple_approx" | "pg_buffercache_pages" => (
                STORAGE_STATISTICS,
                "it shows what is stored, whatever policies hide",
            ),
            _ => continue,
        };
        for caller in function
            .callers
            .iter()
            .filter(|caller| catalog.is_ours(**caller))
        {
            let who = catalog.role_display(*caller);
            findings.push(
                Finding::new(
                    rule,
                    &function.display,
                    format!("{who} may call it: {problem}"),
                )
                .severity_of(match rule == OTHER_BACKENDS {
                    true => Info,
                    false => rule.severity(),
                })
                .mend(format!(
                    "REVOKE EXECUTE ON FUNCTION {} FROM {who};",
                    function.display
                )),
            );
        }
    }
}

fn extensions(catalog: &Catalog, findings: &mut Vec<Finding>) {
    for view in &catalog.extension_views {
        for reader in view
            .readers
            .iter()
            .filter(|reader| catalog.is_ours(**reader))
        {
            let who = catalog.role_display(*reader);
            let rule = match &*view.extension {
                "pg_buffercache" => STORAGE_STATISTICS,
                _ => STATEMENT_STATISTICS,
            };
            findings.push(
                Finding::new(
                    rule,
                    &view.display,
                    format!(
                        "{who} may read it: it is the extension {}'s",
                        view.extension
                    ),
                )
                .mend(format!("REVOKE SELECT ON {} FROM {who};", view.display)),
            );
        }
    }
}
