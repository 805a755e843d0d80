//! TLS to a daemon: the authority that signed its certificate, our own
//! certificate and its key, from a directory as Docker's own client has it.

use std::{
    error::Error,
    fs::File,
    future::Future,
    io::{self, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
};

use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper::{Response, body::Incoming};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};

use super::DockerError;

/// Of one file. Certificates of a whole machine are a quarter of it.
const MAX_FILE_BYTES: u64 = 1 << 20;

type Answer = Pin<Box<dyn Future<Output = Result<Response<Incoming>, bollard::errors::Error>> + Send>>;

/// The three files, read at each connection so that new ones are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerTls {
    /// The only authorities that the daemon's certificate may be signed by.
    pub ca: PathBuf,
    /// Our certificate, and those between it and its authority.
    pub cert: PathBuf,
    /// Its key, not encrypted.
    pub key: PathBuf,
}

impl DockerTls {
    /// With the names that Docker gives them.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        let file = |name| directory.join(name);
        Self { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") }
    }

    /// Reads all three.
    fn config(&self) -> Result<ClientConfig, TlsError> {
        let no_certificate = || TlsError::NotPem { path: self.ca.clone(), what: "certificate" };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate).map_err(|_| no_certificate())?;
        }
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| TlsError::NotPem { path: self.key.clone(), what: "unencrypted private key" })?;
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Failed(error.to_string()))?;
        let tls = tls.with_root_certificates(roots).with_client_auth_cert(chain, key);
        tls.map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { cert: self.cert.clone(), key: self.key.clone() }
            }
            other => TlsError::Key { cert: self.cert.clone(), key: self.key.clone(), why: other.to_string() },
        })
    }

    /// A client of the daemon called `host` at `address`; nothing is sent yet.
    /// `limit` is for the head of an answer, in seconds.
    pub(super) fn docker(&self, host: &str, address: SocketAddr, limit: u64) -> Result<Docker, DockerError> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsError::WrongName)?;
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(self.config()?)
            .https_only()
            .with_server_name_resolver(FixedServerNameResolver::new(name))
            .enable_http1()
            .wrap_connector(tcp);
        // A connection each, as bollard's own transports have it.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        let transport = move |request: BollardRequest| {
            let answer = client.request(request);
            Box::pin(async move { answer.await.map_err(bollard::errors::Error::from) }) as Answer
        };
        let address = format!("https://{address}");
        Ok(Docker::connect_with_custom_transport(transport, Some(address), limit, API_DEFAULT_VERSION)?)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let mut bytes = Vec::new();
    let read = || {
        // Not a pipe, which would be waited for.
        if !path.metadata()?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        File::open(path)?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)
    };
    match { read }() {
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(TlsError::Missing(path.to_owned())),
        Err(source) => Err(TlsError::Unreadable { path: path.to_owned(), source }),
    }
}

/// One at least.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let none = || TlsError::NotPem { path: path.to_owned(), what: "certificate" };
    all.ok().filter(|all| !all.is_empty()).ok_or_else(none)
}

/// Why there is no TLS to a daemon.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// It is not known where the files are.
    #[error("no directory with the certificates for TLS is named")]
    NoDirectory,
    /// One is not there.
    #[error("there is no {}", .0.display())]
    Missing(PathBuf),
    /// One cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// The operating system's word.
        source: io::Error,
    },
    /// One is something else.
    #[error("{} holds no {what} in PEM", path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// Two do not belong together.
    #[error("the key in {} is not that of the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
    },
    /// The key or its certificate is of a kind that is not understood.
    #[error("{} and {} cannot be used: {why}", cert.display(), key.display())]
    Key {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's.
        key: PathBuf,
        /// In the words of the TLS library.
        why: String,
    },
    /// The daemon's certificate is too old.
    #[error("its certificate has expired")]
    Expired,
    /// The daemon's certificate is too new.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// Somebody else signed the daemon's certificate.
    #[error("its certificate is not signed by the authority in ca.pem")]
    UnknownCa,
    /// The daemon's certificate is another host's.
    #[error("its certificate is not for this host name")]
    WrongName,
    /// The daemon does not take our certificate.
    #[error("it refuses our certificate: {0}")]
    Refused(String),
    /// What answers there is something else.
    #[error("it does not speak TLS")]
    NotTls,
    /// Anything else.
    #[error("TLS failed: {0}")]
    Failed(String),
}

impl TlsError {
    /// What helps.
    pub(super) const fn remedy(&self) -> &'static str {
        match self {
            Self::NoDirectory => {
                "name the directory that holds ca.pem, cert.pem and key.pem, with docker.tls or DOCKER_CERT_PATH"
            }
            Self::Missing(_) => {
                "the directory of docker.tls or DOCKER_CERT_PATH needs ca.pem, cert.pem and key.pem"
            }
            Self::Unreadable { .. } => "give the file to the user that runs millrace",
            Self::NotPem { .. } => "put the file there as PEM: a key is made readable by openssl pkey",
            Self::Mismatch { .. } => "put the certificate and the key there that were made together",
            Self::Key { .. } => "use an RSA key of 2048 bits or more, ECDSA P-256 or P-384, or Ed25519",
            Self::Expired => "give the daemon a new certificate, and restart it; or set this machine's clock",
            Self::NotYetValid => "set the clock of this machine, or the daemon's",
            Self::UnknownCa => "put the certificate of the authority that signed the daemon's into ca.pem",
            Self::WrongName => "use a name or an address that the daemon's certificate lists as its own",
            Self::Refused(_) => {
                "make a new cert.pem, signed by the authority that the daemon names with --tlscacert"
            }
            Self::NotTls => "correct the port, or leave docker.tls out and use tcp://",
            Self::Failed(_) => "make sure that a Docker daemon with --tlsverify listens there",
        }
    }

    /// What went wrong in TLS, where an error of a connection is about that.
    pub(super) fn within(error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error.into());
        }
        // Such an error hides what it is made of from its chain of causes.
        let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
        Self::within(inner)
    }
}

impl From<&rustls::Error> for TlsError {
    fn from(error: &rustls::Error) -> Self {
        use CertificateError as Fault;
        match error {
            rustls::Error::InvalidCertificate(fault) => match fault {
                Fault::Expired | Fault::ExpiredContext { .. } => Self::Expired,
                Fault::NotValidYet | Fault::NotValidYetContext { .. } => Self::NotYetValid,
                Fault::UnknownIssuer | Fault::BadSignature => Self::UnknownCa,
                Fault::NotValidForName | Fault::NotValidForNameContext { .. } => Self::WrongName,
                other => Self::Failed(other.to_string()),
            },
            rustls::Error::AlertReceived(alert) => Self::Refused(format!("{alert:?}")),
            rustls::Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Failed(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
