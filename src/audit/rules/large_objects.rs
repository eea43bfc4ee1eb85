//! Large objects, which have an owner and no tenant.

use crate::audit::catalog::Catalog;
use crate::audit::finding::Finding;
use crate::audit::rule::Rule;
use crate::audit::severity::Severity::{High, Info};

const PAGE: &str = "privileges";

const LARGE_OBJECTS: Rule = Rule::new(
    PAGE,
    "large-objects-shared",
    High,
    "large objects have an owner and no tenant: whoever serves tenants reads those of all",
);
const LARGE_OBJECTS_POSSIBLE: Rule = Rule::new(
    PAGE,
    "large-objects-possible",
    Info,
    "large objects can be made, which would belong to all tenants",
);

pub(super) const RULES: &[Rule] = &[LARGE_OBJECTS, LARGE_OBJECTS_POSSIBLE];

pub(super) fn judge(catalog: &Catalog) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_callable = catalog.server_functions.iter().any(|function| {
        is_of_large_objects(&function.name)
            && function
                .callers
                .iter()
                .any(|caller| catalog.is_ours(*caller))
    });
    if !is_callable {
        return findings;
    }
    let possible = Finding::new(
        LARGE_OBJECTS_POSSIBLE,
        "large objects",
        "whoever serves tenants may make and read them: they belong to a role and to no tenant",
    );
    findings.push(without_large_objects(catalog, possible));
    for objects in &catalog.large_objects {
        if !catalog.reach.contains(objects.owner) && !objects.public {
            continue;
        }
        let who = catalog.role_display(objects.owner);
        let why = format!(
            "{} large objects belong to it, and to no tenant",
            objects.count
        );
        let shared = Finding::new(LARGE_OBJECTS, &who, why);
        findings.push(without_large_objects(catalog, shared).advise(
            "before that, move what is in them to a bytea column of a table with policies, and remove \
             them with lo_unlink",
        ));
    }
    findings
}

fn is_of_large_objects(function: &str) -> bool {
    matches!(
        function,
        "lo_creat" | "lo_create" | "lo_from_bytea" | "lo_open" | "lo_get" | "lo_put" | "lo_unlink"
    )
}

fn without_large_objects(catalog: &Catalog, finding: Finding) -> Finding {
    let functions = catalog.server_functions.iter();
    functions
        .filter(|function| is_of_large_objects(&function.name))
        .flat_map(|function| {
            function
                .callers
                .iter()
                .map(move |caller| (function, *caller))
        })
        .filter(|(_, caller)| catalog.is_ours(*caller))
        .fold(finding, |finding, (function, caller)| {
            finding.mend(format!(
                "REVOKE EXECUTE ON FUNCTION {} FROM {};",
                function.display,
                catalog.role_display(caller)
            ))
        })
}
