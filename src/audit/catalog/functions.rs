//! Functions that somebody made.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;

use super::id::Id;
use crate::error::Error;

/// What calls a function by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::audit) enum Caller {
    Policy,
    EventTrigger,
    Trigger,
    /// A default, a generated column, a CHECK, an index.
    Table,
    View,
}

#[derive(Clone, Debug, sqlx::FromRow)]
pub(in crate::audit) struct Function {
    pub(in crate::audit) oid: Id,
    pub(in crate::audit) schema: Id,
    pub(in crate::audit) name: String,
    /// With its schema and the types of its arguments, quoted where SQL needs it.
    pub(in crate::audit) display: String,
    pub(in crate::audit) owner: Id,
    /// `FUNCTION` or `PROCEDURE`, as ALTER and REVOKE call it.
    pub(in crate::audit) noun: String,
    pub(in crate::audit) security_definer: bool,
    pub(in crate::audit) leakproof: bool,
    /// Whether only a trigger calls it.
    pub(in crate::audit) is_trigger: bool,
    /// Whether its names were looked up when it was made, and are not when it is called.
    pub(in crate::audit) is_parsed: bool,
    /// The search path that it sets, if it does.
    pub(in crate::audit) search_path: Option<String>,
    /// `name=value` of what it sets while it runs.
    pub(in crate::audit) sets: Vec<String>,
    /// Who may call it.
    pub(in crate::audit) callers: Vec<Id>,
    /// The catalogs of what calls it by itself.
    called_from: Vec<String>,
    /// The functions that call it, as far as these were parsed when they were made.
    called_by: Vec<Id>,
    /// Worked out of these.
    #[sqlx(skip)]
    pub(in crate::audit) called: BTreeSet<Caller>,
    /// Whether it only answers yes or no, or what its caller cannot ask it for: it takes nothing, and
    /// returns no rows.
    pub(in crate::audit) only_answers: bool,
    /// The types of the arguments that it has to be given.
    pub(in crate::audit) arguments: Vec<String>,
    /// Whether it can be called by itself: no aggregate, no window function.
    pub(in crate::audit) is_plain: bool,
    /// With its schema, quoted where SQL needs it, and without its arguments.
    pub(in crate::audit) path: String,
}

impl Function {
    pub(in crate::audit) fn in_policy(&self) -> bool {
        self.called.contains(&Caller::Policy)
    }
}

/// All but the server's own and those of extensions.
pub(super) async fn functions(connection: &mut PgConnection) -> Result<Vec<Function>, Error> {
    let mut functions: Vec<Function> = sqlx::query_as(
        "SELECT f.oid, f.pronamespace AS schema, f.proname::text AS name, f.oid::regprocedure::text AS display, f.proowner AS owner, \
           CASE f.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END AS noun, f.prosecdef AS security_definer, \
           f.proleakproof AS leakproof, f.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype) AS is_trigger, \
           f.prosqlbody IS NOT NULL OR f.prolang IN (SELECT oid FROM pg_language WHERE lanname IN ('internal', 'c')) AS is_parsed, \
           (SELECT substr(setting, length('search_path=') + 1) FROM unnest(f.proconfig) AS setting \
             WHERE setting LIKE 'search\\_path=%') AS search_path, \
           coalesce(f.proconfig, '{}') AS sets, \
           ARRAY(SELECT DISTINCT grantee FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) \
             WHERE privilege_type = 'EXECUTE' AND grantee <> f.proowner) AS callers, \
           ARRAY(SELECT DISTINCT d.classid::regclass::text FROM pg_depend AS d \
             WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid) AS called_from, \
           ARRAY(SELECT DISTINCT d.objid FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass \
             AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = f.oid) AS called_by, \
           t.typname = 'bool' OR f.pronargs = 0 AND t.typtype <> 'c' AND t.typname NOT IN ('record', 'json', 'jsonb', 'xml', 'refcursor') AS only_answers, \
           ARRAY(SELECT format_type(type, NULL) FROM unnest(f.proargtypes) WITH ORDINALITY AS a (type, number) \
             WHERE number <= f.pronargs - f.pronargdefaults ORDER BY number) AS arguments, \
           f.prokind IN ('f', 'p') AS is_plain, format('%I.%I', n.nspname, f.proname) AS path \
         FROM pg_proc AS f \
           JOIN pg_namespace AS n ON n.oid = f.pronamespace JOIN pg_type AS t ON t.oid = f.prorettype \
         WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
           AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e') \
         ORDER BY f.oid::regprocedure::text",
    )
    .persistent(false)
    .fetch_all(connection)
    .await?;
    spread(&mut functions);
    Ok(functions)
}

/// What calls a function calls those that it calls.
fn spread(functions: &mut [Function]) {
    let mut calls: BTreeMap<Id, Vec<usize>> = BTreeMap::new();
    for (number, function) in functions.iter().enumerate() {
        for caller in &function.called_by {
            calls.entry(*caller).or_default().push(number);
        }
    }
    let mut open = Vec::new();
    for function in &mut *functions {
        function.called = function
            .called_from
            .iter()
            .filter_map(|catalog| caller(catalog))
            .collect();
        open.extend(function.called.iter().map(|caller| (function.oid, *caller)));
    }
    while let Some((function, caller)) = open.pop() {
        for number in calls.get(&function).into_iter().flatten() {
            let inner = &mut functions[*number];
            if inner.called.insert(caller) {
                open.push((inner.oid, caller));
            }
        }
    }
}

fn caller(catalog: &str) -> Option<Caller> {
    match catalog {
        "pg_policy" => Some(Caller::Policy),
        "pg_event_trigger" => Some(Caller::EventTrigger),
        "pg_trigger" => Some(Caller::Trigger),
        "pg_attrdef" | "pg_constraint" | "pg_class" => Some(Caller::Table),
        "pg_rewrite" => Some(Caller::View),
        _ => None,
    }
}
