//! The control API: JSON over HTTP on a port of its own, for tests and tools
//! that use the program.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /engines` | lists addresses and states |
//! | `GET /counters`, `GET /engines/N/counters` | counters of all, of one |
//! | `GET /engines/N/events` | the event log |
//! | `GET /scenarios` | the catalogue |
//! | `POST /engines/N/kill` | RST on all its sockets, its port refuses |
//! | `POST /engines/N/revive` | a new engine at the port of a killed one |
//! | `POST /engines/N/terminate` | what SIGTERM does |
//! | `POST /engines/N/pause`, `resume` | freezes it, lets it run again |
//! | `POST /scenario` `{"engine": N, "content": "…", "scenario": "stall(2s)"}` | sets a scenario; with `engines` for several, with neither for all; without `content` for the engines themselves |
//! | `POST /burden` `{"leak": BYTES_PER_SECOND, "burn": THREADS, "threads": N, "fill": BYTES}` | takes that of the machine in place of what it took; `{}` gives all back |
//! | `POST /end` `{"after_ms": 0, "status": 1}` | the program ends by itself |
//! | `POST /say` `{"line": "…"}` | a line in the program's log |
//! | `POST /chaos` `{"contents": ["…"], "seed": 1, "least_ms": 60000, "most_ms": 600000}` | gives contents another scenario now and then; without contents it ends |

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    Burden, Chaos, EmulatorError, Process, Scenario,
    emulator::{SIGKILL, sum},
    engine::Engine,
    fleet::Fleet,
    http::{Conn, Request, answer},
};

const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetScenario {
    engine: Option<usize>,
    engines: Option<Vec<usize>>,
    content: Option<String>,
    scenario: Scenario,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    after_ms: u64,
    status: i32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Say {
    line: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetChaos {
    contents: Vec<String>,
    seed: u64,
    least_ms: u64,
    most_ms: u64,
}

/// Serves the control API of `fleet`, and of the process if it is the fleet's
/// own, on `address`; says where.
pub(crate) async fn open(
    fleet: Arc<Fleet>,
    process: Option<Process>,
    address: SocketAddr,
) -> Result<SocketAddr, EmulatorError> {
    let failed = |source| EmulatorError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let conn = Conn::new(Arc::new(stream), peer);
                    tokio::spawn(serve(Arc::clone(&fleet), process.clone(), conn));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    Ok(address)
}

async fn serve(fleet: Arc<Fleet>, process: Option<Process>, mut conn: Conn) {
    while let Some(request) = conn.request().await {
        let (status, value) = match respond(&fleet, process.as_ref(), &request).await {
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

async fn respond(fleet: &Arc<Fleet>, process: Option<&Process>, request: &Request) -> Result<Value, Refusal> {
    let path: Vec<_> = request.path.split('/').filter(|p| !p.is_empty()).collect();
    match (request.method.as_str(), path.as_slice()) {
        ("GET", ["engines"]) => Ok(list(fleet)),
        ("GET", ["counters"]) => Ok(json!(sum(&fleet.engines))),
        ("GET", ["scenarios"]) => Ok(json!(Scenario::catalogue().collect::<Vec<_>>())),
        ("GET", ["engines", n, "counters"]) => Ok(json!(engine(fleet, n)?.counters())),
        ("GET", ["engines", n, "events"]) => Ok(json!(engine(fleet, n)?.events())),
        ("POST", ["scenario"]) => set(fleet, order(request)?).await,
        ("POST", ["chaos"]) => {
            let order: SetChaos = order(request)?;
            let (least, most) = (Duration::from_millis(order.least_ms), Duration::from_millis(order.most_ms));
            fleet.set_chaos(Chaos { contents: order.contents, seed: order.seed, least, most }).await;
            Ok(json!("ok"))
        }
        ("POST", [what @ ("burden" | "end" | "say")]) => {
            let process = process.ok_or(Refusal::Unknown)?;
            match *what {
                "burden" => process.bear(order::<Burden>(request)?),
                "say" => process.say(&order::<Say>(request)?.line),
                _ => {
                    let End { after_ms, status } = order(request)?;
                    process.end(Duration::from_millis(after_ms), status);
                }
            }
            Ok(json!("ok"))
        }
        ("POST", ["engines", n, what]) => {
            let it = engine(fleet, n)?;
            match *what {
                "kill" => fleet.kill(it.index, SIGKILL).await,
                "revive" => fleet.revive(it.index).await,
                "terminate" => fleet.terminate(it.index).await,
                "pause" => it.life.send_modify(|l| l.paused = true),
                "resume" => it.life.send_modify(|l| l.paused = false),
                _ => return Err(Refusal::Unknown),
            }
            Ok(json!("ok"))
        }
        _ => Err(Refusal::Unknown),
    }
}

fn order<T: DeserializeOwned>(request: &Request) -> Result<T, Refusal> {
    serde_json::from_slice(&request.body).map_err(|e| Refusal::Bad(e.to_string()))
}

fn engine<'a>(fleet: &'a Fleet, n: &str) -> Result<&'a Arc<Engine>, Refusal> {
    n.parse().ok().and_then(|n: usize| fleet.engines.get(n)).ok_or(Refusal::Unknown)
}

fn list(fleet: &Fleet) -> Value {
    let rows = fleet.engines.iter().map(|e| {
        let life = *e.life.borrow();
        let state = e.state();
        json!({
            "engine": e.index, "address": state.address, "alive": life.alive, "paused": life.paused,
            "scenario": state.scenario(), "exit": state.exit, "memory_mib": state.memory_mib(),
        })
    });
    rows.collect()
}

async fn set(fleet: &Arc<Fleet>, order: SetScenario) -> Result<Value, Refusal> {
    let mut some = order.engines;
    some = order.engine.map(|n| vec![n]).or(some);
    if some.iter().flatten().any(|&n| fleet.engines.len() <= n) {
        return Err(Refusal::Unknown);
    }
    let wanted = || fleet.engines.iter().filter(|e| some.as_ref().is_none_or(|s| s.contains(&e.index)));
    // All at once: only then does each take its time to follow.
    wanted().for_each(|it| it.set_scenario(order.content.as_deref(), order.scenario));
    for it in wanted().filter(|_| order.content.is_none()) {
        fleet.adopt(it.index).await;
    }
    Ok(json!("ok"))
}
