//! One probe of one engine: two small questions, within two seconds.

mod answer;
mod http;

use std::{net::SocketAddr, time::Duration};

use tokio::time::timeout;

pub(crate) use answer::Answer;

/// For both questions together. A healthy engine answers in milliseconds.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

const VERSION: &str = "/webui/api/service?method=get_version";
const NETWORK: &str = "/server/api?api_version=3&method=get_network_connection_status";

/// What was wrong with a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProbeFailure {
    /// Nothing listens there.
    #[error("connection refused")]
    Refused,
    /// No connection within its limit, or no route.
    #[error("unreachable")]
    Unreachable,
    /// Connected, and no whole answer by the deadline.
    #[error("no answer in time")]
    Silent,
    /// The connection broke, or what came was not HTTP.
    #[error("connection broke")]
    Broken,
    /// An answer without a version in it.
    #[error("answer makes no sense")]
    Nonsense,
    /// An answer larger than any engine has reason to give.
    #[error("answer too large")]
    TooLarge,
    /// An HTTP status that carries no answer.
    #[error("HTTP status {0}")]
    Status(u16),
}

/// Asks the engine at `address` for its version and its network.
///
/// # Errors
/// When it gives no version by the deadline. An unusable answer about the
/// network is no failure: versions differ in who may ask; silence is one.
pub(crate) async fn probe(address: SocketAddr) -> Result<Answer, ProbeFailure> {
    timeout(DEADLINE, async {
        let said = http::get(address, VERSION).await?;
        let (version, platform) = answer::version(&said.body).ok_or(match said.status {
            200..=299 => ProbeFailure::Nonsense,
            status => ProbeFailure::Status(status),
        })?;
        let connected = match http::get(address, NETWORK).await {
            Ok(said) => answer::connected(&said.body),
            Err(ProbeFailure::Status(_) | ProbeFailure::TooLarge) => None,
            Err(failure) => return Err(failure),
        };
        Ok(Answer { version, platform, connected })
    })
    .await
    .unwrap_or(Err(ProbeFailure::Silent))
}
