//! An engine that behaves as told.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// Answers as engines do; the word is the JSON of `connected`.
    Good { connected: &'static str },
    /// Accepts, reads, says nothing.
    Hang,
    /// Accepts and says this, whatever is asked; then closes.
    Raw(Vec<u8>),
    /// Says this and then keeps the connection open without a word.
    RawThenHang(Vec<u8>),
    /// Says this as a body with a proper head.
    Body(Vec<u8>),
    /// A body of this many bytes.
    Large(usize),
}

pub(crate) const GOOD: Behaviour = Behaviour::Good { connected: "true" };

pub(crate) struct FakeEngine {
    pub(crate) address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    asked: Arc<AtomicUsize>,
}

impl FakeEngine {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let behaviour = Arc::new(Mutex::new(behaviour));
        let asked = Arc::new(AtomicUsize::new(0));
        let (shared, count) = (Arc::clone(&behaviour), Arc::clone(&asked));
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let behaviour = shared.lock().unwrap().clone();
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || answer(socket, behaviour));
            }
        });
        Self { address, behaviour, asked }
    }

    /// An address where nothing listens.
    pub(crate) fn nobody() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// Connections so far.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Ends with the connection, so that nothing is left of a test but its last threads.
fn answer(mut socket: TcpStream, behaviour: Behaviour) {
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut request = Vec::new();
    let mut byte = [0u8; 512];
    while !request.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte) {
            Ok(n @ 1..) => request.extend_from_slice(&byte[..n]),
            Ok(0) | Err(_) => return,
        }
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    assert!(request.to_lowercase().contains("accept-encoding: identity"), "{request}");
    let with_head = |body: &[u8]| {
        let mut whole =
            format!("HTTP/1.1 200 OK\r\nServer: BaseHTTP/0.6\r\nContent-Length: {}\r\n\r\n", body.len())
                .into_bytes();
        whole.extend_from_slice(body);
        whole
    };
    let mut hang = || while let Ok(1..) = socket.try_clone().and_then(|mut s| s.read(&mut byte)) {};
    let said = match behaviour {
        Behaviour::Good { connected } if request.contains("get_network_connection_status") => {
            with_head(format!(r#"{{"result":{{"connected":{connected}}}}}"#).as_bytes())
        }
        Behaviour::Good { .. } => with_head(
            br#"{"result": {"code": 3021100, "platform": "linux", "version": "3.2.11"}, "error": null}"#,
        ),
        Behaviour::Hang => return hang(),
        Behaviour::Raw(bytes) => bytes,
        Behaviour::RawThenHang(bytes) => {
            socket.try_clone().unwrap().write_all(&bytes).ok();
            return hang();
        }
        Behaviour::Body(bytes) => with_head(&bytes),
        Behaviour::Large(bytes) => with_head(&vec![b' '; bytes]),
    };
    socket.write_all(&said).ok();
}
