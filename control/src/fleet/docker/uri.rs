//! Where a Docker daemon listens.

use std::{fmt, net::Ipv6Addr};

/// The address of a Docker daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DockerUri {
    /// A Unix socket.
    Unix {
        /// Absolute.
        path: String,
    },
    /// TCP, without TLS.
    Tcp {
        /// A name or an address; an IPv6 address without its brackets.
        host: String,
        /// Never 0.
        port: u16,
    },
}

impl Default for DockerUri {
    /// Where Docker listens unless it is told otherwise.
    fn default() -> Self {
        Self::Unix { path: "/var/run/docker.sock".into() }
    }
}

impl fmt::Display for DockerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path } => write!(f, "unix://{path}"),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

impl DockerUri {
    /// What [`Self::parse`] takes, for people.
    pub const ALLOWED: &str =
        "\"unix:///PATH\" or \"tcp://HOST:PORT\"; neither TLS (https://) nor ssh:// is supported yet";

    /// Reads `unix:///PATH` or `tcp://HOST:PORT`; nothing else is understood.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        if let Some(path) = uri.strip_prefix("unix://") {
            // The kernel's limit of a socket's path.
            let sound = path.starts_with('/') && path.len() < 108 && !path.contains(char::is_control);
            return sound.then(|| Self::Unix { path: path.to_owned() });
        }
        let authority = uri.strip_prefix("tcp://")?;
        let (host, port) = authority.strip_suffix('/').unwrap_or(authority).rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<Ipv6Addr>().is_ok())?,
            None => Some(host).filter(|host| host.chars().all(named))?,
        };
        (!host.is_empty() && host.len() <= 253).then(|| Self::Tcp { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_a_socket_or_a_host_and_a_port() {
        for (text, read) in [
            ("unix:///var/run/docker.sock", Some("unix:///var/run/docker.sock")),
            ("tcp://10.0.0.1:2375", Some("tcp://10.0.0.1:2375")),
            ("tcp://docker_1.local:2375/", Some("tcp://docker_1.local:2375")),
            ("tcp://[::1]:2375", Some("tcp://[::1]:2375")),
            ("unix://docker.sock", None),
            ("unix://", None),
            ("unix:///a\nb", None),
            ("/var/run/docker.sock", None),
            ("https://10.0.0.1:2376", None),
            ("http://10.0.0.1:2375", None),
            ("ssh://root@10.0.0.1", None),
            ("tcp://10.0.0.1", None),
            ("tcp://10.0.0.1:0", None),
            ("tcp://:2375", None),
            ("tcp://::1:2375", None),
            ("tcp://[::1:2375", None),
            ("tcp://user@a:1", None),
            ("tcp://a:1/path", None),
            ("", None),
        ] {
            assert_eq!(DockerUri::parse(text).map(|uri| uri.to_string()).as_deref(), read, "{text}");
        }
        let default = DockerUri::default();
        assert_eq!(DockerUri::parse(&default.to_string()), Some(default));
        assert_eq!(DockerUri::parse(&format!("unix:///{}", "a".repeat(200))), None);
    }
}
