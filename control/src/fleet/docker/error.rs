//! What can be wrong with a Docker daemon, and the remedy.

use std::{error::Error, io, time::Duration};

use super::TlsError;

/// Why a Docker daemon does not tell its containers.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    /// Nothing is at the socket's path.
    #[error("there is no such socket")]
    NoSocket,
    /// The socket belongs to others.
    #[error("permission denied")]
    Denied,
    /// Nobody listens.
    #[error("connection refused")]
    Refused,
    /// Nothing came in time.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// The name server does not know the host.
    #[error("cannot resolve {host}: {why}")]
    Unresolved {
        /// The name.
        host: String,
        /// In the resolver's words.
        why: String,
    },
    /// There is no TLS to it.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It closed the connection, or the stream of its events.
    #[error("it closed the connection")]
    Closed,
    /// Anything else: an error of its own, or an answer that is not Docker's.
    #[error("{0}")]
    Failed(String),
}

impl DockerError {
    /// What helps.
    #[must_use]
    pub const fn remedy(&self) -> &'static str {
        match self {
            Self::NoSocket => {
                "start Docker, or name its socket with --docker; \
                 inside a container mount it: -v /var/run/docker.sock:/var/run/docker.sock"
            }
            Self::Denied => {
                "run as root or as a member of the socket's group, as a rule docker: \
                 SupplementaryGroups=docker in the systemd unit, --group-add for a container"
            }
            Self::Refused | Self::Closed => "start Docker: systemctl start docker; or correct host and port",
            Self::Silent(_) => "look into the daemon's log: journalctl -u docker; or correct host and port",
            Self::Unresolved { .. } => "correct the name, or use the address",
            Self::Tls(error) => error.remedy(),
            Self::Failed(_) => "make sure that a Docker daemon of version 20.10 or newer listens there",
        }
    }
}

/// The operating system's word where there is one, the whole chain of causes
/// otherwise.
impl From<bollard::errors::Error> for DockerError {
    fn from(error: bollard::errors::Error) -> Self {
        match error {
            bollard::errors::Error::SocketNotFoundError(_) => return Self::NoSocket,
            bollard::errors::Error::IOError { err } => return err.into(),
            _ => {}
        }
        let mut text = error.to_string();
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(tls) = TlsError::within(error) {
                return tls.into();
            }
            if let Some(known) = error.downcast_ref::<io::Error>().and_then(of_kind) {
                return known;
            }
            let word = error.to_string();
            if !text.contains(&word) {
                text = format!("{text}: {word}");
            }
            cause = error.source();
        }
        Self::Failed(brief(&text))
    }
}

impl From<io::Error> for DockerError {
    fn from(error: io::Error) -> Self {
        of_kind(&error).unwrap_or_else(|| Self::Failed(brief(&error.to_string())))
    }
}

fn of_kind(error: &io::Error) -> Option<DockerError> {
    match error.kind() {
        io::ErrorKind::NotFound => Some(DockerError::NoSocket),
        io::ErrorKind::PermissionDenied => Some(DockerError::Denied),
        io::ErrorKind::ConnectionRefused => Some(DockerError::Refused),
        io::ErrorKind::UnexpectedEof => Some(DockerError::Closed),
        _ => None,
    }
}

/// It goes to logs and terminals, and a daemon may say a lot.
fn brief(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
