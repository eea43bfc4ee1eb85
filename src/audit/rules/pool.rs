//! What a pool serves tenants with, which no catalog tells.

use std::collections::BTreeMap;

use crate::audit::finding::Finding;
use crate::audit::pool::{Seen, State};
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{Critical, High, Info, Low, Medium};

const PAGE: &str = "pool";

const SESSION_USER: Rule = Rule::new(
    PAGE,
    "pool-session-user",
    Critical,
    "a pool logs in as one role and serves tenants as another: RESET ROLE in any statement goes back",
);
const OTHER_ROLE: Rule = Rule::new(
    PAGE,
    "pool-other-role",
    Critical,
    "a pool serves tenants as a role that the audit was not told of",
);
const CONTEXT: Rule = Rule::new(
    PAGE,
    "pool-context",
    Critical,
    "a connection has the context of a tenant before anybody said one",
);
const TRANSACTION: Rule = Rule::new(
    PAGE,
    "pool-transaction",
    High,
    "a connection is in a transaction that somebody has left open",
);
const TRACES: Rule = Rule::new(
    PAGE,
    "pool-traces",
    Medium,
    "a connection has what an earlier statement left on its session",
);
const SHARED: Rule = Rule::new(
    PAGE,
    "pool-shares-sessions",
    Low,
    "a pooler lends sessions for a transaction: what is set on a session is set for somebody else",
);
const ROW_SECURITY: Rule = Rule::new(
    PAGE,
    "pool-row-security-off",
    Info,
    "a connection has row_security off: statements that policies would hold back fail",
);

pub(super) const RULES: &[Rule] = &[
    SESSION_USER,
    OTHER_ROLE,
    CONTEXT,
    TRANSACTION,
    TRACES,
    SHARED,
    ROW_SECURITY,
];

/// Each rule once, with how many of the connections it was found on.
pub(in crate::audit) fn judge(seen: &Seen, roles: &[String]) -> Vec<Finding> {
    let mut found: BTreeMap<&'static str, (Finding, usize)> = BTreeMap::new();
    for state in &seen.states {
        for finding in of_session(state, roles) {
            let (_, count) = found.entry(finding.rule().id()).or_insert((finding, 0));
            *count += 1;
        }
    }
    let all = seen.states.len();
    let mut findings: Vec<_> = found
        .into_values()
        .map(|(finding, count)| match count == all {
            true => finding,
            false => finding.advise(format!("found on {count} of {all} connections")),
        })
        .collect();
    if seen.shares_sessions {
        findings.push(
            Finding::new(
                SHARED,
                "the pool",
                "a connection met another session of the server than a moment before",
            )
            .advise(
                "set nothing on a session: SET LOCAL and set_config(.., true) inside a transaction; a \
                 `TenantRegistry` finds such a pooler out by itself",
            ),
        );
    }
    findings
}

fn of_session(state: &State, roles: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (login, role) = (&state.session_user, &state.current_user);
    if login != role {
        let why = match state.session_is_above {
            true => "policies do not hold for the role that logs in",
            false => "what the role that logs in may do, any statement may",
        };
        let severity = match state.session_is_above {
            true => Critical,
            false => Medium,
        };
        findings.push(
            Finding::new(SESSION_USER, login, format!("becomes {role}, and {why}"))
                .severity_of(severity)
                .advise(format!("let the pool log in as {role} itself")),
        );
    }
    if !roles.contains(role) {
        let why = match state.current_is_above {
            true => "serves tenants here, and policies do not hold for it",
            false => "serves tenants here, and is not among the roles of the configuration",
        };
        let severity = match state.current_is_above {
            true => Critical,
            false => Medium,
        };
        findings.push(
            Finding::new(OTHER_ROLE, role, why)
                .severity_of(severity)
                .advise("let the service log in as the application role, or audit this role too"),
        );
    }
    if !state.context.is_empty() {
        findings.push(
            Finding::new(
                CONTEXT,
                "the pool",
                format!("{} is set as it is handed out", state.context.join(", ")),
            )
            .advise(
                "whoever set it did so for a session (SET, set_config(.., false), a hook of the pool, \
                 ALTER ROLE .. SET): set it for a transaction, see `TenantScope::begin`",
            ),
        );
    }
    if state.in_transaction {
        findings.push(
            Finding::new(
                TRANSACTION,
                "the pool",
                "its next statement runs in somebody else's transaction, in the context of that one",
            )
            .advise("a begin that was dropped half-way does that: begin through `TenantScope::begin`"),
        );
    }
    let traces: Vec<_> = [
        (state.temporary, "temporary relations"),
        (state.cursors, "cursors WITH HOLD"),
        (state.advisory_locks, "advisory locks of the session"),
        (state.channels, "channels that it listens on"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    if !traces.is_empty() {
        findings.push(
            Finding::new(TRACES, "the pool", format!("has {}", traces.join(", "))).advise(
                "DISCARD ALL before it is given back, or a `TenantRegistry`, which sees to it",
            ),
        );
    }
    if !state.row_security {
        findings.push(
            Finding::new(ROW_SECURITY, "the pool", "row_security is off")
                .mend("RESET row_security;"),
        );
    }
    findings
}
