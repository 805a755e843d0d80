//! The control API: JSON over HTTP on a port of its own, for tests and tools
//! that use the program.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /engines` | lists addresses and states |
//! | `GET /counters`, `GET /engines/N/counters` | counters of all, of one |
//! | `GET /engines/N/events` | the event log |
//! | `GET /scenarios` | the catalogue |
//! | `POST /engines/N/kill`, `revive`, `pause`, `resume` | the engine's life |
//! | `POST /scenario` `{"engine": N, "content": "…", "scenario": "stall(2s)"}` | sets a scenario; without `engine` for all, without `content` for the engine itself |

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    EmulatorError, Scenario,
    emulator::sum,
    engine::Engine,
    fleet::Fleet,
    http::{Conn, Request, answer},
};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetScenario {
    engine: Option<usize>,
    content: Option<String>,
    scenario: Scenario,
}

/// Serves the control API of `fleet` on `address`; says where.
pub(crate) async fn open(fleet: Arc<Fleet>, address: SocketAddr) -> Result<SocketAddr, EmulatorError> {
    let failed = |source| EmulatorError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    tokio::spawn(serve(Arc::clone(&fleet), Conn::new(Arc::new(stream), peer)));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    Ok(address)
}

async fn serve(fleet: Arc<Fleet>, mut conn: Conn) {
    while let Some(request) = conn.request().await {
        let (status, value) = match respond(&fleet, &request).await {
            Ok(value) => ("200 OK", value),
            Err(Refusal::Unknown) => ("404 Not Found", json!({"error": "no such path or engine"})),
            Err(Refusal::Bad(why)) => ("400 Bad Request", json!({"error": why})),
        };
        let bytes = answer(status, "application/json", &value.to_string());
        if conn.write_all(&bytes, PATIENCE).await.is_err() {
            return;
        }
    }
}

enum Refusal {
    Unknown,
    Bad(String),
}

async fn respond(fleet: &Fleet, request: &Request) -> Result<Value, Refusal> {
    let path: Vec<_> = request.path.split('/').filter(|p| !p.is_empty()).collect();
    match (request.method.as_str(), path.as_slice()) {
        ("GET", ["engines"]) => Ok(list(fleet).await),
        ("GET", ["counters"]) => Ok(json!(sum(&fleet.engines))),
        ("GET", ["scenarios"]) => Ok(json!(Scenario::catalogue().collect::<Vec<_>>())),
        ("GET", ["engines", n, "counters"]) => Ok(json!(engine(fleet, n)?.counters())),
        ("GET", ["engines", n, "events"]) => Ok(json!(engine(fleet, n)?.events())),
        ("POST", ["scenario"]) => set(fleet, &request.body).await,
        ("POST", ["engines", n, what]) => {
            let it = engine(fleet, n)?;
            match *what {
                "kill" => fleet.kill(it.index).await,
                "revive" => fleet.revive(it.index).await,
                "pause" => it.life.send_modify(|l| l.paused = true),
                "resume" => it.life.send_modify(|l| l.paused = false),
                _ => return Err(Refusal::Unknown),
            }
            Ok(json!("ok"))
        }
        _ => Err(Refusal::Unknown),
    }
}

fn engine<'a>(fleet: &'a Fleet, n: &str) -> Result<&'a Arc<Engine>, Refusal> {
    n.parse().ok().and_then(|n: usize| fleet.engines.get(n)).ok_or(Refusal::Unknown)
}

async fn list(fleet: &Fleet) -> Value {
    let addresses = fleet.addresses().await;
    let rows = fleet.engines.iter().zip(addresses).map(|(e, address)| {
        let life = *e.life.borrow();
        json!({"engine": e.index, "address": address, "alive": life.alive, "paused": life.paused})
    });
    rows.collect()
}

async fn set(fleet: &Fleet, body: &[u8]) -> Result<Value, Refusal> {
    let order: SetScenario = serde_json::from_slice(body).map_err(|e| Refusal::Bad(e.to_string()))?;
    if order.engine.is_some_and(|n| n >= fleet.engines.len()) {
        return Err(Refusal::Unknown);
    }
    for it in fleet.engines.iter().filter(|e| order.engine.is_none_or(|n| n == e.index)) {
        it.set_scenario(order.content.as_deref(), order.scenario);
        fleet.settle(it.index).await;
    }
    Ok(json!("ok"))
}
