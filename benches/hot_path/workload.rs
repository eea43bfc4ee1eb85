//! Who is asked for.

use fastrand::Rng;
use tenantry::TenantId;

/// How many tenants there are.
pub const TENANTS: usize = 10_000;

/// A power of two, so that a thread goes round without a division.
const REQUESTS: usize = 1 << 16;

pub struct Workload {
    tenants: Vec<TenantId>,
    /// The weights of the ranks, each added to those before it.
    cumulative: Vec<f64>,
}

impl Workload {
    pub fn new() -> Self {
        let mut tenants: Vec<TenantId> = (0..TENANTS)
            .map(|number| format!("00000000-0000-4000-8000-{number:012}"))
            .map(|id| id.parse().expect("a tenant id"))
            .collect();
        // Those who are asked for often are not neighbours in memory.
        Rng::with_seed(0).shuffle(&mut tenants);
        let mut sum = 0.0;
        let cumulative = (1..=TENANTS).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Self {
            cumulative: cumulative.collect(),
            tenants,
        }
    }

    /// All of them, the one who is asked for most first.
    pub fn tenants(&self) -> &[TenantId] {
        &self.tenants
    }

    /// The next who is asked for.
    pub fn draw(&self, random: &mut Rng) -> &TenantId {
        &self.tenants[self.rank(random)]
    }

    /// What a thread asks for, again and again.
    pub fn requests(&self, seed: u64) -> Vec<&TenantId> {
        let mut random = Rng::with_seed(seed);
        (0..REQUESTS).map(|_| self.draw(&mut random)).collect()
    }

    fn rank(&self, random: &mut Rng) -> usize {
        let sum = self.cumulative[TENANTS - 1];
        let drawn = random.f64() * sum;
        let rank = self.cumulative.partition_point(|&weight| weight <= drawn);
        rank.min(TENANTS - 1)
    }
}
