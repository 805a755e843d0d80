//! Real texts of Docker and of registries.

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
        (create, 400, "Range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available", "BadSpec"),
        (create, 400, "Minimum memory limit allowed is 6MB", "BadSpec"),
        (create, 403, "authorization denied by plugin opa: not allowed", "NoPermission"),
        (create, 500, "mkdir /var/lib/docker/overlay2/1: no space left on device", "NoSpace"),
        (create, 500, "something else", "Failed"),
        (start, 404, &format!("No such container: {ID}"), "Gone"),
        (start, 404, "network engines not found", "NetworkMissing"),
        (start, 404, "failed to set up container networking: network engines not found", "NetworkMissing"),
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
            &bound("Error starting userland proxy: listen tcp4 0.0.0.0:19000: bind: address already in use"),
            "PortTaken 19000",
        ),
        (
            start,
            500,
            &bound("Error starting userland proxy: listen tcp 127.0.0.1:19000: bind: address already in use"),
            "PortTaken 19000",
        ),
        (
            start,
            500,
            &bound("Error starting userland proxy: listen tcp6 [::]:19000: bind: address already in use"),
            "PortTaken 19000",
        ),
        (start, 500, &bound("Bind for 0.0.0.0:19000 failed: port is already allocated"), "PortTaken 19000"),
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
        (start, 500, "failed to start shim: start failed: : pipe2: too many open files: unknown", "Limit"),
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
        (start, 400, &shim("exec: \"/engin\": stat /engin: no such file or directory: unknown"), "BadSpec"),
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
