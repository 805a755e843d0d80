//! What an engine tells of itself: version and status.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    behaviour::{Status, Version},
    engine::Engine,
    http::{Conn, Request, answer},
    serve::{Next, internal_error, send, send_json},
    start,
};

/// How late a slow status is.
const LATE: Duration = Duration::from_secs(6);

fn version(engine: &Engine) -> Value {
    let profile = engine.profile;
    match engine.behaviour().version {
        Version::Usual => {
            json!({"code": profile.code(), "platform": "linux", "version": profile.version()})
        }
        Version::Old => json!({"code": 3_014_900, "platform": "linux", "version": "3.1.49"}),
        Version::Android => {
            json!({"code": profile.code(), "platform": "android", "version": profile.version()})
        }
    }
}

/// `/webui/api/service`.
pub(crate) async fn service(engine: &Engine, conn: &mut Conn, request: &Request) -> Next {
    conn.wait(engine.slowed(engine.timing.api)).await;
    let value = match request.parameter("method") {
        Some("get_version") => {
            let mut result = version(engine);
            result["websocket_port"] = json!(45_123);
            json!({"result": result, "error": null})
        }
        _ => json!({"result": null, "error": "access denied"}),
    };
    match request.parameter("callback") {
        Some(call) if request.parameter("format") == Some("jsonp") => {
            let text = format!("{call}({value});");
            send(engine, conn, &answer("200 OK", "text/javascript", &text)).await
        }
        _ => send_json(engine, conn, &value).await,
    }
}

/// `/server/api`.
pub(crate) async fn server_api(engine: &Engine, conn: &mut Conn, request: &Request) -> Next {
    conn.wait(engine.slowed(engine.timing.api)).await;
    let method = request.parameter("method");
    let status = match method {
        Some("get_status" | "get_network_connection_status") => engine.behaviour().status,
        _ => Status::Usual,
    };
    match status {
        Status::Usual | Status::AccessDenied | Status::NotLoaded | Status::Disconnected => {}
        Status::Error => return internal_error(engine, conn).await,
        Status::Slow => {
            if !conn.wait(LATE).await {
                return Next::Close;
            }
        }
        Status::Hang => {
            conn.closed().await;
            return Next::Close;
        }
        Status::Invalid => {
            let text = "{\"result\": {\"playlist_loaded\": tru";
            return send(engine, conn, &answer("200 OK", "application/json", text)).await;
        }
    }
    let result = match method {
        _ if status == Status::AccessDenied => Err("access denied"),
        Some("get_media_files") => start::media_files(engine, conn, request).await,
        Some("get_status") => {
            let is_loaded = status != Status::NotLoaded && engine.state().boot.playlist_at <= Instant::now();
            Ok(json!({"playlist_loaded": is_loaded, "version": version(engine)}))
        }
        Some("get_network_connection_status") => {
            let is_connected = status != Status::Disconnected && engine.state().is_connected(Instant::now());
            Ok(json!({"connected": is_connected}))
        }
        Some("get_api_access_token") if conn.peer.ip().is_loopback() => {
            Ok(json!({"token": crate::rng::forty_hex("token").repeat(2)[..64]}))
        }
        Some(_) => Err("unknown method"),
        None => Err("unknown protocol"),
    };
    let is_v3 = request.parameter("api_version") == Some("3");
    let value = match result {
        Ok(result) if is_v3 => json!({"result": result}),
        Ok(result) => json!({"result": result, "error": null}),
        Err(text) if is_v3 => json!({"error": {"message": text, "code": 0}}),
        Err(text) => json!({"result": null, "error": text}),
    };
    send_json(engine, conn, &value).await
}
