//! Where a Docker daemon listens.

use std::{
    fmt,
    net::Ipv6Addr,
    path::{Path, PathBuf},
};

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
    /// TCP with TLS, with certificates on both sides.
    Tls {
        /// As above; the daemon's certificate has to be for it.
        host: String,
        /// Never 0.
        port: u16,
        /// The directory of [`super::DockerTls`]; without one there is no
        /// connection.
        certificates: Option<PathBuf>,
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
        let (scheme, host, port) = match self {
            Self::Unix { path } => return write!(f, "unix://{path}"),
            Self::Tcp { host, port } => ("tcp", host, port),
            Self::Tls { host, port, .. } => ("https", host, port),
        };
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl DockerUri {
    /// What [`Self::parse`] takes, for people.
    pub const ALLOWED: &str = "\"unix:///PATH\", \"tcp://HOST:PORT\" or, with TLS, \"https://HOST:PORT\"; \
         ssh:// is not supported: forward the socket with ssh -L /PATH:/var/run/docker.sock HOST";

    /// Reads `unix:///PATH`, `tcp://HOST:PORT` or `https://HOST:PORT`; nothing
    /// else is understood.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        if let Some(path) = uri.strip_prefix("unix://") {
            // The kernel's limit of a socket's path.
            let sound = path.starts_with('/') && path.len() < 108 && !path.contains(char::is_control);
            return sound.then(|| Self::Unix { path: path.to_owned() });
        }
        let (authority, is_tls) = match uri.strip_prefix("tcp://") {
            Some(authority) => (authority, false),
            None => (uri.strip_prefix("https://")?, true),
        };
        let (host, port) = authority.strip_suffix('/').unwrap_or(authority).rsplit_once(':')?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let host = match host.strip_prefix('[') {
            Some(v6) => v6.strip_suffix(']').filter(|v6| v6.parse::<Ipv6Addr>().is_ok())?,
            None => Some(host).filter(|host| host.chars().all(named))?,
        };
        let host = Some(host).filter(|host| !host.is_empty() && host.len() <= 253)?.to_owned();
        Some(if is_tls { Self::Tls { host, port, certificates: None } } else { Self::Tcp { host, port } })
    }

    /// The same over TLS, unless it is a Unix socket, with the certificates of
    /// a directory.
    #[must_use]
    pub fn with_certificates(self, directory: &Path) -> Self {
        match self {
            Self::Unix { .. } => self,
            Self::Tcp { host, port } | Self::Tls { host, port, .. } => {
                Self::Tls { host, port, certificates: Some(directory.to_owned()) }
            }
        }
    }

    /// As Docker's own client reads its environment: TLS once DOCKER_TLS_VERIFY
    /// is not empty, whatever it is; certificates from DOCKER_CERT_PATH, or else
    /// from where its configuration is. A directory that is known already stays.
    #[must_use]
    pub fn with_environment(self, variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        let needs_one = match &self {
            Self::Unix { .. } | Self::Tls { certificates: Some(_), .. } => false,
            Self::Tcp { .. } => set("DOCKER_TLS_VERIFY").is_some(),
            Self::Tls { certificates: None, .. } => true,
        };
        if !needs_one {
            return self;
        }
        let named = set("DOCKER_CERT_PATH").or_else(|| set("DOCKER_CONFIG")).map(PathBuf::from);
        match named.or_else(|| set("HOME").map(|home| Path::new(&home).join(".docker"))) {
            Some(directory) => self.with_certificates(&directory),
            None => self,
        }
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
            ("https://10.0.0.1:2376", Some("https://10.0.0.1:2376")),
            ("https://[::1]:2376/", Some("https://[::1]:2376")),
            ("https://10.0.0.1", None),
            ("https://", None),
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

    #[test]
    fn the_environment_of_dockers_own_client_says_when_tls_is_used_and_where_its_files_are() {
        let (verify, path, config) =
            (("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/c"), ("DOCKER_CONFIG", "/d"));
        let home = ("HOME", "/root");
        for (uri, variables, expected) in [
            ("tcp://a:2376", vec![], "tcp://a:2376 None"),
            ("tcp://a:2376", vec![path, home], "tcp://a:2376 None"),
            ("tcp://a:2376", vec![("DOCKER_TLS_VERIFY", ""), path], "tcp://a:2376 None"),
            ("tcp://a:2376", vec![verify, path, config, home], "https://a:2376 /c"),
            ("tcp://a:2376", vec![("DOCKER_TLS_VERIFY", "0"), config, home], "https://a:2376 /d"),
            ("tcp://a:2376", vec![verify, home], "https://a:2376 /root/.docker"),
            ("https://a:1", vec![path], "https://a:1 /c"),
            ("https://a:1", vec![("DOCKER_CERT_PATH", ""), home], "https://a:1 /root/.docker"),
            ("https://a:1", vec![], "https://a:1 None"),
            ("unix:///s", vec![verify, path], "unix:///s None"),
        ] {
            let value = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            let uri = DockerUri::parse(uri).unwrap().with_environment(value);
            let directory = match &uri {
                DockerUri::Tls { certificates: Some(directory), .. } => directory.display().to_string(),
                _ => "None".to_owned(),
            };
            assert_eq!(format!("{uri} {directory}"), expected, "{variables:?}");
        }
        let named = DockerUri::parse("tcp://a:1").unwrap().with_certificates(Path::new("/mine"));
        assert_eq!(named.clone().with_environment(|_| Some("/other".into())), named);
    }
}
