//! A folder that goes when it is dropped.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::missing_panics_doc)]

use std::path::{Path, PathBuf};

#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        let name = format!("tenantry-{}-{:08x}", std::process::id(), fastrand::u32(..));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a folder");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
