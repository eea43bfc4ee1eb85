//! What befalls the warehouse while the load goes on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{Request, StatusCode};
use tenantry::testing::ServerError;
use tenantry::{TenantId, TenantState};

use crate::client::Client;
use crate::load::Load;
use crate::tenants;
use crate::world::World;

pub struct Disturbances<'w> {
    world: &'w World,
    address: SocketAddr,
}

#[derive(Clone, Copy, Debug)]
enum Disturbance {
    Evict,
    Suspend,
    Resume,
    Restart,
    Crash,
}

/// When so many of a thousand requests have been begun.
const SCHEDULE: &[(u64, Disturbance)] = &[
    (50, Disturbance::Evict),
    (100, Disturbance::Evict),
    (200, Disturbance::Evict),
    (300, Disturbance::Evict),
    (400, Disturbance::Suspend),
    (450, Disturbance::Evict),
    (500, Disturbance::Restart),
    (550, Disturbance::Resume),
    (600, Disturbance::Evict),
    (700, Disturbance::Evict),
    (800, Disturbance::Crash),
    (900, Disturbance::Evict),
];

impl<'w> Disturbances<'w> {
    pub fn of(world: &'w World, address: SocketAddr) -> Self {
        Self { world, address }
    }

    /// All of them, each in its time; says what was done.
    pub async fn go_with(&self, load: &Load) -> Vec<&'static str> {
        let mut progress = load.progress.subscribe();
        let mut done = Vec::new();
        for (permille, disturbance) in SCHEDULE {
            let begun = |begun: &u64| *begun * 1000 >= load.requests * permille;
            progress.wait_for(begun).await.expect("the load goes on");
            done.extend(self.carry_out(*disturbance).await);
        }
        done
    }

    async fn carry_out(&self, disturbance: Disturbance) -> Option<&'static str> {
        match disturbance {
            Disturbance::Evict => self.evict(),
            Disturbance::Suspend => self.suspend().await,
            Disturbance::Resume => self.resume().await,
            Disturbance::Restart => {
                let restarted = self.world.server.restart().await;
                done(restarted, "a restart of the server")
            }
            Disturbance::Crash => match self.world.server.crash().await {
                Ok(()) => done(self.world.server.restart().await, "a crash of the server"),
                crashed => done(crashed, ""),
            },
        }
    }

    /// Every pool at once, whatever is under way on it.
    fn evict(&self) -> Option<&'static str> {
        let registry = self.world.registry.as_ref()?;
        let given_up = self
            .world
            .databases
            .tenants()
            .iter()
            .filter(|tenant| registry.evict(tenant))
            .count();
        (given_up > 0).then_some("an eviction of all pools")
    }

    /// Within a second its requests are refused.
    async fn suspend(&self) -> Option<&'static str> {
        let tenant = self.some_tenant();
        assert!(
            self.world
                .directory
                .set_state(tenant, TenantState::Suspended)
        );
        self.until_asked(tenant, |status| status == StatusCode::FORBIDDEN)
            .await;
        Some("the suspension of a tenant")
    }

    async fn resume(&self) -> Option<&'static str> {
        let tenant = self.some_tenant();
        assert!(self.world.directory.set_state(tenant, TenantState::Active));
        self.until_asked(tenant, |status| status != StatusCode::FORBIDDEN)
            .await;
        Some("its return")
    }

    /// The directory's change reaches the registry in a task of its own, which has a second for it.
    async fn until_asked(&self, tenant: &TenantId, is_so: impl Fn(StatusCode) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            let asked = Instant::now();
            let status = self.ask(tenant).await;
            if is_so(status) {
                return;
            }
            assert!(
                asked < deadline,
                "a second later the answer is still {status}"
            );
            tokio::task::yield_now().await;
        }
    }

    fn some_tenant(&self) -> &TenantId {
        &self.world.databases.tenants()[1]
    }

    async fn ask(&self, tenant: &TenantId) -> StatusCode {
        let request = Request::get("/products").header(tenants::HEADER, tenant.as_str());
        let request = request.body(Body::empty()).expect("a request");
        let answer = Client::new(self.address).send(request).await;
        answer.expect("an answer").status
    }
}

/// A server that somebody else runs is left alone.
fn done(result: Result<(), ServerError>, name: &'static str) -> Option<&'static str> {
    match result {
        Ok(()) => Some(name),
        Err(ServerError::NotOurs { .. }) => None,
        Err(error) => panic!("the server is gone: {error}"),
    }
}
