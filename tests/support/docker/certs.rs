//! Keys and certificates for a daemon that listens on TCP.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::super::tool::{self, Scratch};

const LIMIT: Duration = Duration::from_secs(20);

/// An authority, what it gave the daemon, and what it gave a client.
pub(crate) struct Certs(Scratch);

impl Certs {
    /// Valid for two days, for 127.0.0.1 and localhost.
    pub(crate) fn new() -> Self {
        let certs = Self(Scratch::new());
        let files = ["-keyout", "ca-key.pem", "-out", "client/ca.pem"];
        fs::create_dir(certs.client()).expect("our own directory");
        certs.openssl(
            &[&["req", "-x509", "-days", "2", "-subj", "/CN=test authority"], &files[..], &KEY].concat(),
        );
        certs.sign("server", "server-key.pem", "server.pem", "serverAuth");
        certs.sign("client", "client/key.pem", "client/cert.pem", "clientAuth");
        certs
    }

    /// The client's directory, as `DOCKER_CERT_PATH` wants it: `ca.pem`,
    /// `cert.pem`, `key.pem`.
    pub(crate) fn client(&self) -> PathBuf {
        self.0.path().join("client")
    }

    fn sign(&self, name: &str, key: &str, cert: &str, usage: &str) {
        let subject = format!("/CN={name}");
        self.openssl(
            &[&["req", "-subj", &subject, "-keyout", key, "-out", "request.pem"], &KEY[..]].concat(),
        );
        let extensions = format!("subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage={usage}\n");
        fs::write(self.0.path().join("extensions"), extensions).expect("our own directory");
        let authority = ["-CA", "client/ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial"];
        let files = ["-in", "request.pem", "-out", cert, "-extfile", "extensions", "-days", "2"];
        self.openssl(&[&["x509", "-req"], &authority[..], &files[..]].concat());
    }

    fn openssl(&self, args: &[&str]) {
        let directory = self.0.path().display().to_string();
        let all: Vec<_> = ["-C", &directory, "openssl"].iter().chain(args).copied().collect();
        let outcome = tool::run("env", &all, LIMIT);
        assert!(outcome.status.success(), "openssl {args:?}: {}", outcome.stderr);
    }

    /// What the daemon needs to know.
    pub(super) fn daemon_options(&self) -> Vec<String> {
        let path = |name: &str| Path::new(self.0.path()).join(name).display().to_string();
        let option = |(name, file)| format!("--{name}={}", path(file));
        let files = [("tlscacert", "client/ca.pem"), ("tlscert", "server.pem"), ("tlskey", "server-key.pem")];
        files.into_iter().map(option).chain(["--tlsverify".to_owned()]).collect()
    }
}

/// A new key that takes no time and has no password.
const KEY: [&str; 5] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
