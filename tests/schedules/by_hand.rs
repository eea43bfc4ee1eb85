//! Single cases, step by step.

use std::time::Duration;

use crate::fake::NEVER_OLD;
use crate::schedule::PoolLimits;
use crate::sync::{advance, now};
use crate::table::{Answer, Table, alone};

const TURN: Duration = Duration::from_millis(50);

const ONE: PoolLimits = PoolLimits {
    max: 1,
    ..NEVER_OLD
};

/// A pool that tenants share, with one connection for each at most.
const SHARED: PoolLimits = PoolLimits {
    max: 4,
    max_per_tenant: Some(1),
    ..NEVER_OLD
};

/// An opening took its tenant's turn, and then the connection went to whoever was first by then.
/// Where no connection lived for a second use, some tenant got none at all.
#[test]
fn a_connection_goes_to_the_tenant_for_whose_turn_it_was_opened() {
    alone(|| {
        let limits = PoolLimits { max: 1, ..SHARED };
        let mut table = Table::new(1, TURN, &[limits]);
        table.wait(0, 0);
        table.wait(0, 1);
        let mut grants = [0_usize; 2];
        for _ in 0..20 {
            table.settle();
            let tenant = table.held.first().expect("somebody has it").tenant;
            grants[usize::from(tenant)] += 1;
            table.wait(0, tenant);
            table.discard(0, tenant);
        }
        assert_eq!(grants, [10, 10]);
    });
}

/// A new connection was taken away for a tenant that came first in the round, before the one it
/// was opened for had it: they opened and closed for ever, and nobody got one.
#[test]
fn a_turn_of_no_time_is_one_use() {
    alone(|| {
        let mut table = Table::new(1, Duration::ZERO, &[ONE, ONE]);
        let mut grants = [0_usize; 2];
        table.wait(0, 0);
        table.wait(1, 1);
        for _ in 0..20 {
            table.settle();
            let tenant = table.held.first().expect("somebody has it").tenant;
            grants[usize::from(tenant)] += 1;
            table.wait(tenant.into(), tenant);
            table.give_back(tenant.into(), tenant);
        }
        assert_eq!(grants, [10, 10]);
    });
}

/// Nobody looked when a turn was over.
#[test]
fn an_idle_connection_is_taken_back_when_the_turn_is_over() {
    alone(|| {
        let mut table = Table::new(2, TURN, &[SHARED, ONE]);
        table.lease(0, 1);
        table.lease(0, 2);
        table.wait(0, 1); // has all that one tenant may have
        table.wait(1, 3);
        table.give_back(0, 2);
        table.settle();
        assert!(!table.waits(1, 3));
        table.assert_nobody_waits_in_vain();
    });
}

/// A pool that somebody waits for keeps its idle connections for a turn; nobody looked when he
/// had given up.
#[test]
fn who_gives_up_keeps_nothing_from_others() {
    alone(|| {
        let mut table = Table::new(2, TURN, &[SHARED, ONE]);
        table.lease(0, 1);
        table.lease(0, 2);
        table.wait(0, 1);
        table.wait(1, 3);
        table.give_back(0, 2);
        table.cancel(0);
        // At once, and not only when the turn is over.
        assert!(table.close() && table.open(true));
        assert!(!table.waits(1, 3));
    });
}

/// Connections that were being closed counted as if the pool still had them.
#[test]
fn the_minimum_of_a_pool_is_not_taken_by_two_at_once() {
    alone(|| {
        let keeps_one = PoolLimits {
            min: 1,
            ..NEVER_OLD
        };
        let mut table = Table::new(2, TURN, &[keeps_one, ONE, ONE]);
        table.wait(0, 0);
        table.wait(0, 0);
        table.settle();
        assert_eq!(table.held_by(0, 0), 2);
        table.wait(1, 1);
        table.wait(2, 2);
        table.give_back(0, 0);
        table.give_back(0, 0);
        table.settle();
        assert_eq!(table.pools[0].counts().idle, 1, "its minimum");
        table.assert_nobody_waits_in_vain();
    });
}

/// A pool below its minimum has a claim to places, and nobody looked when it was given up.
#[test]
fn a_claim_that_is_given_up_is_a_place_for_others() {
    alone(|| {
        let keeps_one = PoolLimits {
            min: 1,
            ..NEVER_OLD
        };
        let mut table = Table::new(2, TURN, &[keeps_one, NEVER_OLD]);
        table.lease(1, 1);
        table.wait(1, 1);
        table.settle();
        assert!(table.waits(1, 1), "the other place is claimed");
        assert!(table.pools[0].retire_if_idle());
        table.settle();
        assert!(!table.waits(1, 1));
    });
}

/// A wake-up that was under way was taken for one that is still to come.
#[test]
fn who_comes_with_an_old_time_is_woken_all_the_same() {
    alone(|| {
        let mut table = Table::new(1, TURN, &[ONE]);
        table.wait(0, 0);
        assert!(table.open(false) && table.close());
        assert!(matches!(table.answers[..], [Answer::Failed { .. }]));
        advance(Duration::from_millis(99));
        let old = now();
        table.wait(0, 0);
        table.cancel(0);
        assert!(table.wake(), "the next attempt was to be waited for");
        table.wait_at(0, 0, old);
        table.settle();
        table.assert_nobody_waits_in_vain();
    });
}

/// What its waiters were to have was counted for the whole pool: connections were opened for
/// those who had all they may have.
#[test]
fn nothing_is_opened_for_who_has_all_he_may_have() {
    alone(|| {
        let mut table = Table::new(4, TURN, &[SHARED]);
        table.lease(0, 1);
        for _ in 0..3 {
            table.wait(0, 1);
        }
        table.wait(0, 2);
        table.settle();
        assert_eq!(table.held_by(0, 2), 1);
        let counts = table.pools[0].counts();
        assert_eq!((counts.in_use, counts.idle), (2, 0));
    });
}

/// A tenant that has all it may have waited until the server had let go of what it had discarded.
#[test]
fn who_discards_a_connection_may_have_another_at_once() {
    alone(|| {
        let mut table = Table::new(4, TURN, &[SHARED]);
        table.lease(0, 1);
        table.lease(0, 2);
        table.give_back(0, 2);
        table.wait(0, 1);
        table.discard(0, 1);
        assert!(!table.waits(0, 1));
    });
}

/// One that has a connection, and finds none that it may take for a second, stands before one that
/// has none and may.
#[test]
fn who_has_none_is_not_held_up_by_who_has_some() {
    alone(|| {
        let mut table = Table::new(2, TURN, &[ONE, NEVER_OLD, ONE]);
        table.lease(0, 0);
        table.lease(1, 1);
        table.wait(1, 1);
        table.wait(2, 2);
        table.give_back(0, 0);
        assert_eq!(table.pools[0].counts().closing, 1);
    });
}
