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
        let id: String = after.chars().filter(char::is_ascii_hexdigit).take(64).collect();
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
mod tests {
    use super::*;

    const ID: &str = "4f1d0c8f9a3be2d17c5f6e0b8a9d3c2e1f405162738495a6b7c8d9e0f1a2b3c4";

    /// The variant and the fields that were read out of the text.
    fn told(asked: Asked<'_>, status: u16, text: &str) -> String {
        let error = classify(asked, status, text);
        assert!(!error.remedy().is_empty() && error.to_string().len() < 600, "{text}");
        let debug = format!("{error:?}");
        let variant = debug.split([' ', '(', '{']).next().unwrap().to_owned();
        match error {
            DockerError::PortTaken(port) => format!("{variant} {port}"),
            DockerError::NameTaken { name, id } => format!("{variant} {name} {id}"),
            _ => variant,
        }
    }

    #[test]
    fn what_docker_says_of_a_create_or_a_start_has_a_name() {
        let create = Asked::Create { image: "engine:1", name: "engine-1" };
        let start = Asked::Container(ID);
        let taken = format!(
            "Conflict. The container name \"/engine-1\" is already in use by container \"{ID}\". \
             You have to remove (or rename) that container to be able to reuse that name."
        );
        let bound = "driver failed programming external connectivity on endpoint engine-1 (0a1b): ";
        let bound = |rest: &str| format!("{bound}{rest}");
        let shim = "failed to create task for container: failed to create shim task: OCI runtime create failed: \
                    runc create failed: unable to start container process: ";
        let shim = |rest: &str| format!("{shim}{rest}");
        for (asked, status, text, expected) in [
            (create, 409, taken.as_str(), format!("NameTaken engine-1 {ID}").as_str()),
            (create, 404, "No such image: engine:1", "ImageMissing"),
            (
                create,
                404,
                "image with reference engine:1 was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64",
                "WrongPlatform",
            ),
            (
                create,
                404,
                "image with reference engine:1 was found but its platform (linux/amd64) does not match the specified platform (linux/arm64)",
                "WrongPlatform",
            ),
            (create, 404, "No such container: vpn", "LenderMissing"),
            (create, 400, "invalid reference format", "BadSpec"),
            (create, 400, "No command specified", "BadSpec"),
            (
                create,
                400,
                "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
                "BadSpec",
            ),
            (create, 400, "Minimum memory limit allowed is 6MB", "BadSpec"),
            (create, 403, "authorization denied by plugin opa: not allowed", "NoPermission"),
            (create, 500, "mkdir /var/lib/docker/overlay2/1: no space left on device", "NoSpace"),
            (create, 500, "something else", "Failed"),
            (start, 404, &format!("No such container: {ID}"), "Gone"),
            (start, 404, "network engines not found", "NetworkMissing"),
            (
                start,
                404,
                "failed to set up container networking: network engines not found",
                "NetworkMissing",
            ),
            (start, 500, "cannot join network of a non running container: 0a1b", "LenderMissing"),
            (
                start,
                409,
                "cannot join network namespace of a non running container: container /vpn is exited",
                "LenderMissing",
            ),
            (start, 404, "joining network namespace of container: No such container: vpn", "LenderMissing"),
            (start, 404, "No such container: 00112233", "LenderMissing"),
            (
                start,
                500,
                &bound(
                    "Error starting userland proxy: listen tcp4 0.0.0.0:19000: bind: address already in use",
                ),
                "PortTaken 19000",
            ),
            (
                start,
                500,
                &bound(
                    "Error starting userland proxy: listen tcp 127.0.0.1:19000: bind: address already in use",
                ),
                "PortTaken 19000",
            ),
            (
                start,
                500,
                &bound("Error starting userland proxy: listen tcp6 [::]:19000: bind: address already in use"),
                "PortTaken 19000",
            ),
            (
                start,
                500,
                &bound("Bind for 0.0.0.0:19000 failed: port is already allocated"),
                "PortTaken 19000",
            ),
            (start, 500, &bound("Bind for [::1]:19000 failed: port is already allocated"), "PortTaken 19000"),
            (
                start,
                500,
                "failed to set up container networking: driver failed programming external connectivity on endpoint e (0a): failed to bind host port for 127.0.0.1:19000:172.17.0.2:6878/tcp: address already in use",
                "PortTaken 19000",
            ),
            (
                start,
                500,
                "failed to set up container networking: driver failed programming external connectivity on endpoint e (0a): failed to bind host port 0.0.0.0:19000/tcp: address already in use",
                "PortTaken 19000",
            ),
            (
                start,
                500,
                "Ports are not available: exposing port TCP 0.0.0.0:19000 -> 0.0.0.0:0: listen tcp 0.0.0.0:19000: bind: address already in use",
                "PortTaken 19000",
            ),
            (
                start,
                500,
                "Ports are not available: exposing port TCP 127.0.0.1:19000 -> 127.0.0.1:0: /forwards/expose returned unexpected status: 500",
                "PortTaken 19000",
            ),
            (start, 403, "Address already in use", "NoPermission"),
            (
                start,
                500,
                &shim(
                    "error during container init: error loading seccomp filter into kernel: error loading seccomp filter: errno 524: unknown",
                ),
                "Limit",
            ),
            (start, 500, &shim("can't start: fork/exec: resource temporarily unavailable: unknown"), "Limit"),
            (
                start,
                500,
                "failed to start shim: start failed: : pipe2: too many open files: unknown",
                "Limit",
            ),
            (
                start,
                500,
                &shim(
                    "unable to apply cgroup configuration: mkdir /sys/fs/cgroup/memory/docker/0a: no space left on device: unknown",
                ),
                "Limit",
            ),
            (
                start,
                500,
                "failed to create endpoint e on network bridge: adding interface veth0 to bridge docker0 failed: exchange full",
                "Limit",
            ),
            (
                start,
                400,
                &shim("exec: \"/engin\": stat /engin: no such file or directory: unknown"),
                "BadSpec",
            ),
            (start, 400, &shim("exec: \"engine\": executable file not found in $PATH: unknown"), "BadSpec"),
            (start, 500, &shim("exec: \"engine\": executable file not found in $PATH: unknown"), "BadSpec"),
            (start, 500, "exec /engine: exec format error", "BadSpec"),
            (start, 409, &format!("Container {ID} is not running"), "Conflict"),
            (start, 409, &format!("Container {ID} is already paused"), "Conflict"),
            (start, 409, "cannot start a paused container, try unpause instead", "Conflict"),
            (
                start,
                500,
                "driver \"overlay2\" failed to remove root filesystem: device or resource busy",
                "Failed",
            ),
            (Asked::Host, 500, "oops", "Failed"),
            (Asked::Host, 404, "page not found", "Failed"),
        ] {
            assert_eq!(told(asked, status, text), expected, "{status} {text}");
        }
    }

    #[test]
    fn what_a_registry_says_of_a_pull_has_a_name() {
        let hub = "https://registry-1.docker.io/v2/";
        for (status, text, expected) in [
            (
                404,
                "pull access denied for nobody/engine, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                "PullDenied",
            ),
            (
                500,
                "Head \"https://ghcr.io/v2/x/engine/manifests/1\": unauthorized: authentication required",
                "PullDenied",
            ),
            (500, "Get \"https://r.example/v2/\": no basic auth credentials", "PullDenied"),
            (
                500,
                "Error response from daemon: Head \"https://ghcr.io/v2/x/manifests/1\": denied: denied",
                "PullDenied",
            ),
            (
                500,
                "failed to resolve reference \"ghcr.io/x:1\": failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token: 403 Forbidden",
                "PullDenied",
            ),
            (404, "manifest for engine:9 not found: manifest unknown: manifest unknown", "ImageUnknown"),
            (404, "manifest unknown", "ImageUnknown"),
            (500, "name unknown: repository engine not found", "ImageUnknown"),
            (
                404,
                "failed to resolve reference \"docker.io/library/engine:9\": docker.io/library/engine:9: not found",
                "ImageUnknown",
            ),
            (404, "No such image: engine:1", "ImageMissing"),
            (404, "no matching manifest for linux/arm64/v8 in the manifest list entries", "WrongPlatform"),
            (500, "no matching manifest for unknown in the manifest list entries", "WrongPlatform"),
            (404, "no match for platform in manifest: not found", "WrongPlatform"),
            (
                404,
                "image with reference engine:1 was found but does not match the specified platform: wanted linux/arm64, actual: linux/amd64",
                "WrongPlatform",
            ),
            (500, "toomanyrequests: You have reached your unauthenticated pull rate limit.", "PullLimited"),
            (429, "", "PullLimited"),
            (
                500,
                "Get \"https://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection refused",
                "RegistryUnreachable",
            ),
            (
                500,
                "Get \"https://r.example/v2/\": dial tcp: lookup r.example on 127.0.0.11:53: no such host",
                "RegistryUnreachable",
            ),
            (
                500,
                &format!(
                    "Get \"{hub}\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)"
                ),
                "RegistryUnreachable",
            ),
            (500, &format!("Get \"{hub}\": net/http: TLS handshake timeout"), "RegistryUnreachable"),
            (
                500,
                "Get \"https://r.example/v2/\": x509: certificate signed by unknown authority",
                "RegistryUnreachable",
            ),
            (
                500,
                "Get \"https://r.example/v2/\": http: server gave HTTP response to HTTPS client",
                "RegistryUnreachable",
            ),
            (500, "received unexpected HTTP status: 503 Service Unavailable", "RegistryUnreachable"),
            (500, &format!("Get \"{hub}\": EOF"), "RegistryUnreachable"),
            (
                500,
                "failed to register layer: Error processing tar file(exit status 1): write /a: no space left on device",
                "NoSpace",
            ),
            (500, "write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "NoSpace"),
            (400, "invalid reference format: repository name must be lowercase", "BadSpec"),
            (500, "filesystem layer verification failed for digest sha256:00", "Failed"),
        ] {
            assert_eq!(told(Asked::Image("engine:1"), status, text), expected, "{status} {text}");
        }
    }

    #[test]
    fn a_long_answer_is_cut_and_a_strange_one_is_read() {
        for text in
            ["x".repeat(100_000), "ä\u{1b}[31m\0".repeat(1_000), "bind for [".into(), "listen tcp4".into()]
        {
            for status in [0, 200, 404, 409, 500, 999] {
                let error = classify(Asked::Container(ID), status, &text).to_string();
                assert!(error.chars().count() < 400 && !error.contains(char::is_control), "{error}");
            }
        }
    }
}
