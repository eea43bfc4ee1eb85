//! What is looked for.

use std::fmt;
use std::hash::{Hash, Hasher};

use super::rules;
use super::severity::Severity;

/// One thing that the auditor looks for.
///
/// Its [`id`](Self::id) never changes its meaning: lists of what is allowed hold it.
#[derive(Clone, Copy)]
pub struct Rule {
    id: &'static str,
    severity: Severity,
    title: &'static str,
    page: &'static str,
}

impl Rule {
    /// `page` is the file in `docs/audit`, without its ending.
    pub(super) const fn new(
        page: &'static str,
        id: &'static str,
        severity: Severity,
        title: &'static str,
    ) -> Self {
        Self {
            id,
            severity,
            title,
            page,
        }
    }

    /// All rules, grouped by what they are about.
    pub fn all() -> impl Iterator<Item = Self> {
        rules::ALL.iter().flat_map(|rules| rules.iter().copied())
    }

    /// A few words with hyphens, such as `role-superuser`.
    pub fn id(self) -> &'static str {
        self.id
    }

    /// How much it matters at most: a finding may say less, where a part of what it takes is not
    /// there.
    pub fn severity(self) -> Severity {
        self.severity
    }

    /// What is wrong, in a sentence.
    pub fn title(self) -> &'static str {
        self.title
    }

    /// Where it is explained, from the root of the repository.
    pub fn page(self) -> String {
        format!("docs/audit/{}.md#{}", self.page, self.id)
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Rule {}

impl Hash for Rule {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Rule").field(&self.id).finish()
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// `UPDATE_SNAPSHOTS=1` writes the table anew.
    #[test]
    fn each_rule_is_explained_and_in_the_table() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit");
        let mut ids = BTreeSet::new();
        let mut table = String::from("| rule | at most | |\n|---|---|---|\n");
        for rule in Rule::all() {
            assert!(ids.insert(rule.id()), "there are two of {rule}");
            let page = std::fs::read_to_string(folder.join(format!("{}.md", rule.page)));
            let heading = format!("## {}", rule.id());
            let is_there = page.expect("a page").lines().any(|line| line == heading);
            assert!(is_there, "docs/audit/{}.md has no {heading}", rule.page);
            let (id, page) = (rule.id(), rule.page);
            table += &format!(
                "| [{id}]({page}.md#{id}) | {} | {} |\n",
                rule.severity, rule.title
            );
        }
        let readme = folder.join("README.md");
        let text = std::fs::read_to_string(&readme).expect("the table");
        let (before, found) = text.split_at(text.find("| rule |").expect("the table"));
        if found != table && std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
            std::fs::write(&readme, format!("{before}{table}")).expect("written");
            return;
        }
        assert_eq!(found, table, "run this with UPDATE_SNAPSHOTS=1");
    }

    #[test]
    fn pages_explain_no_rule_that_is_gone() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit");
        let ids: BTreeSet<_> = Rule::all().map(Rule::id).collect();
        let pages: BTreeSet<_> = Rule::all().map(|rule| rule.page).collect();
        for page in pages {
            let text = std::fs::read_to_string(folder.join(format!("{page}.md"))).expect("a page");
            for heading in text.lines().filter_map(|line| line.strip_prefix("## ")) {
                assert!(ids.contains(heading), "{page}.md explains {heading}");
            }
        }
    }
}
