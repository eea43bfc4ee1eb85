//! What processes keep in common.
//!
//! Redis is not trusted. An entry is sealed, and found, with a key that only the tenant's database
//! hands out: the mark of the epoch, 122 random bits that are others after each change. Whoever can
//! write into Redis can make entries disappear, and no more.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use parking_lot::Mutex;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::cache::Epoch;
use super::held::Held;
use super::permission::PermissionPattern;
use crate::error::{Error, ErrorKind};

/// A connection to Redis, which is opened when it is first used and whenever it was lost.
#[derive(Clone)]
pub(super) struct Redis {
    manager: ConnectionManager,
    timeout: Duration,
    time_to_live: Duration,
    /// Until then it is not asked, because it did not answer.
    silent_until: std::sync::Arc<Mutex<Option<Instant>>>,
}

/// What an entry says.
#[derive(Serialize, Deserialize)]
struct Entry {
    member: bool,
    granted: Vec<String>,
    denied: Vec<String>,
}

/// What an entry is sealed with, for one user of one tenant in one epoch.
struct Seal(Hmac<Sha256>);

impl Redis {
    /// To be called inside a tokio runtime.
    pub(super) fn new(url: &str, timeout: Duration, time_to_live: Duration) -> Result<Self, Error> {
        let refused = |error: redis::RedisError| {
            Error::new(
                ErrorKind::InvalidOption,
                "the address of Redis is not one, or of a kind that is not supported",
            )
            .with_source(error)
        };
        let client = redis::Client::open(url).map_err(refused)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PAUSE))
            .set_response_timeout(Some(timeout))
            .set_max_delay(PAUSE);
        Ok(Self {
            manager: ConnectionManager::new_lazy_with_config(client, config).map_err(refused)?,
            timeout,
            time_to_live,
            silent_until: std::sync::Arc::default(),
        })
    }

    /// What another process found out in the same epoch. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(super) async fn find(&self, tenant: &str, user: &str, epoch: Epoch) -> Option<Held> {
        let seal = Seal::new(tenant, user, epoch);
        // Not GET: whatever is there, no more than this of it is read.
        let mut command = redis::cmd("GETRANGE");
        command.arg(seal.name()).arg(0).arg(MAX_BYTES - 1);
        let value: Vec<u8> = self.run(command).await?;
        seal.open(&value)
    }

    /// Lets others know, in a task of its own: nobody waits for it.
    pub(super) fn put(&self, tenant: &str, user: &str, epoch: Epoch, held: &Held) {
        let seal = Seal::new(tenant, user, epoch);
        let Some(value) = seal.close(held) else {
            return;
        };
        let mut command = redis::cmd("SET");
        let seconds = self.time_to_live.as_secs().max(1);
        command.arg(seal.name()).arg(value).arg("EX").arg(seconds);
        let redis = self.clone();
        tokio::spawn(async move { redis.run::<()>(command).await });
    }

    async fn run<T: redis::FromRedisValue>(&self, command: redis::Cmd) -> Option<T> {
        if self
            .silent_until
            .lock()
            .is_some_and(|until| Instant::now() < until)
        {
            return None;
        }
        let mut manager = self.manager.clone();
        match tokio::time::timeout(self.timeout, command.query_async(&mut manager)).await {
            Ok(Ok(value)) => Some(value),
            // It may be asked for something else, if what is there is of another type.
            Ok(Err(error)) if error.code().is_some() => None,
            Ok(Err(_)) | Err(_) => {
                *self.silent_until.lock() = Some(Instant::now() + PAUSE);
                // No word of the error: it may hold the address.
                tracing::warn!("Redis does not answer: the database is asked instead");
                None
            }
        }
    }
}

impl Seal {
    fn new(tenant: &str, user: &str, epoch: Epoch) -> Self {
        let key = epoch.mark.to_be_bytes();
        let mut mac = <Hmac<Sha256>>::new_from_slice(&key).expect("HMAC takes keys of any length");
        // With their lengths, so that no two of these are the same text.
        for part in [
            tenant.as_bytes(),
            user.as_bytes(),
            &epoch.number.to_be_bytes(),
        ] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        Self(mac)
    }

    /// By what the entry is found.
    fn name(&self) -> String {
        let mac = self.0.clone().chain_update(b"name");
        let name = mac.finalize().into_bytes();
        format!("tenantry:authz:1:{}", BASE64_URL_SAFE_NO_PAD.encode(name))
    }

    fn close(&self, held: &Held) -> Option<Vec<u8>> {
        let texts =
            |patterns: &[PermissionPattern]| patterns.iter().map(ToString::to_string).collect();
        let entry = Entry {
            member: held.is_member(),
            granted: texts(held.granted()),
            denied: texts(held.denied()),
        };
        let entry = serde_json::to_vec(&entry).ok()?;
        let mac = self.0.clone().chain_update(b"entry").chain_update(&entry);
        let mut value = mac.finalize().into_bytes().to_vec();
        value.extend_from_slice(&entry);
        (value.len() <= MAX_BYTES).then_some(value)
    }

    /// `None` for what was not sealed with the same.
    fn open(&self, value: &[u8]) -> Option<Held> {
        let (tag, entry) = value.split_at_checked(TAG)?;
        let mac = self.0.clone().chain_update(b"entry").chain_update(entry);
        mac.verify_slice(tag).ok()?;
        let entry: Entry = serde_json::from_slice(entry).ok()?;
        let patterns = |texts: Vec<String>| {
            texts
                .iter()
                .map(|text| text.parse().ok())
                .collect::<Option<Vec<PermissionPattern>>>()
        };
        Some(Held::new(
            entry.member,
            patterns(entry.granted)?,
            patterns(entry.denied)?,
        ))
    }
}

/// The bytes of an HMAC with SHA-256.
const TAG: usize = 32;

/// An entry that is larger is not kept there.
const MAX_BYTES: usize = 256 * 1024;

/// For how long it is not asked once it has not answered.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn held(granted: &[&str], denied: &[&str]) -> Held {
        let parsed = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse().expect("a pattern"))
                .collect()
        };
        Held::new(true, parsed(granted), parsed(denied))
    }

    const EPOCH: Epoch = Epoch {
        number: 7,
        mark: 11,
    };

    #[test]
    fn an_entry_is_found_and_opened_by_its_own_seal_and_no_other() {
        let seal = Seal::new("acme", "alice", EPOCH);
        let value = seal.close(&held(&["a:*"], &["a:b"])).expect("small");
        assert_eq!(seal.open(&value), Some(held(&["a:*"], &["a:b"])));
        let (number, mark) = (EPOCH.number, EPOCH.mark);
        for other in [
            Seal::new("acm", "ealice", EPOCH),
            Seal::new("acmealice", "", EPOCH),
            Seal::new("", "acmealice", EPOCH),
            Seal::new("alice", "acme", EPOCH),
            Seal::new("acme", "alice", Epoch { number: 8, mark }),
            Seal::new("acme", "alice", Epoch { number, mark: 12 }),
            Seal::new("acme", "alice\0", EPOCH),
            Seal::new("Acme", "alice", EPOCH),
        ] {
            assert_ne!(other.name(), seal.name());
            assert_eq!(other.open(&value), None);
        }
    }

    #[test]
    fn an_entry_that_was_touched_is_none() {
        let seal = Seal::new("acme", "alice", EPOCH);
        let value = seal.close(&held(&["a:b"], &[])).expect("small");
        for length in 0..value.len() {
            assert_eq!(
                seal.open(&value[..length]),
                None,
                "the first {length} bytes"
            );
        }
        for at in 0..value.len() {
            let mut touched = value.clone();
            touched[at] ^= 1;
            assert_eq!(seal.open(&touched), None, "byte {at}");
        }
        let mut longer = value.clone();
        longer.push(b' ');
        assert_eq!(seal.open(&longer), None);
        assert!(seal.open(&value).is_some());
        let name = seal.name();
        assert_eq!(seal.open(name.as_bytes()), None);
    }
}
