//! What goes into `postgresql.conf`.

use super::ServerError;

/// Settings in the order they were given; the last one of a name counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Configuration {
    settings: Vec<(String, String)>,
}

impl Configuration {
    pub(super) fn set(&mut self, name: String, value: String) {
        self.settings.push((name, value));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.settings.is_empty()
    }

    /// Refuses what would break the file or this module.
    pub(super) fn check(&self) -> Result<(), ServerError> {
        for (name, value) in &self.settings {
            let refuse = |reason| {
                Err(ServerError::Setting {
                    name: name.clone(),
                    reason,
                })
            };
            let first = name.bytes().next().unwrap_or(b'.');
            if !(first.is_ascii_alphabetic() || first == b'_')
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b))
            {
                return refuse("a name has only ASCII letters, digits, `_` and `.`");
            }
            if OURS.iter().any(|ours| ours.eq_ignore_ascii_case(name)) {
                return refuse("each server gets a port, a socket and a folder of its own");
            }
            if value.contains('\0') {
                return refuse("its value holds a zero byte");
            }
        }
        Ok(())
    }

    /// The text of the file, to follow what `initdb` wrote.
    pub(super) fn render(&self, port: u16, socket_folder: &str) -> String {
        let port = port.to_string();
        let given = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        let ours = OURS
            .iter()
            .copied()
            .zip(["127.0.0.1", &port, socket_folder]);
        let mut text = String::from("\n");
        for (name, value) in DEFAULTS.iter().copied().chain(given).chain(ours) {
            text.push_str(name);
            text.push_str(" = '");
            for character in value.chars() {
                match character {
                    '\'' => text.push_str("''"),
                    '\\' => text.push_str("\\\\"),
                    '\n' => text.push_str("\\n"),
                    '\r' => text.push_str("\\r"),
                    other => text.push(other),
                }
            }
            text.push_str("'\n");
        }
        text
    }
}

const DEFAULTS: [(&str, &str); 5] = [
    ("max_connections", "100"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
];

/// The first three get their values in [`Configuration::render`].
const OURS: [&str; 4] = [
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "data_directory",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.set(name.to_owned(), value.to_owned());
        configuration
    }

    #[test]
    fn values_are_quoted_and_stay_on_their_line() {
        let text = with("application_name", "it's\na \\ test").render(5432, "/tmp/x");
        assert!(
            text.contains("\napplication_name = 'it''s\\na \\\\ test'\n"),
            "{text}"
        );
        assert!(
            text.ends_with("port = '5432'\nunix_socket_directories = '/tmp/x'\n"),
            "{text}"
        );
    }

    #[test]
    fn a_given_setting_comes_after_the_default() {
        let text = with("fsync", "on").render(5432, "/tmp/x");
        assert!(
            text.find("fsync = 'on'") > text.find("fsync = 'off'"),
            "{text}"
        );
    }

    #[test]
    fn names_that_break_the_file_or_the_server_are_refused() {
        for name in [
            "",
            "a b",
            "x = 1\ny",
            "1a",
            "port",
            "PORT",
            "Listen_Addresses",
            "data_directory",
        ] {
            assert!(with(name, "1").check().is_err(), "{name:?}");
        }
        assert!(with("work_mem", "a\0b").check().is_err());
        for name in ["work_mem", "tenantry.tenant", "_x1"] {
            assert!(with(name, "1").check().is_ok(), "{name:?}");
        }
    }
}
