//! Pulls from registries of the test's own.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::*;
use crate::fleet::docker::{
    auth::Credentials,
    image::{ImageRef, PullPolicy},
    pull::{Progress, PullLimits, pull},
};

/// Characters that the two variants of base64 write differently.
const PASSWORD: &str = "s3cret~~~???>>>";

/// How a registry behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// It gives the image to everybody.
    Open,
    /// To `me` with the password.
    Private,
    /// It has only images for another machine.
    Foreign,
    /// It stops in the middle of the layer.
    Stalls,
    /// It has a fault.
    Broken,
}

struct Registry {
    port: u16,
    /// The lines of requests.
    asked: Arc<Mutex<Vec<String>>>,
}

/// One image with the program in it.
#[derive(Clone)]
struct Image {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layer: Vec<u8>,
}

fn digest(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

impl Image {
    fn new(layer: Vec<u8>) -> Self {
        let config = json!({ "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux", "config": {}, "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] } });
        let config = config.to_string().into_bytes();
        let kind = "application/vnd.docker";
        let part = |kind: String, bytes: &[u8]| json!({ "mediaType": kind, "size": bytes.len(), "digest": digest(bytes) });
        let manifest = json!({ "schemaVersion": 2, "mediaType": format!("{kind}.distribution.manifest.v2+json"),
            "config": part(format!("{kind}.container.image.v1+json"), &config),
            "layers": [part(format!("{kind}.image.rootfs.diff.tar.gzip"), &layer)] });
        Self { manifest: manifest.to_string().into_bytes(), config, layer }
    }
}

impl Registry {
    fn start(listener: TcpListener, manner: Manner, image: &Image) -> Self {
        let (port, asked) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<_>>>::default());
        let (image, said) = (image.clone(), Arc::clone(&asked));
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (image, said) = (image.clone(), Arc::clone(&said));
                thread::spawn(move || answer(socket, manner, &image, &said));
            }
        });
        Self { port, asked }
    }

    fn image(&self, rest: &str) -> ImageRef {
        ImageRef::parse(&format!("127.0.0.1:{}/x/{rest}", self.port)).unwrap()
    }
}

fn answer(mut socket: TcpStream, manner: Manner, image: &Image, asked: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 8_192 && socket.read(&mut byte).is_ok_and(|n| n > 0) {
        head.push(byte[0]);
        // A greeting of TLS, which registries on this host need not speak.
        if head.len() == 1 && head[0] == 0x16 {
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
            return;
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next().unwrap_or_default().to_owned();
    let is_head = line.starts_with("HEAD");
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(line);
    let mut say = |status: &str, kind: &str, more: &str, body: &[u8]| {
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nDocker-Content-Digest: {}\r\n{more}Connection: close\r\n\r\n",
            digest(body)
        );
        socket.write_all(head.as_bytes()).ok();
        if !is_head {
            socket.write_all(body).ok();
        }
    };
    let manifest = "application/vnd.docker.distribution.manifest.v2+json";
    let user = STANDARD.encode(format!("me:{PASSWORD}"));
    let is_me = head.lines().any(|l| l.eq_ignore_ascii_case(&format!("authorization: basic {user}")));
    if manner == Manner::Broken {
        say("503 Service Unavailable", "text/plain", "", b"");
    } else if manner == Manner::Private && !is_me {
        let error = br#"{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}"#;
        say("401 Unauthorized", "application/json", "WWW-Authenticate: Basic realm=\"r\"\r\n", error);
    } else if path == "/v2/" {
        say("200 OK", "application/json", "", b"{}");
    } else if manner == Manner::Foreign && path.contains("/manifests/") {
        let list = json!({ "schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "manifests": [{ "mediaType": manifest, "size": image.manifest.len(), "digest": digest(&image.manifest),
                            "platform": { "architecture": "s390x", "os": "linux" } }] });
        say(
            "200 OK",
            "application/vnd.docker.distribution.manifest.list.v2+json",
            "",
            list.to_string().as_bytes(),
        );
    } else if path.ends_with("/manifests/1") || path.ends_with(&digest(&image.manifest)) {
        say("200 OK", manifest, "", &image.manifest);
    } else if path.ends_with(&digest(&image.config)) {
        say("200 OK", "application/octet-stream", "", &image.config);
    } else if path.ends_with(&digest(&image.layer)) && manner == Manner::Stalls {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", image.layer.len());
        socket.write_all(head.as_bytes()).ok();
        socket.write_all(&image.layer[..100_000]).ok();
        // Until the daemon hangs up.
        while socket.read(&mut byte).is_ok_and(|n| n > 0) {}
    } else if path.ends_with(&digest(&image.layer)) {
        say("200 OK", "application/octet-stream", "", &image.layer);
    } else {
        let error = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        say("404 Not Found", "application/json", "", error);
    }
}

#[tokio::test]
async fn an_image_is_pulled_or_the_registrys_answer_has_a_name() {
    let Some(daemon) = PrivateDocker::start() else { return };
    let hands = hands_on(&daemon).await;
    let given = Image::new(layer(&daemon));
    let registry = |manner| Registry::start(daemon.listen(), manner, &given);
    let (open, private, foreign, stalls, broken) = (
        registry(Manner::Open),
        registry(Manner::Private),
        registry(Manner::Foreign),
        registry(Manner::Stalls),
        registry(Manner::Broken),
    );
    let me = |password: &str| Credentials::Password { user: "me".into(), password: password.into() };
    let (told, progress) = watch::channel(Progress::default());
    let limit = Duration::from_secs(30);
    let fetch = async |image: &ImageRef, policy, credentials: Option<Credentials>| {
        hands.fetch(image, policy, credentials.as_ref(), limit, &told).await
    };

    let nobody = ImageRef::parse("127.0.0.1:1/x/tiny:1").unwrap();
    for (name, image, credentials, expected) in [
        ("nobody there", nobody, None, "RegistryUnreachable"),
        ("a fault", broken.image("tiny:1"), None, "RegistryUnreachable"),
        ("no such tag", open.image("tiny:9"), None, "ImageUnknown"),
        ("unknown", private.image("tiny:1"), None, "PullDenied"),
        ("a wrong password", private.image("tiny:1"), Some(me("other")), "PullDenied"),
        ("another machine's", foreign.image("tiny:1"), None, "WrongPlatform"),
    ] {
        let error = fetch(&image, PullPolicy::Missing, credentials).await.unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{name}: {error:?}");
        assert!(!error.to_string().contains("other"), "{name}: {error}");
        let error = fetch(&image, PullPolicy::Never, None).await.unwrap_err();
        assert!(matches!(error, DockerError::ImageMissing { .. }), "{name}: {error:?}");
    }

    let platform = hands.host().await.unwrap().platform();
    let short = |silence, whole| PullLimits {
        silence: Duration::from_millis(silence),
        whole: Duration::from_millis(whole),
    };
    for (limits, expected) in [(short(1_500, 30_000), "PullStalled"), (short(30_000, 1_500), "PullSlow")] {
        let (begun, image, mut reports) = (Instant::now(), stalls.image("tiny:1"), 0);
        let pulled = pull(&hands.docker, &image, &platform, None, limits, |_| reports += 1).await;
        let (error, took) = (pulled.unwrap_err(), begun.elapsed());
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
        assert!(
            took >= Duration::from_millis(1_500) && took < Duration::from_secs(5),
            "{expected}: {took:?}"
        );
        assert!((1..=8).contains(&reports), "{reports} in {took:?}");
    }

    let image = private.image("tiny:1");
    assert!(!hands.image_present(&image).await.unwrap());
    fetch(&image, PullPolicy::Missing, Some(me(PASSWORD))).await.unwrap();
    assert!(hands.image_present(&image).await.unwrap());
    let done = *progress.borrow();
    assert!(
        done.layers_done == 1 && done.layers_total == 1 && done.bytes_done == done.bytes_total,
        "{done:?}"
    );
    let spec = EngineSpec { image: image.to_string(), ..spec(&[]) };
    let id = hands.create(&spec, &ports(1), "pulled").await.unwrap();
    hands.start(&id).await.unwrap();

    // It is there: nobody is asked, unless always.
    let asked = || private.asked.lock().unwrap().len();
    let before = asked();
    for policy in [PullPolicy::Missing, PullPolicy::Never] {
        fetch(&image, policy, None).await.unwrap();
    }
    assert_eq!(asked(), before);
    fetch(&image, PullPolicy::Always, Some(me(PASSWORD))).await.unwrap();
    assert!(asked() > before);
    // A registry that is away does not take away what is there.
    let image = open.image("tiny:1");
    let away = ImageRef::parse("127.0.0.1:1/x/tiny:1").unwrap();
    fetch(&image, PullPolicy::Missing, None).await.unwrap();
    daemon.docker(&["tag", image.as_str(), away.as_str()]);
    fetch(&away, PullPolicy::Always, None).await.unwrap();
    // By its digest, too.
    let by_digest = open.image(&format!("tiny@{}", digest(&given.manifest)));
    fetch(&by_digest, PullPolicy::Missing, None).await.unwrap();
    assert!(hands.image_present(&by_digest).await.unwrap());
}

/// The layer that registries give: another one than that of the image that is there.
fn layer(daemon: &PrivateDocker) -> Vec<u8> {
    let mut layer = fs::read(daemon.layer()).unwrap();
    let padding = layer.len().next_multiple_of(10_240) + 10_240;
    layer.resize(padding, 0);
    layer
}
