//! A relay in front of a TCP port that takes its time.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// Writes a second when it is slow.
const WRITES: u64 = 20;
const MOST: usize = 64 << 10;

/// Dropped, it ends with all of its connections.
pub(super) struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: TcpListener,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    to: SocketAddr,
    /// Bytes a second of each connection, towards the client.
    rate: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    pub(super) fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are free ports");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { to, rate: AtomicU64::new(u64::MAX), open: Mutex::default() });
        let (theirs, ours) = (Arc::clone(&shared), listener.try_clone().expect("a descriptor"));
        let accepting = Some(thread::spawn(move || {
            while let Ok((client, _)) = ours.accept() {
                theirs.carry(client);
            }
        }));
        Self { address, shared, listener, accepting }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes a second of each connection; none at all with zero.
    pub(super) fn set_rate(&self, rate: u64) {
        self.shared.rate.store(rate, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both).ok();
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("it does not panic");
        }
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            stream.shutdown(Shutdown::Both).ok();
        }
        // Whoever waits for a rate goes on, and finds the connection closed.
        self.set_rate(u64::MAX);
    }
}

impl Shared {
    fn carry(self: &Arc<Self>, client: TcpStream) {
        let Ok(server) = TcpStream::connect(self.to) else { return };
        let clones = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(client_in), Ok(mut server_in), Ok(client_kept), Ok(server_kept)) = clones else { return };
        self.open.lock().unwrap_or_else(PoisonError::into_inner).extend([client_kept, server_kept]);
        thread::spawn(move || {
            std::io::copy(&mut &client_in, &mut server_in).ok();
            server_in.shutdown(Shutdown::Write).ok();
        });
        let shared = Arc::clone(self);
        thread::spawn(move || {
            shared.slowly(&server, &client);
            client.shutdown(Shutdown::Write).ok();
        });
    }

    fn slowly(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut part = vec![0; MOST];
        loop {
            let rate = self.rate.load(Ordering::Relaxed);
            let most = usize::try_from(rate / WRITES).unwrap_or(MOST).min(MOST);
            if most > 0 {
                match from.read(&mut part[..most]) {
                    Ok(count @ 1..) if to.write_all(&part[..count]).is_ok() => {}
                    _ => return,
                }
            }
            if most < MOST {
                thread::sleep(Duration::from_millis(1000 / WRITES));
            }
        }
    }
}
