//! How a series is told to the database, and how its numbers look.

use serde::Serialize;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::types::Json;
use sqlx::{Postgres, Type};

use super::{NumberSeries, SeriesNumber};
use crate::error::{Error, ErrorKind};

/// When a series begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Reset {
    Never,
    Year,
    Month,
}

impl Reset {
    pub(super) fn period(self, (year, month): (u16, u8)) -> String {
        match self {
            Self::Never => String::new(),
            Self::Year => format!("{year:04}"),
            Self::Month => format!("{year:04}-{month:02}"),
        }
    }
}

/// What the functions of the schema `tenantry` take, which check it once more: a statement can be
/// written without this crate.
#[derive(Serialize)]
struct Definition<'a> {
    series: &'a str,
    prefix: &'a str,
    width: u32,
    reset: Reset,
    start: i64,
    zone: &'a str,
    wait: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    month: Option<String>,
}

/// A `jsonb` that `tenantry.next_number` and `tenantry.take_number` take.
impl Type<Postgres> for NumberSeries {
    fn type_info() -> PgTypeInfo {
        <Json<()> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for NumberSeries {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        check(self)?;
        let definition = Definition {
            series: &self.name,
            prefix: &self.prefix,
            width: self.width,
            reset: self.reset,
            start: self.start,
            zone: &self.time_zone,
            wait: format!("{}ms", milliseconds(self)),
            month: self.month.map(|month| Reset::Month.period(month)),
        };
        <Json<_> as Encode<'_, Postgres>>::encode_by_ref(&Json(definition), buffer)
    }
}

pub(super) fn check(series: &NumberSeries) -> Result<(), Error> {
    check_name(&series.name)?;
    check_print(&series.prefix, series.width)?;
    let refuse = |rule| Err(Error::new(ErrorKind::InvalidOption, rule));
    if series.start < 0 {
        return refuse("a number series starts at 0 or above");
    }
    if series
        .month
        .is_some_and(|(year, month)| !(1..=9999).contains(&year) || !(1..=12).contains(&month))
    {
        return refuse("a number is dated in year 1 to 9999 and month 1 to 12");
    }
    if series.time_zone.is_empty() || series.time_zone.contains('\0') {
        return refuse("a time zone has a name, without a NUL byte");
    }
    if !(1..=i32::MAX as u128).contains(&milliseconds(series)) {
        return refuse("a lock time-out of a number series is 1 ms to 24 days");
    }
    Ok(())
}

pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if !(1..=63).contains(&name.len())
        || !name.as_bytes()[0].is_ascii_alphanumeric()
        || !name.bytes().all(allowed)
    {
        return Err(Error::new(
            ErrorKind::InvalidOption,
            "the name of a number series has 1 to 63 characters of a-z, A-Z, 0-9, '-', '_' and \
             '.', and begins with a letter or a digit",
        ));
    }
    Ok(())
}

pub(super) fn check_print(prefix: &str, width: u32) -> Result<(), Error> {
    let refuse = |rule| Err(Error::new(ErrorKind::InvalidOption, rule));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let is_solid = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = prefix.as_bytes();
    if bytes.len() > 32
        || !bytes.iter().copied().all(allowed)
        || !is_solid(bytes.first())
        || !is_solid(bytes.last())
    {
        return refuse(
            "the prefix of a number has at most 32 characters of a-z, A-Z, 0-9, '-', '_', '.' and \
             '/', and begins and ends with a letter or a digit",
        );
    }
    if !(1..=18).contains(&width) {
        return refuse("the width of a number is 1 to 18 digits");
    }
    Ok(())
}

/// As `tenantry.take_number` prints it.
pub(super) fn print(prefix: &str, width: u32, value: i64) -> String {
    let separator = if prefix.is_empty() { "" } else { "-" };
    format!("{prefix}{separator}{value:0width$}", width = width as usize)
}

pub(super) fn parse(series: &NumberSeries, text: &str) -> Option<SeriesNumber> {
    let mut rest = text;
    if !series.prefix.is_empty() {
        rest = rest.strip_prefix(&*series.prefix)?.strip_prefix('-')?;
    }
    let mut period = "";
    if series.reset != Reset::Never {
        // The last hyphen stands before the digits.
        (period, rest) = rest.rsplit_once('-')?;
        let pattern = series.reset.period((0, 0));
        let fits = |(is, should): (u8, u8)| match should {
            b'0' => is.is_ascii_digit(),
            _ => is == should,
        };
        if period.len() != pattern.len() || !period.bytes().zip(pattern.bytes()).all(fits) {
            return None;
        }
    }
    // `parse` takes a sign.
    if !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value = rest.parse().ok()?;
    Some(SeriesNumber::new(value, period.to_owned(), text.to_owned()))
}

/// Rounded up: PostgreSQL reads 0 as "no time-out", which a very short one must not become.
fn milliseconds(series: &NumberSeries) -> u128 {
    series.lock_timeout.as_nanos().div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_cannot_be_used_is_refused() {
        let good = || NumberSeries::new("invoice").prefix("INV-AXO").width(5);
        for series in [
            NumberSeries::new(""),
            NumberSeries::new("-a"),
            NumberSeries::new("a b"),
            NumberSeries::new("ä"),
            NumberSeries::new("x".repeat(64)),
            good().prefix("-INV"),
            good().prefix("INV-"),
            good().prefix("I'V"),
            good().prefix("I V"),
            good().prefix("I\0V"),
            good().prefix("x".repeat(33)),
            good().width(0),
            good().width(19),
            good().start(-1),
            good().dated(0, 1),
            good().dated(10_000, 1),
            good().dated(2026, 0),
            good().dated(2026, 13),
            good().time_zone(""),
            good().time_zone("U\0"),
            good().lock_timeout(Duration::ZERO),
            good().lock_timeout(Duration::MAX),
        ] {
            let error = series.check().map_err(|error| error.kind());
            assert_eq!(error, Err(ErrorKind::InvalidOption), "{series:?}");
        }
        for series in [
            good(),
            NumberSeries::new("0"),
            good().prefix("A/1.b_c").start(0).width(18).dated(9999, 12),
            good().lock_timeout(Duration::from_nanos(1)),
        ] {
            assert!(series.check().is_ok(), "{series:?}");
        }
    }

    #[test]
    fn a_printed_number_is_read_again() {
        let plain = NumberSeries::new("a").width(3);
        let prefixed = plain.clone().prefix("INV-2026");
        let monthly = prefixed.clone().monthly();
        for (series, text, value, period) in [
            (&plain, "007", 7, None),
            (&plain, "1000", 1000, None),
            (&prefixed, "INV-2026-007", 7, None),
            (
                &prefixed.clone().yearly(),
                "INV-2026-2027-007",
                7,
                Some("2027"),
            ),
            (&monthly, "INV-2026-2027-03-1234", 1234, Some("2027-03")),
        ] {
            let number = series.parse(text).expect(text);
            assert_eq!((number.value(), number.period()), (value, period), "{text}");
            assert_eq!(number.to_string(), text);
        }
        for (series, text) in [
            (&plain, ""),
            (&plain, "-7"),
            (&plain, "+7"),
            (&plain, "7 "),
            (&plain, "99999999999999999999"),
            (&prefixed, "INV-2027-007"),
            (&prefixed, "INV-2026007"),
            (&prefixed, "INV-2026-2027-007"),
            (&monthly, "INV-2026-2027-007"),
            (&monthly, "INV-2026-2027_03-007"),
            (&monthly, "INV-2026-20x7-03-007"),
        ] {
            assert!(series.parse(text).is_err(), "{text}");
        }
    }
}
