//! From a spec and ports to what Docker is asked to create.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, PortBinding, PortMap, ResourcesUlimits,
    RestartPolicy, RestartPolicyNameEnum,
};

use super::{
    labels::{self, FleetName, OURS, Reach},
    ports::Ports,
    spec::{Cache, EngineSpec, Limits, Network, Publish},
};

/// Less memory Docker refuses.
const LEAST_MEMORY: u64 = 6 << 20;
/// Less CPU Docker refuses: a hundredth of one.
const LEAST_CPU: u64 = 10_000_000;

/// Why no container can be made from a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpecError {
    /// Docker takes `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.
    #[error("{0:?} is no name of a container")]
    Name(String),
    /// It is empty, or has blanks or control characters in it.
    #[error("{0:?} is no image")]
    Image(String),
    /// None of the four ports.
    #[error("there is no placeholder {{{0}}}; write {{{{ for a brace")]
    Placeholder(String),
    /// A brace without its other half.
    #[error("a placeholder does not end; write {{{{ for a brace")]
    Open,
    /// A placeholder for a port that this engine has not.
    #[error("there is no port for the placeholder {{{0}}}")]
    NoPort(String),
    /// Two of one engine's ports.
    #[error("port {0} is given twice")]
    PortTwice(u16),
    /// Port 0.
    #[error("the {0} port is 0")]
    PortZero(&'static str),
    /// Empty, or with `=` or NUL in it.
    #[error("{0:?} is no name of a variable")]
    Variable(String),
    /// Programs differ in which one they take.
    #[error("the variable {0} is set twice")]
    VariableTwice(String),
    /// Docker would cut it there.
    #[error("a word or value holds a NUL character")]
    Nul,
    /// A label without a key, or one of ours.
    #[error("{0:?} is no label that may be added")]
    Label(String),
    /// The cache has nowhere to go.
    #[error("the cache needs the absolute path of its directory in the container")]
    CacheDir,
    /// A limit below what Docker takes, or above what it can count.
    #[error("the limit {0} is too small or too large")]
    Limit(&'static str),
    /// A network or container without a name.
    #[error("the network has no name")]
    Network,
}

impl EngineSpec {
    /// What Docker is asked to create as the container `name`.
    ///
    /// # Errors
    /// When it could not be created, or would not be what the spec says.
    pub(crate) fn body(
        &self,
        ports: &Ports,
        fleet: &FleetName,
        name: &str,
    ) -> Result<ContainerCreateBody, SpecError> {
        self.check(ports, name)?;
        let fill = |text: &String| fill(text, |name| port_for(ports, name));
        let all = |words: &Vec<String>| words.iter().map(fill).collect::<Result<Vec<_>, _>>();
        let variable = |(name, value): &(String, String)| Ok(format!("{name}={}", fill(value)?));
        let environment = self.environment.iter().map(variable).collect::<Result<Vec<_>, _>>()?;
        let (published, reach) = self.published(ports);
        let mut labels: HashMap<_, _> = self.extra_labels.iter().cloned().collect();
        labels.extend(labels::write(fleet, self.hash(), ports, &self.variant, reach));
        let is_volume = self.cache == Cache::Volume;
        Ok(ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: self.entrypoint.as_ref().map(all).transpose()?,
            cmd: Some(all(&self.command)?).filter(|words| !words.is_empty()),
            env: Some(environment).filter(|variables| !variables.is_empty()),
            labels: Some(labels),
            exposed_ports: (!published.is_empty()).then(|| published.keys().cloned().collect()),
            volumes: self.cache_dir.clone().filter(|_| is_volume).map(|dir| vec![dir]),
            stop_signal: Some("SIGTERM".to_owned()),
            host_config: Some(self.host_config(published)?),
            ..ContainerCreateBody::default()
        })
    }

    fn host_config(&self, published: PortMap) -> Result<HostConfig, SpecError> {
        let Limits { memory_bytes, nano_cpus, pids, nofile, log_bytes, log_files, shm_bytes } = self.limits;
        let bytes = |name, limit: Option<u64>| limit.map(|limit| count(name, limit)).transpose();
        let memory = bytes("memory_bytes", memory_bytes)?;
        let file =
            |limit| ResourcesUlimits { name: Some("nofile".into()), soft: Some(limit), hard: Some(limit) };
        let log = HashMap::from([
            ("max-size".to_owned(), log_bytes.to_string()),
            ("max-file".to_owned(), log_files.to_string()),
        ]);
        let tmpfs = match (&self.cache, &self.cache_dir) {
            // Whoever the image's user is.
            (Cache::Tmpfs { bytes }, Some(dir)) => {
                Some(HashMap::from([(dir.clone(), format!("rw,size={bytes},mode=1777"))]))
            }
            _ => None,
        };
        Ok(HostConfig {
            network_mode: Some(match &self.network {
                Network::Bridge => "bridge".to_owned(),
                Network::Named { name, .. } => name.clone(),
                Network::Host => "host".to_owned(),
                Network::Container(lender) => format!("container:{lender}"),
            }),
            port_bindings: Some(published).filter(|ports| !ports.is_empty()),
            memory,
            // As much as memory means: no swap beside it.
            memory_swap: memory,
            nano_cpus: bytes("nano_cpus", nano_cpus)?,
            pids_limit: pids.map(i64::from),
            ulimits: bytes("nofile", nofile)?.map(|limit| vec![file(limit)]),
            shm_size: bytes("shm_bytes", shm_bytes)?,
            log_config: Some(HostConfigLogConfig { typ: Some("json-file".to_owned()), config: Some(log) }),
            tmpfs,
            // Engines are scripts that reap nobody and, as process 1, ignore SIGTERM.
            init: Some(true),
            // Mending and looking at the dead are ours.
            auto_remove: Some(false),
            restart_policy: Some(RestartPolicy {
                name: Some(RestartPolicyNameEnum::NO),
                maximum_retry_count: None,
            }),
            ..HostConfig::default()
        })
    }

    /// What is published, and whether the engine's ports are the host's.
    fn published(&self, ports: &Ports) -> (PortMap, Reach) {
        let is_published = match &self.network {
            Network::Bridge => true,
            Network::Named { by, .. } => *by == Publish::Ports,
            Network::Host => return (PortMap::new(), Reach::Host),
            Network::Container(_) => false,
        };
        if !is_published {
            return (PortMap::new(), Reach::Inside);
        }
        let everywhere: IpAddr = match self.publish_on {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let mut published = PortMap::new();
        let mut publish = |port: u16, kind, address: IpAddr| {
            let binding =
                PortBinding { host_ip: Some(address.to_string()), host_port: Some(port.to_string()) };
            published.insert(format!("{port}/{kind}"), Some(vec![binding]));
        };
        for (name, port) in ports.all() {
            match name {
                "p2p" => ["tcp", "udp"].into_iter().for_each(|kind| publish(port, kind, everywhere)),
                _ => publish(port, "tcp", self.publish_on),
            }
        }
        (published, Reach::Host)
    }

    fn check(&self, ports: &Ports, name: &str) -> Result<(), SpecError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        let is_name = (2..=128).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(plain);
        if !is_name {
            return Err(SpecError::Name(name.chars().take(128).collect()));
        }
        if self.image.is_empty() || self.image.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err(SpecError::Image(self.image.chars().take(300).collect()));
        }
        let mut seen = HashSet::new();
        for (name, port) in ports.all() {
            if port == 0 {
                return Err(SpecError::PortZero(name));
            }
            if !seen.insert(port) {
                return Err(SpecError::PortTwice(port));
            }
        }
        let mut names = HashSet::new();
        for (name, _) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(SpecError::Variable(name.clone()));
            }
            if !names.insert(name) {
                return Err(SpecError::VariableTwice(name.clone()));
            }
        }
        let values = self.environment.iter().map(|(_, value)| value);
        let mut words = self.entrypoint.iter().flatten().chain(&self.command).chain(values);
        if words.any(|word| word.contains('\0')) {
            return Err(SpecError::Nul);
        }
        if let Some((key, _)) = self.extra_labels.iter().find(|(k, _)| k.is_empty() || k.starts_with(OURS)) {
            return Err(SpecError::Label(key.clone()));
        }
        let has_dir =
            self.cache_dir.as_ref().is_some_and(|dir| dir.starts_with('/') && !dir.contains(['\0', ':']));
        if self.cache != Cache::Layer && !has_dir {
            return Err(SpecError::CacheDir);
        }
        match &self.network {
            Network::Named { name, .. } | Network::Container(name) if name.is_empty() => {
                Err(SpecError::Network)
            }
            _ => self.check_limits(),
        }
    }

    fn check_limits(&self) -> Result<(), SpecError> {
        let Limits { memory_bytes, nano_cpus, pids, nofile, log_bytes, log_files, shm_bytes } = self.limits;
        let tmpfs = match self.cache {
            Cache::Tmpfs { bytes } => Some(bytes),
            Cache::Layer | Cache::Volume => None,
        };
        for (name, limit, least) in [
            ("memory_bytes", memory_bytes, LEAST_MEMORY),
            ("nano_cpus", nano_cpus, LEAST_CPU),
            ("pids", pids.map(u64::from), 1),
            ("nofile", nofile, 1),
            ("log_bytes", Some(log_bytes), 1),
            ("log_files", Some(log_files.into()), 1),
            ("shm_bytes", shm_bytes, 1),
            ("tmpfs", tmpfs, 1),
        ] {
            if limit.is_some_and(|limit| limit < least || i64::try_from(limit).is_err()) {
                return Err(SpecError::Limit(name));
            }
        }
        Ok(())
    }
}

fn count(name: &'static str, limit: u64) -> Result<i64, SpecError> {
    i64::try_from(limit).map_err(|_| SpecError::Limit(name))
}

fn port_for(ports: &Ports, placeholder: &str) -> Result<String, SpecError> {
    let port = match placeholder {
        "http_port" => Some(ports.http),
        "https_port" => ports.https,
        "api_port" => ports.api,
        "p2p_port" => ports.p2p,
        _ => return Err(SpecError::Placeholder(placeholder.chars().take(40).collect())),
    };
    port.map(|port| port.to_string()).ok_or_else(|| SpecError::NoPort(placeholder.to_owned()))
}

/// `text` with each `{name}` replaced by what `value` makes of its name, and
/// doubled braces by single ones.
fn fill(text: &str, value: impl Fn(&str) -> Result<String, SpecError>) -> Result<String, SpecError> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        filled.push_str(before);
        rest = if let Some(after) = from.strip_prefix("{{") {
            filled.push('{');
            after
        } else if let Some(after) = from.strip_prefix('}') {
            filled.push('}');
            after.strip_prefix('}').unwrap_or(after)
        } else {
            let (name, after) =
                from.get(1..).and_then(|inner| inner.split_once('}')).ok_or(SpecError::Open)?;
            filled.push_str(&value(name)?);
            after
        };
    }
    filled.push_str(rest);
    Ok(filled)
}

#[cfg(test)]
mod tests;
