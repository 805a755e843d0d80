//! What Docker means by an error: by the status where it has a meaning of its
//! own, by the words of Docker 20.10 to 28 where it has not.

use bollard::errors::Error;

use super::error::{DockerError, brief};

/// What was asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    /// To create a container of this name.
    Create {
        /// From this image.
        image: &'a str,
        /// So called.
        name: &'a str,
    },
    /// Anything about the container of this id.
    Container(&'a str),
    /// To pull this image, or whether it is there.
    Image(&'a str),
    /// Anything about the host.
    Host,
}

/// What the error is.
pub(super) fn meaning(asked: Asked<'_>, error: Error) -> DockerError {
    match error {
        Error::DockerResponseServerError { status_code, message } => classify(asked, status_code, &message),
        Error::DockerStreamError { error } => classify(asked, 500, &error),
        other => other.into(),
    }
}

/// What an answer with this status and text means.
fn classify(asked: Asked<'_>, status: u16, message: &str) -> DockerError {
    let text = message.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let why = || brief(message);
    if has(&["no space left on device", "disk quota exceeded"]) {
        // Of control groups and watches there is a number, too.
        return if has(&["/sys/fs/cgroup", "inotify", "fanotify"]) {
            DockerError::Limit(why())
        } else {
            DockerError::NoSpace(why())
        };
    }
    if has(LIMITS) {
        return DockerError::Limit(why());
    }
    if has(&["address already in use", "port is already allocated", "ports are not available"])
        && let Some(port) = port_in(&text)
    {
        return DockerError::PortTaken(port);
    }
    let special = match asked {
        Asked::Create { image, name } => of_create(&text, status, image, name),
        Asked::Container(id) => of_container(&text, status, id),
        Asked::Image(image) => of_image(&text, status, image, why()),
        Asked::Host => None,
    };
    if let Some(special) = special {
        return special;
    }
    if has(&["network"]) && has(&["not found", "could not find"]) {
        return DockerError::NetworkMissing(why());
    }
    if has(&["no such container", "non running container", "joining network namespace of container"]) {
        return DockerError::LenderMissing(why());
    }
    match status {
        400 => DockerError::BadSpec(why()),
        401 | 403 => DockerError::NoPermission(why()),
        409 => DockerError::Conflict(why()),
        _ if has(&[
            "executable file not found",
            "no such file or directory: unknown",
            "exec format error",
        ]) =>
        {
            DockerError::BadSpec(why())
        }
        _ => DockerError::Failed(brief(&format!("Docker responded with status code {status}: {message}"))),
    }
}

/// What the host has no more of. "Shim" alone says nothing: most faults of a
/// start are told as the shim's.
const LIMITS: &[&str] = &[
    "seccomp filter",
    "errno 524",
    "resource temporarily unavailable",
    "cannot allocate memory",
    "too many open files",
    "failed to start shim",
    "exchange full",
    "could not find an available, non-overlapping",
    "no available ip addresses",
    "no available ipv4 addresses",
];

fn of_create(text: &str, status: u16, image: &str, name: &str) -> Option<DockerError> {
    if status == 409
        && let Some((_, after)) = text.split_once("is already in use by container")
    {
        // It follows in quotation marks.
        let id = after.split('"').nth(1).unwrap_or_default().chars().take(64).collect();
        return Some(DockerError::NameTaken { name: name.to_owned(), id });
    }
    let image = image.to_owned();
    if text.contains("no such image") {
        return Some(DockerError::ImageMissing { image });
    }
    let is_other = text.contains("does not match the specified platform")
        || (text.contains("was found but") && text.contains("platform"));
    is_other.then(|| DockerError::WrongPlatform { image, why: brief(text) })
}

/// The container itself may be what is missing, or the one whose network it shares.
fn of_container(text: &str, status: u16, id: &str) -> Option<DockerError> {
    let is_it = status == 404 && text.contains("no such container") && text.contains(&id.to_lowercase());
    is_it.then(|| DockerError::Gone(id.to_owned()))
}

fn of_image(text: &str, status: u16, image: &str, why: String) -> Option<DockerError> {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let image = image.to_owned();
    Some(
        if has(&["no matching manifest", "no match for platform", "does not match the specified platform"]) {
            DockerError::WrongPlatform { image, why }
        } else if status == 429 || has(&["toomanyrequests", "too many requests", "pull rate limit"]) {
            DockerError::PullLimited(why)
        } else if has(&["no such image"]) {
            DockerError::ImageMissing { image }
        } else if has(UNREACHABLE) {
            DockerError::RegistryUnreachable { image, why }
        } else if status == 401 || status == 403 || has(DENIED) {
            DockerError::PullDenied { image, why }
        } else if has(&["manifest unknown", "name unknown", "not found"]) {
            DockerError::ImageUnknown { image, why }
        } else {
            return None;
        },
    )
}

/// A registry that is not reached, or that has a fault of its own.
const UNREACHABLE: &[&str] = &[
    "dial tcp",
    "no such host",
    "connection refused",
    "connection reset",
    "no route to host",
    "network is unreachable",
    "i/o timeout",
    "timeout exceeded",
    "handshake timeout",
    "deadline exceeded",
    "request canceled",
    "x509:",
    "tls:",
    "server gave http response",
    "unexpected http status: 5",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway",
    "unexpected eof",
    ": eof",
];

const DENIED: &[&str] = &[
    "pull access denied",
    "unauthorized",
    "authentication required",
    "denied:",
    "access denied",
    "403 forbidden",
    "no basic auth credentials",
    "insufficient_scope",
];

/// The port of the host in what Docker says of one that is taken.
fn port_in(text: &str) -> Option<u16> {
    const BEFORE: [&str; 6] =
        ["bind host port for ", "bind host port ", "bind for ", "listen ", "port tcp ", "port udp "];
    BEFORE.iter().find_map(|before| {
        let (_, after) = text.split_once(before)?;
        // `listen tcp4 0.0.0.0:80`
        let after = after.strip_prefix("tcp").or_else(|| after.strip_prefix("udp")).unwrap_or(after);
        let after = after.trim_start_matches(['4', '6']).trim_start();
        let after = match after.strip_prefix('[') {
            Some(v6) => v6.split_once(']')?.1,
            None => after.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'),
        };
        let digits = after.strip_prefix(':')?;
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits.get(..end)?.parse().ok().filter(|port| *port != 0)
    })
}

#[cfg(test)]
mod tests;
