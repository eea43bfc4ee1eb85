//! How a page is made by plain SQL.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Cursor, Direction, Page, PageRequest};
use crate::context::TenantContext;
use crate::error::Error;
use crate::tenant::TenantId;

/// Makes pages of a list: checks the cursor, says where to go on and how many rows to fetch, and
/// makes the next cursor.
///
/// `K` is what the list is ordered by, as a tuple, with the id as its last so that no two rows
/// have the same place. The statement compares all of it as a row, which an index on the same
/// columns serves: `WHERE (due, id) > ($1, $2) ORDER BY due, id LIMIT $3`. For the other direction
/// that is `<` and `DESC` for each column. Nullable columns cannot be compared so: order by
/// `coalesce(..)` of them.
///
/// One text for the first page and one for later ones keep the index: a condition such as
/// `$1 IS NULL OR (due, id) > ($1, $2)` loses it in a generic plan.
///
/// ```
/// # use tenantry::repository::{Direction, Page, PageRequest, Pager};
/// # use tenantry::{Error, Reader};
/// # #[derive(sqlx::FromRow)] struct Case { id: i64, due: i64 }
/// async fn due_first(
///     mut reader: Reader<'_>,
///     request: &PageRequest,
/// ) -> Result<Page<Case>, Error> {
///     let pager = Pager::<(i64, i64)>::new(reader.context(), "cases by due date", request)?;
///     let cases = match (pager.after(), pager.direction()) {
///         (None, Direction::Descending) => {
///             sqlx::query_as("SELECT id, due FROM cases ORDER BY due DESC, id DESC LIMIT $1")
///         }
///         (None, _) => sqlx::query_as("SELECT id, due FROM cases ORDER BY due, id LIMIT $1"),
///         (Some((due, id)), Direction::Descending) => sqlx::query_as(
///             "SELECT id, due FROM cases WHERE (due, id) < ($1, $2) \
///              ORDER BY due DESC, id DESC LIMIT $3",
///         )
///         .bind(due)
///         .bind(id),
///         (Some((due, id)), _) => sqlx::query_as(
///             "SELECT id, due FROM cases WHERE (due, id) > ($1, $2) \
///              ORDER BY due, id LIMIT $3",
///         )
///         .bind(due)
///         .bind(id),
///     };
///     let cases = cases.bind(pager.fetch()).fetch_all(&mut reader).await?;
///     pager.page(cases, |case: &Case| (case.due, case.id))
/// }
/// ```
pub struct Pager<K> {
    tenant: TenantId,
    list: String,
    order: String,
    direction: Direction,
    rows: u32,
    after: Option<K>,
}

impl<K: Serialize + DeserializeOwned> Pager<K> {
    /// For one page of a list. `list` names it, with all that decides about what is in it, such
    /// as a filter: `format!("invoices of {customer}")`. The direction and
    /// [`PageRequest::order`] need not be in it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidCursor`](crate::ErrorKind::InvalidCursor): the request has a cursor of
    /// another tenant, another list, another order, or none at all.
    pub fn new(
        context: &TenantContext,
        list: impl Into<String>,
        request: &PageRequest,
    ) -> Result<Self, Error> {
        let mut pager = Self {
            tenant: context.tenant().clone(),
            list: list.into(),
            order: request.order_name().to_owned(),
            direction: request.direction(),
            rows: request.rows(),
            after: None,
        };
        if let Some(cursor) = request.cursor() {
            pager.after = Some(cursor.position(&pager.tenant, &pager.name())?);
        }
        Ok(pager)
    }

    /// Behind which place the page begins; `None` for the first.
    pub fn after(&self) -> Option<&K> {
        self.after.as_ref()
    }

    /// In which direction the list is read.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// How many rows the statement is to fetch: one more than the page has, which tells whether
    /// there is another page.
    pub fn fetch(&self) -> i64 {
        i64::from(self.rows) + 1
    }

    /// The page, of what the statement fetched. `place` is what the list is ordered by.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`](crate::ErrorKind::InvalidOption) if `K` cannot be written as
    /// JSON, or is longer than [`Cursor::MAX_LEN`] allows.
    pub fn page<Row>(
        &self,
        mut rows: Vec<Row>,
        place: impl FnOnce(&Row) -> K,
    ) -> Result<Page<Row>, Error> {
        let limit = self.rows as usize;
        let has_more = rows.len() > limit;
        rows.truncate(limit);
        let next = match rows.last().filter(|_| has_more) {
            Some(last) => Some(Cursor::at(&place(last), &self.tenant, &self.name())?),
            None => None,
        };
        Ok(Page::new(rows, next))
    }

    /// What a cursor of this list is bound to, beside the tenant.
    fn name(&self) -> [&str; 3] {
        let direction = match self.direction {
            Direction::Ascending => "ascending",
            Direction::Descending => "descending",
        };
        [&self.list, &self.order, direction]
    }
}

impl<K> fmt::Debug for Pager<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pager")
            .field("direction", &self.direction)
            .field("rows", &self.rows)
            .field("is_first", &self.after.is_none())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    type Place = (String, i64);

    fn context(tenant: &str) -> TenantContext {
        TenantContext::new(tenant.parse::<TenantId>().expect("a tenant id"))
    }

    /// The cursor behind this place.
    fn cursor(tenant: &str, list: &str, request: &PageRequest, place: &Place) -> Cursor {
        let request = request.clone().limit(1);
        let pager = Pager::<Place>::new(&context(tenant), list, &request).expect("no cursor");
        let page = pager.page(vec![(), ()], |()| place.clone());
        page.expect("a page").next.expect("a cursor")
    }

    /// Where a page begins that is asked for with this text.
    fn place(
        tenant: &str,
        list: &str,
        request: &PageRequest,
        text: &str,
    ) -> Result<Option<Place>, ErrorKind> {
        let cursor = Cursor::parse(text).map_err(|error| error.kind())?;
        let request = request.clone().after(cursor);
        let pager = Pager::<Place>::new(&context(tenant), list, &request);
        let pager = pager.map_err(|error| error.kind())?;
        Ok(pager.after().cloned())
    }

    const REFUSED: Result<Option<Place>, ErrorKind> = Err(ErrorKind::InvalidCursor);

    #[test]
    fn cursor_is_good_for_its_list_and_no_other() {
        let request = PageRequest::default().order("name");
        let there = ("b".to_owned(), 7);
        let text = cursor("a", "clients", &request, &there).to_string();
        assert_eq!(place("a", "clients", &request, &text), Ok(Some(there)));

        assert_eq!(place("b", "clients", &request, &text), REFUSED);
        assert_eq!(place("a", "cases", &request, &text), REFUSED);
        let others = [
            PageRequest::default(),
            PageRequest::default().order("due"),
            request.clone().descending(),
        ];
        for other in others {
            assert_eq!(place("a", "clients", &other, &text), REFUSED, "{other:?}");
        }
        // Where one part ends and the next begins counts as well.
        let moved = PageRequest::default().order("ame");
        assert_eq!(place("a", "clientsn", &moved, &text), REFUSED);

        // Another type than the one it was made for.
        let parsed: Cursor = text.parse().expect("a cursor");
        let request = request.after(parsed);
        let pager = Pager::<(i64, i64)>::new(&context("a"), "clients", &request);
        let error = pager.expect_err("another type");
        assert_eq!(error.kind(), ErrorKind::InvalidCursor);
    }

    #[test]
    fn place_that_is_too_long_or_no_json_is_refused_when_the_cursor_is_made() {
        let pager =
            Pager::<(String, i64)>::new(&context("a"), "l", &PageRequest::default().limit(1))
                .expect("no cursor");
        let longest = (0..).find(|bytes| {
            let page = pager.page(vec![(), ()], |()| ("x".repeat(*bytes * 64), 1));
            match page {
                Ok(page) => {
                    let text = page.next.expect("a cursor").to_string();
                    assert!(text.len() <= Cursor::MAX_LEN);
                    Cursor::parse(&text).expect("what is made can be read");
                    false
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidOption);
                    true
                }
            }
        });
        assert!(longest.expect("an end") * 64 > 6_000);

        let pager = Pager::<std::collections::BTreeMap<(u8, u8), u8>>::new(
            &context("a"),
            "l",
            &PageRequest::default().limit(1),
        )
        .expect("no cursor");
        let page = pager.page(vec![(), ()], |()| [((1, 2), 3)].into());
        assert_eq!(page.expect_err("no JSON").kind(), ErrorKind::InvalidOption);
    }

    #[test]
    fn page_has_a_next_one_only_if_there_is_more() {
        let pager = Pager::<i64>::new(&context("a"), "l", &PageRequest::default().limit(2))
            .expect("no cursor");
        assert_eq!(pager.fetch(), 3);
        let page = |rows: &[i64]| pager.page(rows.to_vec(), |row| *row).expect("a page");
        assert!(page(&[]).next.is_none() && page(&[1, 2]).next.is_none());
        let page = page(&[1, 2, 3]);
        assert_eq!(page.items, [1, 2]);
        let next = page.next.expect("more");
        let request = PageRequest::default().after(next);
        let pager = Pager::<i64>::new(&context("a"), "l", &request).expect("its own");
        assert_eq!(pager.after(), Some(&2));
    }

    proptest! {
        #[test]
        fn no_text_is_taken_for_a_cursor_and_none_panics(text in "\\PC{0,80}|[A-Za-z0-9_-]{0,120}") {
            prop_assert_eq!(place("a", "l", &PageRequest::default(), &text), REFUSED);
        }

        #[test]
        fn place_comes_back_whole(name in any::<String>(), id in any::<i64>()) {
            let request = PageRequest::default();
            let there = (name.chars().take(500).collect::<String>(), id);
            let text = cursor("a", "l", &request, &there).to_string();
            prop_assert_eq!(place("a", "l", &request, &text), Ok(Some(there)));
        }

        #[test]
        fn what_was_cut_or_changed_is_refused(
            name in ".{0,40}",
            id in any::<i64>(),
            at in any::<prop::sample::Index>(),
            with in "[A-Za-z0-9_-]",
        ) {
            let request = PageRequest::default();
            let text = cursor("a", "l", &request, &(name, id)).to_string();
            let at = at.index(text.len());
            prop_assert_eq!(place("a", "l", &request, &text[..at]), REFUSED);
            prop_assert_eq!(place("a", "l", &request, &text[at + 1..]), REFUSED);
            let longer = format!("{text}{with}");
            prop_assert_eq!(place("a", "l", &request, &longer), REFUSED);
            let mut changed = text.clone();
            changed.replace_range(at..=at, &with);
            if changed != text {
                prop_assert_eq!(place("a", "l", &request, &changed), REFUSED);
            }
        }

        #[test]
        fn bytes_behind_a_good_head_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            use base64::Engine as _;
            let mut whole = vec![1];
            whole.extend(bytes);
            let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(whole);
            prop_assert_eq!(place("a", "l", &PageRequest::default(), &text), REFUSED);
        }
    }
}
