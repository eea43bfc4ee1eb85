//! When a transaction is worth another attempt, and when to make it.

use std::time::{Duration, Instant};

use super::Failure;
use crate::error::Error;

/// When and how often [`TenantScope::transaction`](crate::TenantScope::transaction) begins anew.
///
/// By default up to 5 attempts within 10 s, after serialization failures (40001), deadlocks (40P01)
/// and statements whose table was altered after they were prepared. Before each there is a random wait between nothing and a bound that doubles from
/// 50 ms to 1 s ("full jitter": those who collided do not collide again).
///
/// ```
/// use std::time::Duration;
/// use tenantry::RetryPolicy;
///
/// let policy = RetryPolicy::default()
///     .max_attempts(3)
///     .on_lock_timeout()
///     .on_unique_violation("invoices_number_key");
/// # let _ = policy;
/// ```
#[derive(Clone, Debug)]
#[must_use = "a policy does nothing by itself, use `TxOptions::retry`"]
pub struct RetryPolicy {
    max_attempts: u32,
    max_elapsed: Duration,
    min_delay: Duration,
    first_delay: Duration,
    max_delay: Duration,
    lock_timeout: bool,
    constraints: Vec<String>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            max_elapsed: Duration::from_secs(10),
            min_delay: Duration::ZERO,
            first_delay: Duration::from_millis(50),
            max_delay: Duration::from_secs(1),
            lock_timeout: false,
            constraints: Vec::new(),
        }
    }
}

impl RetryPolicy {
    /// How many attempts in all. Default 5, at least 1; 1 never repeats.
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// No further attempt is begun after this time. Default 10 s.
    pub fn max_elapsed(mut self, elapsed: Duration) -> Self {
        self.max_elapsed = elapsed;
        self
    }

    /// The bounds of the random wait before the second and before later attempts. Default 50 ms
    /// and 1 s.
    pub fn delays(mut self, first: Duration, max: Duration) -> Self {
        self.first_delay = first;
        self.max_delay = max;
        self
    }

    /// The least that is waited, where the bounds above are not shorter. Default nothing.
    pub fn min_delay(mut self, delay: Duration) -> Self {
        self.min_delay = delay;
        self
    }

    /// Repeat after `lock_timeout` ran out too (55P03). Off by default: whoever holds the lock
    /// may go on holding it.
    pub fn on_lock_timeout(mut self) -> Self {
        self.lock_timeout = true;
        self
    }

    /// Repeat after a violation (23505) of this unique constraint, by name: for values that the
    /// transaction itself works out and will work out differently the next time.
    pub fn on_unique_violation(mut self, constraint: impl Into<String>) -> Self {
        self.constraints.push(constraint.into());
        self
    }

    /// Runs `statement`, and runs it again as this policy says.
    ///
    /// For single statements on a scope: what failed with one of these errors was not carried out.
    /// Statements of a transaction cannot be repeated without it, see
    /// [`TenantScope::transaction`](crate::TenantScope::transaction).
    ///
    /// ```no_run
    /// # use tenantry::{Error, NumberSeries, TenantScope};
    /// # async fn example(scope: TenantScope) -> Result<(), Error> {
    /// let series = NumberSeries::new("invoice").prefix("INV-AXO").width(5);
    /// let number: String = NumberSeries::retry_policy()
    ///     .run(|| {
    ///         sqlx::query_scalar(
    ///             "INSERT INTO invoices (number, amount) VALUES (tenantry.next_number($1), $2) \
    ///              RETURNING number",
    ///         )
    ///         .bind(&series)
    ///         .bind(100)
    ///         .fetch_one(&scope)
    ///     })
    ///     .await?;
    /// # let _ = number;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// That of the last attempt.
    ///
    /// # Cancel safety
    ///
    /// That of `statement`.
    pub async fn run<T, E, F>(&self, mut statement: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, E>>,
        Error: From<E>,
    {
        let started = Instant::now();
        let mut attempts = 0;
        loop {
            let error = match statement().await {
                Ok(value) => return Ok(value),
                Err(error) => Error::from(error),
            };
            attempts += 1;
            let failure = error.database_error().map(Failure::new);
            let delay =
                failure.and_then(|failure| self.next_delay(&failure, attempts, started.elapsed()));
            let Some(delay) = delay else {
                return Err(error);
            };
            tokio::time::sleep(delay).await;
        }
    }

    /// How long to wait before the next attempt; `None` if there is to be none.
    pub(crate) fn next_delay(
        &self,
        failure: &Failure,
        attempts: u32,
        elapsed: Duration,
    ) -> Option<Duration> {
        if !self.is_worth_it(failure) || attempts >= self.max_attempts {
            return None;
        }
        let doubled = 2_u32.saturating_pow(attempts.saturating_sub(1));
        let bound = self.first_delay.saturating_mul(doubled).min(self.max_delay);
        let least = self.min_delay.min(bound);
        let delay = least + (bound - least).mul_f64(fastrand::f64());
        (elapsed + delay < self.max_elapsed).then_some(delay)
    }

    fn is_worth_it(&self, failure: &Failure) -> bool {
        match failure.code.as_str() {
            "40001" | "40P01" => true,
            "55P03" => self.lock_timeout,
            "23505" => failure
                .constraint
                .as_ref()
                .is_some_and(|violated| self.constraints.contains(violated)),
            _ => failure.stale_plan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(code: &str, constraint: Option<&str>) -> Failure {
        Failure {
            code: code.to_owned(),
            constraint: constraint.map(str::to_owned),
            stale_plan: false,
        }
    }

    #[test]
    fn repeats_what_it_was_told_to_and_nothing_else() {
        let plain = RetryPolicy::default();
        let more = RetryPolicy::default()
            .on_lock_timeout()
            .on_unique_violation("number_key");
        let after = |policy: &RetryPolicy, code, constraint| {
            policy
                .next_delay(&failure(code, constraint), 1, Duration::ZERO)
                .is_some()
        };
        assert!(after(&plain, "40001", None) && after(&plain, "40P01", None));
        assert!(!after(&plain, "55P03", None) && after(&more, "55P03", None));
        assert!(!after(&plain, "23505", Some("number_key")));
        assert!(after(&more, "23505", Some("number_key")));
        assert!(!after(&more, "23505", Some("other_key")) && !after(&more, "23503", None));
    }

    #[test]
    fn waits_at_least_so_long() {
        let ms = Duration::from_millis;
        let failure = failure("40001", None);
        for (policy, least, most) in [
            (
                RetryPolicy::default()
                    .delays(ms(150), ms(150))
                    .min_delay(ms(50)),
                ms(50),
                ms(150),
            ),
            (
                RetryPolicy::default()
                    .delays(ms(20), ms(20))
                    .min_delay(ms(50)),
                ms(20),
                ms(20),
            ),
        ] {
            let delays = (1..=200).map(|n| policy.next_delay(&failure, n % 4 + 1, Duration::ZERO));
            for delay in delays.map(|delay| delay.expect("again")) {
                assert!((least..=most).contains(&delay), "{delay:?}");
            }
        }
    }

    #[test]
    fn ends_when_its_time_is_over_and_not_after() {
        let ms = Duration::from_millis;
        let policy = RetryPolicy::default()
            .delays(Duration::ZERO, Duration::ZERO)
            .max_elapsed(ms(10));
        let after = |elapsed| policy.next_delay(&failure("40001", None), 1, elapsed);
        assert_eq!(after(ms(9)), Some(Duration::ZERO));
        assert_eq!(after(ms(10)), None);
    }

    #[test]
    fn waits_within_its_bounds_and_ends() {
        let policy = RetryPolicy::default();
        let failure = failure("40001", None);
        for attempts in 1..5 {
            let bound = Duration::from_millis(50 << (attempts - 1));
            let delays: Vec<_> = (0..200)
                .map(|_| {
                    policy
                        .next_delay(&failure, attempts, Duration::ZERO)
                        .expect("again")
                })
                .collect();
            assert!(delays.iter().all(|delay| *delay <= bound));
            assert!(
                delays.iter().any(|delay| *delay < bound / 4),
                "full jitter begins at zero"
            );
            assert!(
                delays.iter().any(|delay| *delay > bound / 2),
                "and reaches its bound"
            );
        }
        assert_eq!(policy.next_delay(&failure, 5, Duration::ZERO), None);
        assert_eq!(
            policy.next_delay(&failure, 1, Duration::from_secs(10)),
            None
        );
    }
}
