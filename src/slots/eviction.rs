//! Why a pool was given up.

/// Why a pool was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EvictionCause {
    /// Another tenant needed its place, and it was the one used least recently.
    Capacity,
    /// Nobody used it for [`LazyPools::idle_timeout`](crate::LazyPools::idle_timeout).
    Idle,
    /// Asked for, by [`TenantRegistry::evict`](crate::TenantRegistry::evict).
    Explicit,
    /// The directory says that the tenant lives elsewhere now, or may not be served.
    Directory,
    /// A job over many tenants had opened it and was done with it.
    Job,
    /// The registry was closed.
    Shutdown,
}

impl EvictionCause {
    /// All of them, in the order in which they are counted.
    pub(crate) const ALL: [Self; 6] = [
        Self::Capacity,
        Self::Idle,
        Self::Explicit,
        Self::Directory,
        Self::Job,
        Self::Shutdown,
    ];

    /// The name, as it stands in metrics and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Idle => "idle",
            Self::Explicit => "explicit",
            Self::Directory => "directory",
            Self::Job => "job",
            Self::Shutdown => "shutdown",
        }
    }

    pub(super) fn place(self) -> usize {
        Self::ALL
            .iter()
            .position(|cause| *cause == self)
            .unwrap_or(0)
    }
}
