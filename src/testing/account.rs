//! The account that runs the server.

use nix::unistd::{Uid, User};

use super::ServerError;

/// An account other than root.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Account {
    /// The account to change to; `None` if the process can run the server as itself.
    pub(super) fn choose() -> Result<Option<Self>, ServerError> {
        if !Uid::effective().is_root() {
            return Ok(None);
        }
        NAMES
            .iter()
            .filter_map(|name| User::from_name(name).ok().flatten())
            .find(|user| !user.uid.is_root())
            .map(|user| {
                Some(Self {
                    uid: user.uid.as_raw(),
                    gid: user.gid.as_raw(),
                })
            })
            .ok_or(ServerError::NoAccount)
    }
}

/// `_postgres` is macOS's name of it.
const NAMES: [&str; 3] = ["postgres", "_postgres", "nobody"];
