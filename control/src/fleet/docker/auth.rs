//! Who asks a registry: from the Docker client's own file, or as set.

#![cfg_attr(not(test), expect(dead_code, reason = "wired with the units"))]

use std::{
    collections::HashMap,
    fmt, fs,
    io::Read,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bollard::auth::DockerCredentials;
use serde::Deserialize;

/// A larger file is not the Docker client's.
const LARGEST: u64 = 1 << 20;
/// The registry of images without one, as the client's file calls it.
const HUB: [&str; 4] =
    ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"];

/// Why there are no credentials where there should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what `docker login` writes.
    #[error("{path} is no configuration of the Docker client: {why}")]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong, without what is in it.
        why: &'static str,
    },
    /// They are kept by a program that only the Docker client runs.
    #[error("credentials for {registry} are kept by docker-credential-{helper}, which is not supported")]
    Helper {
        /// Whose.
        registry: String,
        /// The program.
        helper: String,
    },
}

impl AuthError {
    /// What helps.
    pub(crate) const fn remedy(&self) -> &'static str {
        match self {
            Self::Read { .. } => "let Millrace read it, or name another one",
            Self::Malformed { .. } => "write it anew: docker login REGISTRY",
            Self::Helper { .. } => {
                "set the registry's user and password, or log in with a DOCKER_CONFIG directory whose \
                 config.json has neither credsStore nor credHelpers"
            }
        }
    }
}

/// What a registry is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A user and a password or access token.
    Password {
        /// The user.
        user: String,
        /// Never shown.
        password: String,
    },
    /// What a registry gave in exchange for them.
    Identity {
        /// Never shown.
        token: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user}, ***)"),
            Self::Identity { .. } => f.write_str("Identity(***)"),
        }
    }
}

impl Credentials {
    /// As Docker is told.
    pub(super) fn to_docker(&self, registry: &str) -> DockerCredentials {
        let serveraddress = Some(address(registry).to_owned());
        match self.clone() {
            Self::Password { user, password } => DockerCredentials {
                username: Some(user),
                password: Some(password),
                serveraddress,
                ..DockerCredentials::default()
            },
            Self::Identity { token } => DockerCredentials {
                identitytoken: Some(token),
                serveraddress,
                ..DockerCredentials::default()
            },
        }
    }
}

/// What `docker login` has left.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: HashMap<String, Entry>,
    creds_store: String,
    cred_helpers: HashMap<String, String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
}

/// The credentials in the Docker client's `config.json` at `path` for a
/// registry (a host with or without a port), if it has some. A file that is
/// not there has none.
///
/// # Errors
/// When the file is there and unusable, or a program keeps them.
pub(crate) fn from_file(path: &Path, registry: &str) -> Result<Option<Credentials>, AuthError> {
    let unreadable = |source| AuthError::Read { path: path.to_owned(), source };
    let malformed = |why| AuthError::Malformed { path: path.to_owned(), why };
    let file = match fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(unreadable)?,
    };
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LARGEST {
        return Err(malformed("it is larger than 1 MiB"));
    }
    // Not with the parser's words: they may quote a secret.
    let file: File = serde_json::from_slice(&text).map_err(|_| malformed("it is not the JSON expected"))?;
    let helper = file.cred_helpers.iter().find(|(key, _)| is_of(key, registry)).map(|(_, helper)| helper);
    // One by its exact name counts before one by another of its names.
    let mut entries: Vec<_> = file.auths.iter().filter(|(key, _)| is_of(key, registry)).collect();
    entries.sort_by_key(|(key, _)| (*key != registry, *key));
    let is_kept =
        |entry: &Entry| entry.auth.is_empty() && entry.username.is_empty() && entry.identitytoken.is_empty();
    match entries.into_iter().find(|(_, entry)| !is_kept(entry)) {
        Some((_, entry)) if helper.is_none() => entry.credentials().map(Some).map_err(malformed),
        _ => {
            // A store without an entry for the registry may have nothing for it.
            let is_listed = file.auths.keys().any(|key| is_of(key, registry));
            let store = Some(&file.creds_store).filter(|store| !store.is_empty() && is_listed);
            match helper.or(store) {
                Some(helper) => {
                    Err(AuthError::Helper { registry: registry.to_owned(), helper: helper.clone() })
                }
                None => Ok(None),
            }
        }
    }
}

impl Entry {
    fn credentials(&self) -> Result<Credentials, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Credentials::Identity { token: self.identitytoken.clone() });
        }
        if self.auth.is_empty() {
            let (user, password) = (self.username.clone(), self.password.clone());
            return Ok(Credentials::Password { user, password });
        }
        let text = STANDARD.decode(&self.auth).map_err(|_| "an auth is not base64")?;
        let text = String::from_utf8(text).map_err(|_| "an auth is not text")?;
        let (user, password) = text.split_once(':').ok_or("an auth is not user:password")?;
        // Old clients padded it.
        let password = password.trim_end_matches('\0');
        if user.is_empty() || password.is_empty() {
            return Err("an auth is not user:password");
        }
        Ok(Credentials::Password { user: user.to_owned(), password: password.to_owned() })
    }
}

/// Keys are hosts, with or without a scheme, a path, or the names of Docker's
/// own registry.
fn is_of(key: &str, registry: &str) -> bool {
    let host = |text: &str| {
        let text = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
        text.split('/').next().unwrap_or_default().to_ascii_lowercase()
    };
    let (key, registry) = (host(key), host(registry));
    let is_hub = |name: &str| HUB.contains(&name);
    key == registry || (is_hub(&key) && is_hub(&registry))
}

/// As Docker calls a registry in credentials.
fn address(registry: &str) -> &str {
    if HUB.contains(&registry) { HUB[0] } else { registry }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_file(&self.0).ok();
        }
    }

    fn read(name: &str, text: &str, registry: &str) -> Result<Option<Credentials>, AuthError> {
        let path = std::env::temp_dir().join(format!("millrace-auth-{}-{name}.json", std::process::id()));
        let file = Scratch(path);
        fs::write(&file.0, text).unwrap();
        from_file(&file.0, registry)
    }

    fn password(user: &str, password: &str) -> Option<Credentials> {
        Some(Credentials::Password { user: user.into(), password: password.into() })
    }

    #[test]
    fn credentials_are_found_under_every_name_of_a_registry() {
        // "me:s3cret:x", "me:s3cret" and zeroes, "other:pass"
        let (plain, padded, other) = ("bWU6czNjcmV0Ong=", "bWU6czNjcmV0AAA=", "b3RoZXI6cGFzcw==");
        let entry = |key: &str, auth: &str| format!(r#"{{"auths":{{"{key}":{{"auth":"{auth}"}}}}}}"#);
        let both =
            format!(r#"{{"auths":{{"https://r.io/":{{"auth":"{other}"}},"r.io":{{"auth":"{plain}"}}}}}}"#);
        let me = || password("me", "s3cret:x");
        for (name, text, registry, expected) in [
            ("host", entry("r.io", plain), "r.io", me()),
            ("scheme", entry("https://r.io", plain), "r.io", me()),
            ("path", entry("https://r.io/v2/", plain), "r.io", me()),
            ("port", entry("r.io:5000", plain), "r.io:5000", me()),
            ("other-port", entry("r.io:5000", plain), "r.io", None),
            ("case", entry("R.io", plain), "r.io", me()),
            ("hub", entry("https://index.docker.io/v1/", plain), "docker.io", me()),
            ("hub-name", entry("registry-1.docker.io", plain), "docker.io", me()),
            ("not-hub", entry("https://index.docker.io/v1/", plain), "ghcr.io", None),
            ("padded", entry("r.io", padded), "r.io", password("me", "s3cret")),
            ("exact", both, "r.io", me()),
            (
                "clear",
                r#"{"auths":{"r.io":{"username":"a","password":"b"}}}"#.into(),
                "r.io",
                password("a", "b"),
            ),
            (
                "identity",
                format!(r#"{{"auths":{{"r.io":{{"auth":"{plain}","identitytoken":"tok"}}}}}}"#),
                "r.io",
                Some(Credentials::Identity { token: "tok".into() }),
            ),
            ("nothing", "{}".into(), "r.io", None),
            ("empty", entry("r.io", ""), "r.io", None),
            (
                "store-of-others",
                r#"{"auths":{},"credsStore":"desktop","HttpHeaders":{}}"#.into(),
                "r.io",
                None,
            ),
        ] {
            assert_eq!(read(name, &text, registry).unwrap(), expected, "{name}");
        }
        let gone = std::env::temp_dir().join("millrace-there-is-no-such-file");
        assert_eq!(from_file(&gone, "r.io").unwrap(), None);
    }

    #[test]
    fn a_file_that_does_not_do_is_an_error_without_its_secrets() {
        let entry = |auth: &str| format!(r#"{{"auths":{{"r.io":{{"auth":"{auth}"}}}}}}"#);
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
        for (name, text, expected) in [
            ("no-json", "s3cret".to_owned(), "is no configuration"),
            ("other-json", r#"{"auths":["s3cret"]}"#.into(), "is no configuration"),
            ("no-base64", entry("s3cret!"), "not base64"),
            ("no-text", entry("/////w=="), "not text"),
            ("no-colon", entry("czNjcmV0"), "not user:password"),
            ("no-user", entry("OnMzY3JldA=="), "not user:password"),
            ("large", large, "larger than 1 MiB"),
            ("store", r#"{"auths":{"r.io":{}},"credsStore":"desktop"}"#.into(), "docker-credential-desktop"),
            ("helper", r#"{"credHelpers":{"r.io":"ecr-login"}}"#.into(), "docker-credential-ecr-login"),
        ] {
            let error = read(name, &text, "r.io").unwrap_err();
            let shown = format!("{error} {error:?} {}", error.remedy());
            assert!(shown.contains(expected) && !shown.contains("s3cret"), "{name}: {shown}");
        }
        assert!(matches!(from_file(Path::new("/"), "r.io"), Err(AuthError::Read { .. })));
    }

    #[test]
    fn credentials_show_no_secret_and_go_to_docker_whole() {
        let known = [password("me", "s3cret").unwrap(), Credentials::Identity { token: "s3cret".into() }];
        for credentials in known {
            assert!(!format!("{credentials:?}").contains("s3cret"));
            let told = serde_json::to_value(credentials.to_docker("docker.io")).unwrap();
            assert_eq!(told["serveraddress"], "https://index.docker.io/v1/");
            assert!(told["password"] == "s3cret" || told["identitytoken"] == "s3cret", "{told}");
        }
        assert_eq!(password("a", "b").unwrap().to_docker("r.io:5000").serveraddress.unwrap(), "r.io:5000");
    }
}
