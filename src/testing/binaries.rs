//! Where a server's programs are.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::ServerError;
use super::blocking::blocking;

pub(super) const BINARIES_VARIABLE: &str = "TENANTRY_POSTGRES_BINARIES";

/// The folder of a server's programs: the named one, else one of this machine, else a downloaded
/// one.
pub(super) async fn find(named: Option<PathBuf>) -> Result<PathBuf, ServerError> {
    let variable = || std::env::var_os(BINARIES_VARIABLE).filter(|value| !value.is_empty());
    if let Some(path) = named.or_else(|| variable().map(PathBuf::from)) {
        // The watchdog works in another folder.
        let path = std::path::absolute(&path).unwrap_or(path);
        return if is_complete(&path) {
            Ok(path)
        } else {
            Err(ServerError::NoBinaries { path })
        };
    }
    match blocking(|| Ok(on_this_machine())).await? {
        Some(path) => Ok(path),
        None => download().await,
    }
}

#[cfg(feature = "embedded")]
async fn download() -> Result<PathBuf, ServerError> {
    super::embedded::find_or_download().await
}

#[cfg(not(feature = "embedded"))]
async fn download() -> Result<PathBuf, ServerError> {
    Err(ServerError::NotFound)
}

/// A client's package brings neither, and on Debian `PATH` has some of the programs only.
pub(super) fn is_complete(folder: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| folder.join(program).is_file())
}

fn on_this_machine() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|folder| folder.is_absolute())
        .chain(pg_config())
        .chain(newest_first("/usr/lib/postgresql", "", "bin"))
        .chain(newest_first("/usr", "pgsql-", "bin"))
        .chain([PathBuf::from("/usr/local/pgsql/bin")])
        .chain(newest_first("/opt/homebrew/opt", "postgresql", "bin"))
        .chain(newest_first("/usr/local/opt", "postgresql", "bin"))
        .chain(newest_first("/opt/local/lib", "postgresql", "bin"))
        .find(|folder| is_complete(folder))
}

fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| PathBuf::from(text.trim_end()))
}

/// `<parent>/<prefix>*/<child>`, by the number in the place of the star.
pub(super) fn newest_first(parent: impl AsRef<Path>, prefix: &str, child: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.trim_start_matches('@');
            let numbers = version
                .split('.')
                .map_while(|part| part.parse().ok())
                .collect();
            Some((numbers, entry.path().join(child)))
        })
        .collect();
    found.sort_by_key(|(numbers, _)| Reverse(numbers.clone()));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let parent = std::env::temp_dir().join(format!("tenantry-{:016x}", fastrand::u64(..)));
        for name in [
            "postgresql@9.6",
            "postgresql@16",
            "postgresql@18.1",
            "postgresql@18.10",
            "libpq",
        ] {
            std::fs::create_dir_all(parent.join(name)).unwrap();
        }
        let found = newest_first(&parent, "postgresql", "bin");
        std::fs::remove_dir_all(&parent).unwrap();
        let expected = [
            "postgresql@18.10",
            "postgresql@18.1",
            "postgresql@16",
            "postgresql@9.6",
        ];
        assert_eq!(found, expected.map(|name| parent.join(name).join("bin")));
    }
}
