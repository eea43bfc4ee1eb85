//! The seal: a context that no statement can change, because nobody but the database can make one.
//!
//! A sealed database takes contexts that a process has signed, and puts what it has verified into
//! the setting `tenantry.context`, under a seal: an HMAC with a key that never leaves the database,
//! over the context, the session's process and the time at which the transaction began. Policies
//! read the context with functions that verify the seal. A statement can write what it likes into
//! the setting and makes nothing of it but an error, and a seal that was kept is none in any other
//! transaction, be it on the same connection.
//!
//! The setting holds the seal (64 hexadecimal digits), the transaction's time (16), which only tells
//! whether the seal is an old one, and the context as a text of `text[]`.
//!
//! The functions run with the rights of their owner, and without a `search_path` of their own, which
//! would cost as much as all else in them: they find no name and no operator by the caller's. So no
//! `IN`, `=`, `NULLIF` or `IS DISTINCT FROM` in them, which look their operators up.

use std::fmt::Write as _;

use super::tenant_rows;
use crate::quote;
use crate::settings::ContextSettings;

/// The layout of a context that is signed: this, tenant, user, further settings, the id of the key,
/// the end in seconds of the Unix epoch, and the token, which signs all before it.
pub(crate) const SEALED_LAYOUT: &str = "sealed-1";

/// How many elements of a signed context are no part of a plain one.
pub(super) const SIGNATURE: usize = 3;

/// Whether a database verifies contexts, the least first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Seal {
    /// It takes them as they come.
    None,
    /// It takes them as they come, and verifies those that are signed; policies do not ask for it.
    Prepared,
    /// It takes signed ones only, and policies verify the seal.
    Sealed,
}

impl Seal {
    /// What `tenantry.installation` says.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Prepared => "prepared",
            Self::Sealed => "sealed",
        }
    }

    /// One that is not known asks for what this release cannot tell, a signature at least.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "none" => Self::None,
            "prepared" => Self::Prepared,
            _ => Self::Sealed,
        }
    }

    pub(super) fn is_sealed(self) -> bool {
        self == Self::Sealed
    }

    /// The levels above this one, as a list of literals; empty for the highest.
    pub(super) fn above(self) -> String {
        let above = [Self::Prepared, Self::Sealed].into_iter();
        let names: Vec<_> = above
            .filter(|level| *level > self)
            .map(|level| quote::literal(level.name()))
            .collect();
        names.join(", ")
    }
}

/// What a sealed database refuses, all with SQLSTATE 28000. `error::classify_database` knows the
/// names, which come as those of constraints.
#[derive(Clone, Copy)]
enum Complaint {
    Key,
    Signature,
    Expired,
    Seal,
}

impl Complaint {
    fn raise(self) -> String {
        let (name, message) = match self {
            Self::Key => ("tenantry_key", "the key of the context is not known here"),
            Self::Signature => (
                "tenantry_signature",
                "the signature of the context is not that of its key",
            ),
            Self::Expired => ("tenantry_expired", "the context has expired"),
            Self::Seal => (
                "tenantry_seal",
                "the seal of the context is not that of this transaction",
            ),
        };
        format!(
            "RAISE EXCEPTION USING ERRCODE = '28000', CONSTRAINT = '{name}', MESSAGE = '{message}';"
        )
    }
}

/// The functions that read the context, and what they need.
pub(super) fn functions(settings: &ContextSettings, seal: Seal) -> String {
    let mut out = String::new();
    if seal != Seal::None {
        out += &keys();
        out += &opening();
    }
    out += &readers(settings, seal);
    // Policies and the domain's CHECKs are evaluated as whoever sends the statement.
    out += "  GRANT EXECUTE ON FUNCTION tenantry.current_tenant(), tenantry.current_user_id(),
    tenantry.context_setting(text) TO PUBLIC;\n";
    if seal != Seal::None {
        out += "  GRANT EXECUTE ON FUNCTION tenantry.open_context(text[]) TO PUBLIC;\n";
    }
    out
}

/// Under row-level security without a policy, so that a privilege which somebody has on all tables
/// reads nothing here. It does not hold the owner, who the functions are.
fn keys() -> String {
    let pad = |name: &str| format!("{name} bytea NOT NULL CHECK (octet_length({name}) = 64)");
    let (inner, outer) = (pad("inner_pad"), pad("outer_pad"));
    let signing = format!(
        "
      id text COLLATE \"C\" PRIMARY KEY,
      {inner},
      {outer},
      added_at timestamptz NOT NULL DEFAULT statement_timestamp()
    "
    );
    let server = format!(
        "
      only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
      {inner},
      {outer},
      previous_inner_pad bytea,
      previous_outer_pad bytea,
      made_at timestamptz NOT NULL DEFAULT statement_timestamp()
    "
    );
    let mut out = String::new();
    for (name, columns) in [("signing_keys", signing), ("server_key", server)] {
        let protect = format!("ALTER TABLE tenantry.{name} ENABLE ROW LEVEL SECURITY;");
        out += &tenant_rows::create("TABLE", name, &columns, &protect);
    }
    let made = new_server_key(
        "INSERT INTO tenantry.server_key (inner_pad, outer_pad) VALUES (inner_pad, outer_pad);",
    );
    let _ = write!(
        out,
        "  IF NOT EXISTS (SELECT FROM tenantry.server_key) THEN
{made}  END IF;
"
    );
    out
}

/// Another key of the database. The one before counts until the next time, for the transactions that
/// are under way.
pub(super) fn rotation() -> String {
    new_server_key(
        "UPDATE tenantry.server_key AS k SET
      previous_inner_pad = k.inner_pad, previous_outer_pad = k.outer_pad,
      inner_pad = new_server_key.inner_pad, outer_pad = new_server_key.outer_pad,
      made_at = statement_timestamp();",
    )
}

/// The pads of HMAC (RFC 2104) of a key of 32 bytes: nothing but the server's own random numbers go
/// into it, and nothing of it into a text.
fn new_server_key(keep: &str) -> String {
    format!(
        "  <<new_server_key>>
  DECLARE
    secret constant bytea := sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
      || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()));
    inner_pad bytea := decode(repeat('36', 64), 'hex');
    outer_pad bytea := decode(repeat('5c', 64), 'hex');
  BEGIN
    FOR i IN 0..31 LOOP
      inner_pad := set_byte(inner_pad, i, get_byte(secret, i) # 54);
      outer_pad := set_byte(outer_pad, i, get_byte(secret, i) # 92);
    END LOOP;
    {keep}
  END;
"
    )
}

/// HMAC-SHA256, as text.
fn mac(inner_pad: &str, outer_pad: &str, message: &str) -> String {
    format!(
        "pg_catalog.encode(pg_catalog.sha256(pg_catalog.byteacat({outer_pad},
      pg_catalog.sha256(pg_catalog.byteacat({inner_pad}, {message})))), 'hex')"
    )
}

/// What the seal is made of: two numbers of a fixed length, and the context.
fn sealed(moment: &str, body: &str) -> String {
    format!(
        "pg_catalog.byteacat(pg_catalog.byteacat({moment}, pg_catalog.int4send(pg_catalog.pg_backend_pid())),
      pg_catalog.convert_to({body}, 'UTF8'))"
    )
}

const MOMENT: &str = "pg_catalog.timestamptz_send(pg_catalog.transaction_timestamp())";

/// Verifies a signed context, and seals it for the rest of the transaction.
///
/// What is signed is the binary form of the array, in which no element can pass for two.
fn opening() -> String {
    let signature = mac(
        "inner_pad",
        "outer_pad",
        "pg_catalog.array_send(argument[1:pg_catalog.int4mi(size, 1)])",
    );
    let seal = mac("inner_pad", "outer_pad", &sealed("moment", "body"));
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.open_context(argument pg_catalog.text[]) RETURNS pg_catalog.bool
    LANGUAGE plpgsql VOLATILE SECURITY DEFINER AS $function$
  DECLARE
    size constant pg_catalog.int4 := pg_catalog.cardinality(argument);
    moment constant pg_catalog.bytea := {MOMENT};
    body constant pg_catalog.text := argument[2:pg_catalog.int4mi(size, {SIGNATURE})]::pg_catalog.text;
    inner_pad pg_catalog.bytea;
    outer_pad pg_catalog.bytea;
  BEGIN
    SELECT k.inner_pad, k.outer_pad INTO inner_pad, outer_pad FROM tenantry.signing_keys AS k
      WHERE k.id OPERATOR(pg_catalog.=) argument[pg_catalog.int4mi(size, 2)];
    IF NOT FOUND THEN
      {key}
    END IF;
    IF pg_catalog.texteq(argument[size], {signature}) IS NOT TRUE THEN
      {signature_refused}
    END IF;
    IF pg_catalog.float8gt(argument[pg_catalog.int4mi(size, 1)]::pg_catalog.float8,
        pg_catalog.date_part('epoch', pg_catalog.clock_timestamp())) IS NOT TRUE THEN
      {expired}
    END IF;
    SELECT k.inner_pad, k.outer_pad INTO STRICT inner_pad, outer_pad FROM tenantry.server_key AS k;
    RETURN pg_catalog.set_config('tenantry.context', pg_catalog.concat({seal},
      pg_catalog.encode(moment, 'hex'), body), true) IS NOT NULL;
  END
  $function$;
",
        key = Complaint::Key.raise(),
        signature_refused = Complaint::Signature.raise(),
        expired = Complaint::Expired.raise(),
    )
}

/// The tenant, the user and the further settings of the context, NULL where there is none. After a
/// transaction that set a setting locally it is ''.
fn readers(settings: &ContextSettings, seal: Seal) -> String {
    let further = settings.further();
    let functions = match seal.is_sealed() {
        true => {
            let element = |number: usize| {
                let elements = "(pg_catalog.substr(context, 81)::pg_catalog.text[])";
                format!("{elements}[{number}]")
            };
            let numbers = further.iter().enumerate().map(|(i, name)| {
                let name = quote::literal(name);
                format!("WHEN pg_catalog.texteq(name, {name}) THEN {}", 3 + i)
            });
            let numbers: Vec<_> = numbers.collect();
            let number = match numbers.is_empty() {
                true => "NULL".to_owned(),
                false => format!("CASE {} END", numbers.join(" ")),
            };
            let setting = format!(
                "(pg_catalog.substr(context, 81)::pg_catalog.text[])[({number})::pg_catalog.int4]"
            );
            [
                verified("current_tenant()", &element(1)),
                verified("current_user_id()", &element(2)),
                verified("context_setting(name pg_catalog.text)", &setting),
            ]
        }
        false => {
            let names: Vec<_> = further.iter().map(|name| quote::literal(name)).collect();
            let setting = match names.is_empty() {
                true => "NULL::text".to_owned(),
                false => format!(
                    "CASE WHEN name IN ({}) THEN nullif(current_setting(name, true), '') END",
                    names.join(", ")
                ),
            };
            let read = |name: &str| {
                let name = quote::literal(name);
                format!("nullif(current_setting({name}, true), '')")
            };
            [
                plain("current_tenant()", &read(settings.tenant())),
                plain("current_user_id()", &read(settings.user())),
                plain("context_setting(name text)", &setting),
            ]
        }
    };
    functions.concat()
}

/// Parsed now, and put in the place of each call by the planner.
fn plain(signature: &str, value: &str) -> String {
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.{signature} RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN {value};
"
    )
}

/// Not in a parallel worker, which is another process than the one that the seal names.
fn verified(signature: &str, value: &str) -> String {
    let body = "pg_catalog.substr(context, 81)";
    let seal = mac("inner_pad", "outer_pad", &sealed(MOMENT, body));
    let is_right = format!("pg_catalog.texteq(pg_catalog.left(context, 64), {seal})");
    let answer = format!("RETURN CASE WHEN pg_catalog.textne({value}, '') THEN {value} END;");
    format!(
        "  CREATE OR REPLACE FUNCTION tenantry.{signature} RETURNS pg_catalog.text
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER AS $function$
  DECLARE
    context constant pg_catalog.text := pg_catalog.current_setting('tenantry.context', true);
    inner_pad pg_catalog.bytea;
    outer_pad pg_catalog.bytea;
  BEGIN
    IF pg_catalog.textne(context, '') IS NOT TRUE THEN
      RETURN NULL;
    END IF;
    SELECT k.inner_pad, k.outer_pad INTO inner_pad, outer_pad FROM tenantry.server_key AS k;
    IF {is_right} THEN
      {answer}
    END IF;
    SELECT k.previous_inner_pad, k.previous_outer_pad INTO inner_pad, outer_pad
      FROM tenantry.server_key AS k;
    IF {is_right} THEN
      {answer}
    END IF;
    {forged}
  END
  $function$;
",
        forged = Complaint::Seal.raise(),
    )
}

/// The expression by which the domain opens a context, once a transaction: nothing is computed where
/// the setting has the same context and this transaction's time. If somebody has put that there,
/// the functions that verify will say so.
pub(super) fn check() -> String {
    format!(
        "CASE WHEN pg_catalog.substr(current_setting('tenantry.context', true), 65) COLLATE pg_catalog.\"C\"
      = encode(timestamptz_send(transaction_timestamp()), 'hex')
        || VALUE[2:cardinality(VALUE) - {SIGNATURE}]::text
    THEN true ELSE tenantry.open_context(VALUE) END"
    )
}

/// Makes the policies of tables that were applied before read what this level has them read. Those
/// of the schema `tenantry` that are not made by `Installation::table` read functions at any level.
pub(super) fn conversion(settings: &ContextSettings, seal: Seal) -> String {
    let context = context(settings, seal);
    format!(
        "  DECLARE
    is_sealed constant boolean := {sealed};
    context constant text := {context};
    policy record;
  BEGIN
    FOR policy IN
      SELECT DISTINCT p.polname AS name, p.polrelid::regclass AS relation, a.attname AS key,
        context || CASE WHEN a.atttypid = 'uuid'::regtype THEN '::uuid'
          WHEN a.atttypid IN ('bigint'::regtype, 'integer'::regtype) THEN '::bigint' ELSE '' END AS tenant
      FROM pg_policy AS p
        JOIN pg_depend AS d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
          AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.polrelid AND d.refobjsubid > 0
        JOIN pg_attribute AS a ON a.attrelid = p.polrelid AND a.attnum = d.refobjsubid
      WHERE p.polname IN ('tenantry_backstop', 'tenantry_tenant') AND p.polcmd = '*'
        AND is_sealed <> EXISTS (
          SELECT FROM pg_depend AS f WHERE f.classid = 'pg_policy'::regclass AND f.objid = p.oid
            AND f.refclassid = 'pg_proc'::regclass
            AND f.refobjid = 'tenantry.current_tenant()'::regprocedure)
    LOOP
      EXECUTE format('ALTER POLICY %I ON %s USING (%I = (SELECT %s)) WITH CHECK (%3$I = (SELECT %4$s))',
        policy.name, policy.relation, policy.key, policy.tenant);
    END LOOP;
  END;
",
        sealed = seal.is_sealed(),
        context = quote::literal(&context),
    )
}

/// The tenant of the context, for policies.
pub(super) fn context(settings: &ContextSettings, seal: Seal) -> String {
    match seal.is_sealed() {
        true => "tenantry.current_tenant()".to_owned(),
        false => plain_context(settings),
    }
}

/// The tenant as its setting has it.
pub(super) fn plain_context(settings: &ContextSettings) -> String {
    let setting = quote::literal(settings.tenant());
    format!("nullif(pg_catalog.current_setting({setting}, true), '')")
}

/// Whether a database is sealed, and whether whoever asks may seal what is made up, because the key
/// is there to be read. Asks the catalog alone, and by no name that the role would have to be allowed to
/// look up.
#[cfg(any(feature = "testing", feature = "audit"))]
pub(crate) const LOOK: &str = "\
SELECT EXISTS (
    SELECT FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
    WHERE n.nspname = 'tenantry' AND f.proname = 'current_tenant' AND f.pronargs = 0 AND f.prosecdef),
  coalesce((
    SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
      AND NOT row_security_active(c.oid)
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'tenantry' AND c.relname = 'server_key'), false)";

/// Seals what the plain settings say, for those who make contexts up: tests of users, and audits. To be
/// run in a transaction whose search path is pinned to `pg_catalog`.
#[cfg(any(feature = "testing", feature = "audit"))]
pub(crate) const MAKE_UP: &str = "\
DO $tenantry$
DECLARE
  moment constant bytea := timestamptz_send(transaction_timestamp());
  body text;
  seal text;
BEGIN
  SELECT array_agg(coalesce(current_setting(s.name, true), '') ORDER BY s.number)::text INTO body
    FROM tenantry.installation AS i,
      unnest(ARRAY[i.tenant_setting, i.user_setting] || i.further_settings) WITH ORDINALITY AS s (name, number);
  SELECT encode(sha256(k.outer_pad || sha256(k.inner_pad || moment || int4send(pg_backend_pid())
    || convert_to(body, 'UTF8'))), 'hex') INTO seal FROM tenantry.server_key AS k;
  PERFORM set_config('tenantry.context', CASE
    WHEN (SELECT coalesce(current_setting(i.tenant_setting, true), '') = '' FROM tenantry.installation AS i) THEN ''
    ELSE seal || encode(moment, 'hex') || body END, true);
END
$tenantry$;";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_was_written() {
        for seal in [Seal::None, Seal::Prepared, Seal::Sealed] {
            assert_eq!(Seal::of(seal.name()), seal);
        }
        assert_eq!(Seal::of("of a later release"), Seal::Sealed);
    }

    /// What runs with the owner's rights finds nothing by the caller's path.
    #[test]
    fn no_name_or_operator_is_looked_up() {
        let settings = ContextSettings::default().with("app.role").expect("a name");
        let bodies = [opening(), readers(&settings, Seal::Sealed)].concat();
        for body in bodies.split("$function$").skip(1).step_by(2) {
            for (before, _) in body.match_indices('(').map(|(at, _)| body.split_at(at)) {
                let name: String = before
                    .chars()
                    .rev()
                    .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.'))
                    .collect();
                let name: String = name.chars().rev().collect();
                let is_found = name.is_empty()
                    || name.starts_with("pg_catalog.")
                    || name.ends_with("OPERATOR");
                assert!(is_found, "{name} in {body}");
            }
            let quoted = body.replace("OPERATOR(pg_catalog.=)", "").replace(":=", "");
            let without_using: String = quoted
                .lines()
                .filter(|line| !line.contains("RAISE EXCEPTION USING"))
                .collect();
            for operator in [
                "=", "<", ">", "||", " IN ", "NULLIF", "DISTINCT", "LIKE", "BETWEEN",
            ] {
                assert!(!without_using.contains(operator), "{operator} in {body}");
            }
            for kind in ["text", "bytea", "int4", "float8", "bool"] {
                let found = without_using.contains(&format!("::{kind}"));
                assert!(!found, "{kind} in {body}");
            }
        }
    }
}
