//! Which of the fleets that were given counts, and where a Docker is that
//! nobody named.

use std::path::Path;

use millrace_control::DockerUri;

use super::{Engines, layers::Layers};

/// Where Docker's own tools look for the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DockerHost {
    /// There.
    At(DockerUri),
    /// DOCKER_HOST names what is not supported here.
    Unsupported(String),
}

impl DockerHost {
    /// From the value of DOCKER_HOST.
    pub(super) fn of(variable: Option<&str>) -> Self {
        match variable.map(str::trim).filter(|uri| !uri.is_empty()) {
            None => Self::At(DockerUri::default()),
            Some(uri) => DockerUri::parse(uri).map_or_else(|| Self::Unsupported(uri.to_owned()), Self::At),
        }
    }
}

/// Where the certificates for a daemon with TLS are, for whichever was named: in
/// the `directory` of docker.tls, or else where Docker's own client has them.
pub(super) fn find_certificates(
    engines: &mut Engines,
    directory: Option<&Path>,
    variable: impl Fn(&str) -> Option<String>,
) {
    let with = |uri: DockerUri| match directory {
        Some(directory) => uri.with_certificates(directory),
        None => uri.with_environment(&variable),
    };
    engines.docker = engines.docker.take().map(with);
    if let DockerHost::At(uri) = &mut engines.docker_host {
        *uri = with(std::mem::take(uri));
    }
}

/// Of several fleets the one from the strongest source counts: `--emulate 2`
/// is enough to try a host without its engines.
pub(super) fn choose_fleet(engines: &mut Engines, layers: &mut Layers) {
    let rank = |path: &str, given: bool| if given { layers.strongest(path).1.rank() } else { 0 };
    let fleets = [
        ("engines.urls", rank("engines.urls", !engines.urls.is_empty())),
        ("engines.emulate", rank("engines.emulate", engines.emulate != 0)),
        ("engines.docker", rank("engines.docker", engines.docker.is_some())),
    ];
    let strongest = fleets.iter().map(|(_, rank)| *rank).max().unwrap_or(0);
    for (path, _) in fleets.into_iter().filter(|(_, rank)| (1..strongest).contains(rank)) {
        match path {
            "engines.urls" => engines.urls.clear(),
            "engines.emulate" => engines.emulate = 0,
            _ => engines.docker = None,
        }
        layers.forget(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Flags};

    #[test]
    fn the_fleet_of_the_strongest_source_counts() {
        let docker = ("MILLRACE_ENGINES_DOCKER", "unix:///d");
        let urls = ("MILLRACE_ENGINES_URLS", "http://a:1");
        let emulate = Flags { emulate: Some("2".into()), ..Flags::default() };
        let flag = Flags { docker: Some("tcp://b:2".into()), ..Flags::default() };
        let none = Flags { docker: Some(String::new()), ..Flags::default() };
        for (name, flags, variables, counts) in [
            ("none", &Flags::default(), vec![], Some("[] 0 None")),
            ("Docker alone", &Flags::default(), vec![docker], Some("[] 0 unix:///d")),
            ("emulated instead", &emulate, vec![docker], Some("[] 2 None")),
            ("emulated instead of two", &emulate, vec![docker, urls], Some("[] 2 None")),
            ("Docker instead", &flag, vec![urls], Some("[] 0 tcp://b:2")),
            ("none instead", &none, vec![docker], Some("[] 0 None")),
            ("no Docker, so named ones", &none, vec![docker, urls], Some("[http://a:1] 0 None")),
            ("two of one source", &Flags::default(), vec![docker, urls], None),
            ("two flags", &Flags { emulate: Some("1".into()), ..flag.clone() }, vec![], None),
        ] {
            let variables: Vec<_> = variables.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
            let found = Config::from_sources(flags, &variables).ok().map(|config| {
                let Engines { urls, emulate, docker, .. } = config.settings.engines;
                let urls: Vec<_> = urls.iter().map(ToString::to_string).collect();
                let docker = docker.map_or("None".to_owned(), |uri| uri.to_string());
                format!("[{}] {emulate} {docker}", urls.join(","))
            });
            assert_eq!(found.as_deref(), counts, "{name}");
        }
    }

    #[test]
    fn docker_host_says_where_to_look_and_chooses_nothing() {
        for (value, at) in [
            (None, DockerHost::At(DockerUri::default())),
            (Some(" "), DockerHost::At(DockerUri::default())),
            (Some("tcp://a:1"), DockerHost::At(DockerUri::Tcp { host: "a".into(), port: 1 })),
            (Some("ssh://a"), DockerHost::Unsupported("ssh://a".into())),
        ] {
            let variables: Vec<_> =
                value.map(|v| ("DOCKER_HOST".to_owned(), v.to_owned())).into_iter().collect();
            let engines = Config::from_sources(&Flags::default(), &variables).unwrap().settings.engines;
            assert_eq!((engines.docker, engines.docker_host), (None, at), "{value:?}");
        }
    }

    #[test]
    fn the_directory_of_docker_tls_is_stronger_than_the_environment_of_dockers_client() {
        let environment = [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/theirs")];
        for (name, uri, set, directory) in [
            ("both", "tcp://b:2", vec![environment[0], environment[1]], Some("/ours")),
            ("alone", "tcp://b:2", vec![], Some("/ours")),
            ("over a socket", "unix:///s", vec![environment[1]], None),
        ] {
            let all = [("MILLRACE_ENGINES_DOCKER", uri), ("MILLRACE_DOCKER_TLS", "/ours")];
            let all = all.into_iter().chain(set).map(|(n, v)| (n.to_owned(), v.to_owned()));
            let all: Vec<_> = all.collect();
            let docker = Config::from_sources(&Flags::default(), &all).unwrap().settings.engines.docker;
            let found = match docker.unwrap() {
                DockerUri::Tls { certificates, .. } => certificates,
                _ => None,
            };
            assert_eq!(found.as_deref(), directory.map(Path::new), "{name}");
        }
    }

    #[test]
    fn a_daemon_is_asked_by_tls_as_the_environment_of_dockers_client_says() {
        let tls = [("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", "/c")];
        let own = ("MILLRACE_DOCKER_TLS", "/own");
        let plain = ["tcp://b:2", "tcp://a:1"];
        let secure = ["https://b:2", "https://a:1"];
        for (name, variables, [docker, host], directory) in [
            ("none", vec![], plain, None),
            ("Docker's", tls.to_vec(), secure, Some("/c")),
            ("ours", vec![own], secure, Some("/own")),
            ("ours over Docker's", vec![own, tls[0], tls[1]], secure, Some("/own")),
        ] {
            let all = [("MILLRACE_ENGINES_DOCKER", "tcp://b:2"), ("DOCKER_HOST", "tcp://a:1")];
            let all = all.into_iter().chain(variables).map(|(n, v)| (n.to_owned(), v.to_owned()));
            let all: Vec<_> = all.collect();
            let engines = Config::from_sources(&Flags::default(), &all).unwrap().settings.engines;
            let DockerHost::At(at) = engines.docker_host else { panic!("{name}") };
            for (uri, expected) in [(engines.docker.unwrap(), docker), (at, host)] {
                assert_eq!(uri.to_string(), expected, "{name}");
                let found = match uri {
                    DockerUri::Tls { certificates, .. } => certificates,
                    _ => None,
                };
                assert_eq!(found.as_deref(), directory.map(Path::new), "{name}");
            }
        }
    }
}
