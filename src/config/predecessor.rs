//! The variables of the program that Millrace replaces: those with a meaning
//! here take effect, the others are named as ignored.

use super::{kinds::Given, layers::Layers, layers::Origin};

/// A variable that means something here, the setting it becomes, and what
/// turns its text into ours.
struct Translation {
    variable: &'static str,
    path: &'static str,
    prefix: &'static str,
    suffix: &'static str,
}

const fn same(variable: &'static str, path: &'static str) -> Translation {
    Translation { variable, path, prefix: "", suffix: "" }
}

const fn seconds(variable: &'static str, path: &'static str) -> Translation {
    Translation { variable, path, prefix: "", suffix: "s" }
}

/// Of two variables for one setting, the first that is set counts.
const TRANSLATIONS: &[Translation] = &[
    same("MAX_STREAMS_PER_ENGINE", "engines.capacity"),
    same("ACEXY_MAX_STREAMS_PER_ENGINE", "engines.capacity"),
    // ":8000", or with an address before it.
    same("PROXY_LISTEN_ADDR", "server.listen"),
    Translation { variable: "APP_PORT", path: "server.listen", prefix: "0.0.0.0:", suffix: "" },
    seconds("CHANNEL_SHUTDOWN_DELAY_S", "streams.linger"),
    seconds("PROXY_PREBUFFER_SECONDS", "viewers.prebuffer"),
    same("MAX_TOTAL_STREAMS", "streams.max_streams"),
    Translation { variable: "MAX_MEMORY_MB", path: "streams.memory", prefix: "", suffix: "MiB" },
    seconds("UPSTREAM_READ_TIMEOUT_S", "streams.silence_limit"),
    same("MIN_REPLICAS", "fleet.min"),
    same("MAX_REPLICAS", "fleet.max"),
    seconds("STARTUP_TIMEOUT_S", "fleet.boot_limit"),
    seconds("ENGINE_GRACE_PERIOD_S", "fleet.surplus"),
    same("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "fleet.breaker_failures"),
    seconds("CIRCUIT_BREAKER_RECOVERY_TIMEOUT_S", "fleet.breaker_pause"),
    same("PORT_RANGE_HOST", "docker.ports"),
    same("DOCKER_NETWORK", "docker.network"),
    Translation { variable: "ENGINE_MEMORY_LIMIT", path: "docker.memory", prefix: "", suffix: "iB" },
];

/// Whole names without a meaning here. Those that other programs use as well
/// (`LOG_LEVEL`, `DOCKER_HOST`, `DB_URL`, `DEBUG_MODE`, `STATIC_DIR`) are left
/// out: who sets them need not have known the predecessor.
const IGNORED: &[&str] = &[
    "ACESTREAM_DB_PATH",
    "ACE_HTTPS_RANGE",
    "ACE_HTTP_RANGE",
    "ACE_MAP_HTTPS",
    "API_KEY",
    "AUTOSCALE_INTERVAL_S",
    "AUTO_DELETE",
    "BUFFER_CHUNK_SIZE",
    "CHANNEL_INIT_GRACE_PERIOD_S",
    "CHUNK_TIMEOUT_S",
    "CLIENT_HEARTBEAT_INTERVAL_S",
    "CLIENT_RECORD_TTL_S",
    "CLIENT_WAIT_TIMEOUT_S",
    "COLLECT_INTERVAL_S",
    "CONTAINER_LABEL",
    "CONTROL_MODE",
    "COUNTS_PUBLISH_INTERVAL_S",
    "DISABLE_PROTON_SIDECAR",
    "IDLE_TTL_S",
    "INITIAL_BEHIND_CHUNKS",
    "KEEPALIVE_INTERVAL_MS",
    "MAX_CLIENTS_PER_STREAM",
    "MAX_CONCURRENT_PROVISIONS",
    "MAX_ENGINES_PER_VPN",
    "MIN_FREE_REPLICAS",
    "MIN_PROVISION_INTERVAL_S",
    "MONITOR_INTERVAL_S",
    "NO_DATA_CHECK_INTERVAL_S",
    "NO_DATA_TIMEOUT_CHECKS",
    "ORCHESTRATOR_LISTEN_ADDR",
    "PACING_BITRATE_MULTIPLIER",
    "PACING_BURST_SECONDS",
    "PREFERRED_ENGINES_PER_VPN",
    "REDIS_CHUNK_TTL_S",
    "SSE_UPDATE_INTERVAL_S",
    "STATS_HISTORY_MAX",
    "STREAM_MODE",
    "STREAM_RETENTION_S",
    "STREAM_TIMEOUT_S",
    "UPSTREAM_CONNECT_TIMEOUT_S",
];

/// Families of names without a meaning here.
const IGNORED_PREFIXES: &[&str] = &[
    "CIRCUIT_BREAKER_",
    "ENGINE_GRACE_PERIOD_",
    "ENGINE_LIVE_",
    "ENGINE_MAX_",
    "ENGINE_MEMORY_LIMIT",
    "ENGINE_VARIANT",
    "GLUETUN_",
    "HEALTH_CHECK_INTERVAL_S",
    "HEALTH_FAILURE_THRESHOLD",
    "HEALTH_REPLACEMENT_COOLDOWN_S",
    "HEALTH_UNHEALTHY_GRACE_PERIOD_S",
    "HLS_",
    "PROTON_",
    "PROXY_",
    "REPUTATION_",
    "STREAM_LOOP_",
    "VPN_",
];

/// Which of the predecessor's variables are set.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Those that took effect, as `VARIABLE as table.key`.
    pub(crate) understood: Vec<String>,
    /// Those that mean nothing here, or nothing more.
    pub(crate) ignored: Vec<String>,
}

impl Found {
    /// Whether none is set.
    pub(crate) fn is_empty(&self) -> bool {
        self.understood.is_empty() && self.ignored.is_empty()
    }
}

impl Layers {
    /// Reads the predecessor's variables. An empty one counts as not set, as
    /// it did there: compose files set all of them.
    pub(crate) fn read_predecessor<'v>(
        &mut self,
        variables: impl Iterator<Item = (&'v str, &'v str)> + Clone,
    ) -> Found {
        let mut found = Found::default();
        let set = variables.filter(|(_, value)| !value.trim().is_empty());
        let mut taken = Vec::new();
        for t in TRANSLATIONS {
            let Some((_, value)) = set.clone().find(|(name, _)| *name == t.variable) else { continue };
            if taken.contains(&t.path) {
                found.ignored.push(t.variable.to_owned());
                continue;
            }
            taken.push(t.path);
            found.understood.push(format!("{} as {}", t.variable, t.path));
            let bare_port = t.path == "server.listen" && value.starts_with(':');
            let prefix = if bare_port { "0.0.0.0" } else { t.prefix };
            let word = format!("{prefix}{}{}", value.trim(), t.suffix);
            let origin = Origin::Predecessor { variable: t.variable, written: value.to_owned() };
            self.set(t.path, Given::Word(word), origin);
        }
        let meaningless = |name: &str| {
            let translated = TRANSLATIONS.iter().any(|t| t.variable == name);
            !translated && (IGNORED.contains(&name) || IGNORED_PREFIXES.iter().any(|p| name.starts_with(p)))
        };
        found.ignored.extend(set.map(|(name, _)| name).filter(|name| meaningless(name)).map(str::to_owned));
        found.ignored.sort_unstable();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::KEYS;

    #[test]
    fn every_translation_leads_to_a_setting() {
        for t in TRANSLATIONS {
            assert!(KEYS.iter().any(|key| key.path() == t.path), "{}", t.variable);
        }
    }

    #[test]
    fn variables_of_the_predecessor_take_effect_or_are_named() {
        let set = [
            ("APP_PORT", "9000"),
            ("PROXY_LISTEN_ADDR", ":8001"),
            ("CHANNEL_SHUTDOWN_DELAY_S", "5"),
            ("MAX_TOTAL_STREAMS", ""),
            ("MIN_REPLICAS", "2"),
            ("ENGINE_MEMORY_LIMIT", "512M"),
            ("VPN_ENABLED", "false"),
            ("PROXY_MAX_RETRIES", "3"),
            ("PATH", "/bin"),
        ];
        let mut layers = Layers::default();
        let found = layers.read_predecessor(set.into_iter());
        assert_eq!(
            found.understood,
            [
                "PROXY_LISTEN_ADDR as server.listen",
                "CHANNEL_SHUTDOWN_DELAY_S as streams.linger",
                "MIN_REPLICAS as fleet.min",
                "ENGINE_MEMORY_LIMIT as docker.memory"
            ]
        );
        assert_eq!(found.ignored, ["APP_PORT", "PROXY_MAX_RETRIES", "VPN_ENABLED"]);
        let strongest = |path| layers.strongest(path).0.cloned();
        assert_eq!(strongest("server.listen"), Some(Given::Word("0.0.0.0:8001".into())));
        assert_eq!(strongest("streams.linger"), Some(Given::Word("5s".into())));
        assert_eq!(strongest("streams.max_streams"), None);
        assert_eq!(strongest("fleet.min"), Some(Given::Word("2".into())));
        assert_eq!(strongest("docker.memory"), Some(Given::Word("512MiB".into())));
    }
}
