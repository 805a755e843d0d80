//! The configuration as commented TOML.

use std::fmt::Write;

use super::{
    Config,
    keys::{KEYS, variable},
    layers::{Layers, Origin},
};

impl Config {
    /// Every setting with its meaning, its value in force and who set it. Read
    /// back, it gives the same settings.
    pub(crate) fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        for key in KEYS {
            let (its_table, name) = key.path().split_once('.').unwrap_or_default();
            if !out.is_empty() {
                out.push('\n');
            }
            if its_table != table {
                table = its_table;
                writeln!(out, "[{table}]").ok();
            }
            for line in key.about().lines() {
                writeln!(out, "# {line}").ok();
            }
            let default = key.to_toml(None).unwrap_or_default();
            writeln!(out, "# Allowed: {}.", key.allowed()).ok();
            writeln!(out, "# Default: {default}. Variable: {}.", variable(key.path())).ok();
            let (given, origin) = self.layers.strongest(key.path());
            let value = key.to_toml(given).unwrap_or(default);
            match origin {
                Origin::Default => writeln!(out, "{name} = {value}").ok(),
                origin => writeln!(out, "{name} = {value}  # {origin}").ok(),
            };
        }
        out
    }
}

/// The value in force, as TOML.
pub(super) fn effective(layers: &Layers, path: &str) -> String {
    let key = KEYS.iter().find(|key| key.path() == path);
    key.and_then(|key| key.to_toml(layers.strongest(path).0)).unwrap_or_default()
}
