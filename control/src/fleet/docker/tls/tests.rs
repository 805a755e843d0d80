//! With certificates that openssl makes, in front of a TLS server that wants
//! ours as Docker does.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    thread,
    time::Duration,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned, server::WebPkiClientVerifier};

use super::*;
use crate::fleet::docker::{
    DockerUri,
    fake::{Fake, SocketPath},
    look_at_docker,
};

const SOON: Duration = Duration::from_secs(10);
const NOW: [&str; 2] = ["20200101000000Z", "20990101000000Z"];
const PAST: [&str; 2] = ["20200101000000Z", "20210101000000Z"];
const FUTURE: [&str; 2] = ["20980101000000Z", "20990101000000Z"];

/// A directory that is gone with the test.
struct Certificates(PathBuf);

impl Drop for Certificates {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Certificates {
    /// None, aloud, without openssl.
    fn new() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            assert!(std::env::var_os("REQUIRE_DOCKER").is_none(), "openssl is not installed");
            println!("SKIP: openssl is not installed");
            return None;
        }
        let directory = SocketPath::new().0.with_extension("certificates");
        fs::create_dir_all(&directory).unwrap();
        let all = Self(directory);
        fs::write(
            all.0.join("ca.conf"),
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\n\
             rand_serial=yes\ncopy_extensions=copy\nunique_subject=no\n[p]\ncommonName=supplied\n",
        )
        .unwrap();
        fs::write(all.0.join("index"), "").unwrap();
        for authority in ["ca", "other"] {
            let (key, cert) = (format!("{authority}.key"), format!("{authority}.pem"));
            let name = format!("/CN={authority}");
            all.openssl(&[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
                "-keyout",
                &key,
                "-out",
                &cert,
                "-subj",
                &name,
                "-days",
                "2",
            ]);
        }
        Some(all)
    }

    fn openssl(&self, args: &[&str]) {
        let output = Command::new("openssl").args(args).current_dir(&self.0).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// `NAME.pem` and `NAME.key`, for these alternative names.
    fn sign(&self, name: &str, authority: &str, alternatives: &str, [from, until]: [&str; 2]) {
        let (key, cert, request) = (format!("{name}.key"), format!("{name}.pem"), format!("{name}.csr"));
        let (signer, signer_key) = (format!("{authority}.pem"), format!("{authority}.key"));
        let (subject, alternatives) = (format!("/CN={name}"), format!("subjectAltName={alternatives}"));
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &request,
            "-subj",
            &subject,
            "-addext",
            &alternatives,
        ]);
        self.openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            "ca.conf",
            "-cert",
            &signer,
            "-keyfile",
            &signer_key,
            "-in",
            &request,
            "-out",
            &cert,
            "-startdate",
            from,
            "-enddate",
            until,
        ]);
    }

    /// A directory as Docker's client has it, of these files.
    fn directory(&self, name: &str, [ca, cert, key]: [&str; 3]) -> PathBuf {
        let directory = self.0.join(name);
        fs::create_dir_all(&directory).unwrap();
        for (from, to) in [(ca, "ca.pem"), (cert, "cert.pem"), (key, "key.pem")] {
            match from {
                "" => {}
                "/" => fs::create_dir(directory.join(to)).unwrap(),
                _ => drop(fs::copy(self.0.join(from), directory.join(to)).unwrap()),
            }
        }
        directory
    }

    /// The port of a daemon with this certificate, which wants one of ours.
    fn serve(&self, name: &str, daemon: &Path) -> u16 {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.0.join("ca.pem")).unwrap() {
            roots.add(certificate).unwrap();
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
        let chain = certificates(&self.0.join(format!("{name}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(self.0.join(format!("{name}.key"))).unwrap();
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config =
            Arc::new(config.with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let daemon = daemon.to_owned();
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let session = ServerConnection::new(config.clone()).unwrap();
                let daemon = daemon.clone();
                thread::spawn(move || pass_on(StreamOwned::new(session, socket), &daemon));
            }
        });
        port
    }
}

/// One question and its answer.
fn pass_on(mut asking: StreamOwned<ServerConnection, std::net::TcpStream>, daemon: &Path) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if !asking.read(&mut byte).is_ok_and(|count| count == 1) {
            return;
        }
        head.push(byte[0]);
    }
    let mut daemon = UnixStream::connect(daemon).unwrap();
    daemon.write_all(&head).unwrap();
    let mut answer = Vec::new();
    daemon.read_to_end(&mut answer).unwrap();
    asking.write_all(&answer).unwrap();
    asking.conn.send_close_notify();
    asking.flush().ok();
}

#[test]
fn a_daemon_is_asked_by_tls_and_whatever_is_wrong_with_a_certificate_has_a_name() {
    let Some(all) = Certificates::new() else { return };
    let fake = Fake::start();
    fake.has(&["a"]);
    all.sign("server", "ca", "IP:127.0.0.1,DNS:localhost", NOW);
    all.sign("numbered", "ca", "IP:127.0.0.1", NOW);
    all.sign("named", "ca", "DNS:localhost", NOW);
    all.sign("expired", "ca", "IP:127.0.0.1", PAST);
    all.sign("early", "ca", "IP:127.0.0.1", FUTURE);
    all.sign("elsewhere", "ca", "DNS:docker.example,IP:127.0.0.2", NOW);
    all.sign("foreign", "other", "IP:127.0.0.1", NOW);
    all.sign("client", "ca", "DNS:client", NOW);
    all.sign("old-client", "ca", "DNS:client", PAST);
    all.sign("foreign-client", "other", "DNS:client", NOW);
    all.openssl(&["pkey", "-in", "client.key", "-aes256", "-passout", "pass:x", "-out", "encrypted.key"]);
    fs::write(all.0.join("garbage"), [0xff; 100]).unwrap();
    fs::write(all.0.join("fraud"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    fs::write(all.0.join("empty"), "").unwrap();
    let ours = ["ca.pem", "client.pem", "client.key"];
    for (name, server, host, files, expected) in [
        ("by address", "server", "127.0.0.1", ours, "1 engines"),
        ("by name", "server", "localhost", ours, "1 engines"),
        ("by its only address", "numbered", "127.0.0.1", ours, "1 engines"),
        ("by its only name", "named", "localhost", ours, "1 engines"),
        ("by a name it has not", "numbered", "localhost", ours, "its certificate is not for this host name"),
        ("by an address it has not", "named", "127.0.0.1", ours, "its certificate is not for this host name"),
        ("no authority", "server", "127.0.0.1", ["", ours[1], ours[2]], "there is no DIR/ca.pem"),
        ("no certificate", "server", "127.0.0.1", [ours[0], "", ours[2]], "there is no DIR/cert.pem"),
        ("no key", "server", "127.0.0.1", [ours[0], ours[1], ""], "there is no DIR/key.pem"),
        (
            "unreadable",
            "server",
            "127.0.0.1",
            ["/", ours[1], ours[2]],
            "cannot read DIR/ca.pem: it is no file",
        ),
        (
            "garbage for an authority",
            "server",
            "127.0.0.1",
            ["garbage", ours[1], ours[2]],
            "DIR/ca.pem holds no certificate in PEM",
        ),
        (
            "a fraud for an authority",
            "server",
            "127.0.0.1",
            ["fraud", ours[1], ours[2]],
            "DIR/ca.pem holds no certificate in PEM",
        ),
        (
            "nothing for a certificate",
            "server",
            "127.0.0.1",
            [ours[0], "empty", ours[2]],
            "DIR/cert.pem holds no certificate in PEM",
        ),
        (
            "a key for a certificate",
            "server",
            "127.0.0.1",
            [ours[0], ours[2], ours[2]],
            "DIR/cert.pem holds no certificate in PEM",
        ),
        (
            "a certificate for a key",
            "server",
            "127.0.0.1",
            [ours[0], ours[1], ours[1]],
            "DIR/key.pem holds no unencrypted private key in PEM",
        ),
        (
            "an encrypted key",
            "server",
            "127.0.0.1",
            [ours[0], ours[1], "encrypted.key"],
            "DIR/key.pem holds no unencrypted private key in PEM",
        ),
        (
            "another's key",
            "server",
            "127.0.0.1",
            [ours[0], ours[1], "server.key"],
            "the key in DIR/key.pem is not that of the certificate in DIR/cert.pem",
        ),
        ("it has expired", "expired", "127.0.0.1", ours, "its certificate has expired"),
        ("it is not valid yet", "early", "127.0.0.1", ours, "its certificate is not valid yet"),
        ("it is another host's", "elsewhere", "127.0.0.1", ours, "its certificate is not for this host name"),
        ("it is named otherwise", "expired", "localhost", ours, "its certificate has expired"),
        (
            "it is not for a name",
            "foreign",
            "localhost",
            ["other.pem", ours[1], ours[2]],
            "its certificate is not for this host name",
        ),
        (
            "another authority's",
            "foreign",
            "127.0.0.1",
            ours,
            "its certificate is not signed by the authority in ca.pem",
        ),
        (
            "ours has expired",
            "server",
            "127.0.0.1",
            [ours[0], "old-client.pem", "old-client.key"],
            "it refuses our certificate: CertificateExpired",
        ),
        (
            "ours is unknown",
            "server",
            "127.0.0.1",
            [ours[0], "foreign-client.pem", "foreign-client.key"],
            "it refuses our certificate: UnknownCA",
        ),
    ] {
        let directory = all.directory(name, files);
        let port = all.serve(server, &fake.path.0);
        let uri = DockerUri::Tls { host: host.into(), port, certificates: Some(directory.clone()) };
        let found = match look_at_docker(&uri, SOON) {
            Ok(look) => format!("{} engines", look.engines),
            Err(error) => error.to_string().replace(&directory.display().to_string(), "DIR"),
        };
        assert_eq!(found, expected, "{name}");
    }

    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = plain.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut socket in plain.incoming().flatten() {
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").ok();
            socket.read_to_end(&mut Vec::new()).ok();
        }
    });
    let directory = all.directory("plain", ours);
    for (certificates, expected) in [
        (Some(directory), "it does not speak TLS"),
        (None, "no directory with the certificates for TLS is named"),
    ] {
        let error = look_at_docker(&DockerUri::Tls { host: "127.0.0.1".into(), port, certificates }, SOON)
            .unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(error.remedy().contains("docker.tls"), "{}", error.remedy());
    }
}
