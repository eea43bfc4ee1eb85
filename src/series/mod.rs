//! Numbers that are given out in order.
//!
//! [`NumberSeries`] leaves no gap and takes turns, [`UniqueSeries`] may leave some and waits for
//! nobody. What they are counted in is made by
//! [`Installation::number_series`](crate::sql::Installation::number_series).

mod definition;
mod number;
mod unique;

use std::time::Duration;

use sqlx::Row as _;
use sqlx::postgres::PgRow;

use crate::error::{Error, ErrorKind};
use crate::reader::Reader;
use crate::tx::{RetryPolicy, TenantTx};

pub use number::SeriesNumber;
pub use unique::UniqueSeries;

use definition::Reset;

/// Numbers without gaps: each tenant has its own, for each series and, if wanted, each year or
/// month: `INV-AXO-00001`, `INV-AXO-2026-00001`, `INV-AXO-2026-03-00001`.
///
/// A number belongs to the transaction that took it. Rolled back, the next one to ask gets it: no
/// gap, no duplicate, and no error for anybody. For that, a tenant's takers of one series wait for
/// each other, from taking a number to the end of the transaction. Other tenants and other series
/// are not waited for.
///
/// # The two forms
///
/// One statement on a scope is a whole transaction: no client is waited for while the number is
/// locked. Bind the series itself:
///
/// ```no_run
/// # use tenantry::{Error, NumberSeries, TenantScope};
/// # async fn example(scope: TenantScope) -> Result<(), Error> {
/// let series = NumberSeries::new("invoice").prefix("INV-AXO").width(5).yearly();
/// let number: String = sqlx::query_scalar(
///     "INSERT INTO invoices (number, amount) VALUES (tenantry.next_number($1), $2) \
///      RETURNING number",
/// )
/// .bind(&series)
/// .bind(100)
/// .fetch_one(&scope)
/// .await?;
/// assert_eq!(number, "INV-AXO-2026-00001");
/// # Ok(())
/// # }
/// ```
///
/// `tenantry.take_number($1)` gives a row of `value`, `period` and `number` instead. Each row that
/// calls one of them takes a number, so a statement that then throws the row away leaves a gap: no
/// `ON CONFLICT DO NOTHING`, and no `WHERE` behind the number.
///
/// In a transaction, [`next`](Self::next). Take the number as late as can be: the others wait until
/// the end.
///
/// ```no_run
/// # use tenantry::{Error, NumberSeries, TenantScope, TxOptions};
/// # async fn example(scope: TenantScope, series: NumberSeries) -> Result<(), Error> {
/// let options = TxOptions::default().retry(NumberSeries::retry_policy());
/// let number = scope
///     .transaction(options, move |tx| {
///         let series = series.clone();
///         Box::pin(async move {
///             let number = series.next(tx).await?;
///             sqlx::query("INSERT INTO invoices (number) VALUES ($1)")
///                 .bind(number.as_str())
///                 .execute(tx)
///                 .await?;
///             Ok::<_, Error>(number)
///         })
///     })
///     .await?;
/// # let _ = number;
/// # Ok(())
/// # }
/// ```
///
/// # What can go wrong
///
/// Under READ COMMITTED, PostgreSQL's default: somebody holds the number for longer than
/// [`lock_timeout`](Self::lock_timeout) (55P03), or two transactions take numbers of two series in
/// turned order (40P01). Under REPEATABLE READ and SERIALIZABLE also 40001, whenever somebody else
/// took a number since the transaction began to read: take numbers under READ COMMITTED where there
/// is a crowd. All three are repeated by [`retry_policy`](Self::retry_policy).
///
/// # When the definition changes
///
/// Prefix and width are what is printed: a new one holds from the next number on, and the count
/// goes on. [`start`](Self::start) counts when a period has no number yet. Whether a series begins
/// anew each year, month or never stays as it was when it began ([`ErrorKind::InvalidOption`]):
/// give one with another rule another name.
///
/// Two series of a tenant with the same prefix print the same numbers; a unique constraint on the
/// column is yours to have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a series is only a description, see `next`"]
pub struct NumberSeries {
    name: String,
    prefix: String,
    width: u32,
    reset: Reset,
    start: i64,
    month: Option<(u16, u8)>,
    time_zone: String,
    lock_timeout: Duration,
}

impl NumberSeries {
    /// A series by name: 1 to 63 characters of a-z, A-Z, 0-9, `-`, `_` and `.`, of which the first
    /// is a letter or a digit.
    ///
    /// What a method is given that it cannot use is reported when a number is taken
    /// ([`ErrorKind::InvalidOption`]), or by [`check`](Self::check).
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            prefix: String::new(),
            width: 1,
            reset: Reset::Never,
            start: 1,
            month: None,
            time_zone: "UTC".to_owned(),
            lock_timeout: Duration::from_secs(3),
        }
    }

    /// What stands in front, with a hyphen between: at most 32 characters of a-z, A-Z, 0-9, `-`,
    /// `_`, `.` and `/`, the first and the last a letter or a digit. Each tenant can have its own.
    /// Default none.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// To how many digits a number is filled up with zeros, 1 to 18. Default 1. A number with more
    /// digits is printed whole: after `INV-99999` comes `INV-100000`.
    pub fn width(mut self, digits: u32) -> Self {
        self.width = digits;
        self
    }

    /// Begins anew each year, which stands before the number. Default never.
    pub fn yearly(mut self) -> Self {
        self.reset = Reset::Year;
        self
    }

    /// Begins anew each month, which stands before the number. Default never.
    pub fn monthly(mut self) -> Self {
        self.reset = Reset::Month;
        self
    }

    /// The first number of a period that has none yet, 0 or more. Default 1.
    pub fn start(mut self, first: i64) -> Self {
        self.start = first;
        self
    }

    /// Where the year or the month begins: a name that PostgreSQL knows, `Europe/Vienna` for
    /// example. The moment is that at which the transaction began. Default UTC.
    pub fn time_zone(mut self, name: impl Into<String>) -> Self {
        self.time_zone = name.into();
        self
    }

    /// Numbers of the year or month of a date of yours, for a document that is dated back, instead
    /// of the current one. Year 1 to 9999, month 1 to 12.
    pub fn dated(mut self, year: u16, month: u8) -> Self {
        self.month = Some((year, month));
        self
    }

    /// How long to wait for somebody who has taken a number and has not come to an end yet: 1 ms
    /// to 24 days, whole milliseconds, rounded up. Default 3 s. A shorter `lock_timeout` of the
    /// transaction or the session holds as well. PostgreSQL counts it for each lock, of which there
    /// are two where many wait.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = timeout;
        self
    }

    /// When taking a number is worth another attempt: up to 5 in all, with a random wait of 50 to
    /// 150 ms before each (full jitter), after a lock time-out, a deadlock or a serialization
    /// failure, within 30 s.
    ///
    /// For [`TxOptions::retry`](crate::TxOptions::retry), and for single statements
    /// [`RetryPolicy::run`].
    pub fn retry_policy() -> RetryPolicy {
        let most = Duration::from_millis(150);
        RetryPolicy::default()
            .max_attempts(5)
            .min_delay(Duration::from_millis(50))
            .delays(most, most)
            .max_elapsed(Duration::from_secs(30))
            .on_lock_timeout()
    }

    /// Whether the series is defined as it should be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`]; the message names the rule.
    pub fn check(&self) -> Result<(), Error> {
        definition::check(self)
    }

    /// Takes the next number.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidOption`]: the series is not defined as it should be, or began with
    ///   another rule of beginning anew;
    /// - [`ErrorKind::Database`]: 55P03 after the time to wait, 40P01 for a deadlock, 40001 under
    ///   REPEATABLE READ and SERIALIZABLE, 22003 when there are no more numbers, 22023 for a time
    ///   zone that the server does not know, 42883 where the counters are not installed;
    /// - those of any statement.
    ///
    /// The transaction can only be rolled back then, or a savepoint before it.
    ///
    /// # Cancel safety
    ///
    /// Dropped while the server is asked, the transaction can only be rolled back: a number that
    /// nobody knows of would be a gap.
    pub async fn next(&self, tx: &mut TenantTx) -> Result<SeriesNumber, Error> {
        self.check()?;
        let query = sqlx::query("SELECT value, period, number FROM tenantry.take_number($1)");
        let row = tx.fetch_whole(query.bind(self)).await?;
        let number = row.map(|row| number(&row)).transpose()?.flatten();
        number.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// Records that a number which was given out is not used, and why: `tenantry.void_numbers`
    /// accounts for it. Whether anything else is to be done to its document is the caller's.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if this series did not give it out to this tenant, or if it is void
    /// already; those of any statement.
    ///
    /// # Cancel safety
    ///
    /// As [`next`](Self::next).
    pub async fn void(
        &self,
        tx: &mut TenantTx,
        number: &SeriesNumber,
        reason: &str,
    ) -> Result<(), Error> {
        self.check()?;
        let query = sqlx::query("SELECT tenantry.void_number($1, $2, $3, $4, $5)")
            .bind(&self.name)
            .bind(number.period().unwrap_or_default())
            .bind(number.value())
            .bind(number.as_str())
            .bind(reason);
        tx.fetch_whole(query).await?;
        Ok(())
    }

    /// Takes the lowest void number of the period, as it was printed; `None` if there is none. Its
    /// record stays, with the time and the user of this transaction.
    ///
    /// It never waits: a number that somebody else is about to use again is passed over.
    ///
    /// # Errors
    ///
    /// Those of any statement.
    ///
    /// # Cancel safety
    ///
    /// As [`next`](Self::next).
    pub async fn reuse(&self, tx: &mut TenantTx) -> Result<Option<SeriesNumber>, Error> {
        self.check()?;
        let query = sqlx::query("SELECT value, period, number FROM tenantry.reuse_number($1)");
        let row = tx.fetch_whole(query.bind(self)).await?;
        Ok(row.map(|row| number(&row)).transpose()?.flatten())
    }

    /// The last number that was given out, over all periods or in that of [`dated`](Self::dated),
    /// as a value; `None` before the first. For reports: whoever adds one to it is where this type
    /// began.
    ///
    /// # Errors
    ///
    /// Those of any statement.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn last(&self, mut reader: Reader<'_>) -> Result<Option<i64>, Error> {
        self.check()?;
        let period = self.month.map(|month| self.reset.period(month));
        let last = sqlx::query_scalar(
            "SELECT last FROM tenantry.number_series WHERE series = $1 \
             AND period = coalesce($2, period) ORDER BY period DESC LIMIT 1",
        )
        .bind(&self.name)
        .bind(period)
        .fetch_optional(&mut reader)
        .await?;
        Ok(last)
    }

    /// Reads a number of this series as it is printed, for [`void`](Self::void).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidOption`] if it is not one that this definition prints, in whatever
    /// width.
    pub fn parse(&self, text: &str) -> Result<SeriesNumber, Error> {
        self.check()?;
        definition::parse(self, text).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidOption,
                "the text is not a number of the series: its prefix, its period if it has one, and \
                 digits, with hyphens between",
            )
        })
    }
}

fn number(row: &PgRow) -> Result<Option<SeriesNumber>, sqlx::Error> {
    let Some(value) = row.try_get("value")? else {
        return Ok(None);
    };
    let (period, text) = (row.try_get("period")?, row.try_get("number")?);
    Ok(Some(SeriesNumber::new(value, period, text)))
}
