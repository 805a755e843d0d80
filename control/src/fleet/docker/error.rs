//! What can be wrong with a Docker daemon, and the remedy.

use std::{error::Error, io, time::Duration};

/// Why a Docker daemon does not tell its containers, or does not do what it
/// was asked to.
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
    /// It closed the connection, or the stream of its events.
    #[error("it closed the connection")]
    Closed,
    /// Anything else: an error of its own, or an answer that is not Docker's.
    #[error("{0}")]
    Failed(String),
    /// The image is not there and was not to be pulled.
    #[error("there is no image {image}")]
    ImageMissing {
        /// Its reference.
        image: String,
    },
    /// The registry has no such image.
    #[error("the registry has no image {image}: {why}")]
    ImageUnknown {
        /// Its reference.
        image: String,
        /// In the registry's words.
        why: String,
    },
    /// The registry wants to know who asks, or does not let them. Some say so
    /// of what they do not have, too.
    #[error("the registry does not give {image}: {why}")]
    PullDenied {
        /// Its reference.
        image: String,
        /// In the registry's words.
        why: String,
    },
    /// The registry has given enough for now.
    #[error("the registry gives no more for now: {0}")]
    PullLimited(String),
    /// The registry does not answer, or not as one.
    #[error("cannot reach the registry of {image}: {why}")]
    RegistryUnreachable {
        /// Its reference.
        image: String,
        /// In Docker's words.
        why: String,
    },
    /// A pull went on without any progress.
    #[error("pulling {image} made no progress for {silence:?}")]
    PullStalled {
        /// Its reference.
        image: String,
        /// How long.
        silence: Duration,
    },
    /// A pull took longer than it may.
    #[error("pulling {image} took longer than {limit:?}")]
    PullSlow {
        /// Its reference.
        image: String,
        /// What it may take.
        limit: Duration,
    },
    /// There is the image, but not for this machine.
    #[error("{image} is not made for this machine: {why}")]
    WrongPlatform {
        /// Its reference.
        image: String,
        /// In Docker's words.
        why: String,
    },
    /// A disk of the daemon's is full.
    #[error("no space left: {0}")]
    NoSpace(String),
    /// Somebody has the port already.
    #[error("port {0} of the host is taken")]
    PortTaken(u16),
    /// A container of this fleet that does not run has the name.
    #[error("the name {name} is taken by our own container {id}, which does not run")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// A container of this fleet that runs has the name.
    #[error("the name {name} is taken by our own container {id}, which runs")]
    NameInUse {
        /// The name.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// A container of somebody else has the name.
    #[error("the name {name} is taken by container {id}, which is not of this fleet")]
    NameForeign {
        /// The name.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// There is no such network.
    #[error("the network is missing: {0}")]
    NetworkMissing(String),
    /// The container whose network is to be shared is not there or does not run.
    #[error("the container whose network is shared is missing or does not run: {0}")]
    LenderMissing(String),
    /// A plug-in of the daemon's does not allow it.
    #[error("the daemon does not allow it: {0}")]
    NoPermission(String),
    /// The host has no more of something.
    #[error("a limit of the host is reached: {0}")]
    Limit(String),
    /// What was asked for makes no container, or none that can run.
    #[error("the container cannot be made as set: {0}")]
    BadSpec(String),
    /// It does not carry the label of this fleet.
    #[error("container {name} ({id}) is not of this fleet")]
    NotOurs {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// It exists no more.
    #[error("container {0} is gone")]
    Gone(String),
    /// It is in a state in which this cannot be done.
    #[error("not in its present state: {0}")]
    Conflict(String),
    /// A terminal's output has no lines that could be told apart.
    #[error("container {0} writes to a terminal: its log cannot be followed")]
    Terminal(String),
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
            Self::Failed(_) => "make sure that a Docker daemon of version 20.10 or newer listens there",
            Self::ImageMissing { .. } => "pull it, or let it be pulled when it is missing",
            Self::ImageUnknown { .. } => "correct the image's name and tag",
            Self::PullDenied { .. } => {
                "correct the image's name, or give its registry's user and password: docker login"
            }
            Self::PullLimited(_) => "wait, or give the registry's user and password: docker login",
            Self::RegistryUnreachable { .. } => {
                "correct the registry's name; check network, DNS and proxy of the Docker daemon"
            }
            Self::PullStalled { .. } | Self::PullSlow { .. } => {
                "check the network of the Docker daemon, pull the image by hand, or allow more time"
            }
            Self::WrongPlatform { .. } => "use an image made for this machine's architecture",
            Self::NoSpace(_) => {
                "free some: docker system df tells what takes it, docker image prune frees it"
            }
            Self::PortTaken(_) => "end what listens there (ss -ltnp), or use another range of ports",
            Self::NameTaken { .. } => "remove that container, or use another name",
            Self::NameInUse { .. } => "use another name; it is an engine of ours",
            Self::NameForeign { .. } => {
                "rename or remove that container, or give engines another prefix; Millrace leaves it alone"
            }
            Self::NetworkMissing(_) => "create it: docker network create NAME; or correct its name",
            Self::LenderMissing(_) => "start that container, or correct its name",
            Self::NoPermission(_) => "allow it in the daemon's authorization plug-in",
            Self::Limit(_) => {
                "run fewer engines, or raise the host's limit: sysctl net.core.bpf_jit_limit, kernel.pid_max                  and TasksMax= of docker.service are the usual ones"
            }
            Self::BadSpec(_) => "correct the engine's image, command, limits or network",
            Self::NotOurs { .. } => "see to it yourself; Millrace leaves containers of others alone",
            Self::Gone(_) => "nothing; it is replaced when it is needed",
            Self::Conflict(_) => "nothing, if it passes; else look at the container: docker inspect",
            Self::Terminal(_) => "start the container without --tty",
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
pub(super) fn brief(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}
