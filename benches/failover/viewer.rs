//! A viewer that proves every packet and takes the time of each arrival.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddrV4, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use millrace_emulator::{
    ContentId,
    signed::{Report, Verifier},
};

/// Longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// Most bytes taken by one read.
const READ: usize = 256 << 10;

/// One viewer, read by a thread of its own; dropped, it leaves.
pub(crate) struct Viewer {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

struct Shared {
    watch: Mutex<Watch>,
    is_over: AtomicBool,
}

/// What is known of a viewer.
pub(crate) struct Watch {
    verifier: Verifier,
    latest: Instant,
    /// Longest time without a byte since the latest kill.
    silence: Duration,
    wait: Wait,
    back_steps: BackSteps,
    /// Why no more will come.
    end: Option<String>,
}

/// Signalled jumps to before the packet that had come last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackSteps {
    /// How many.
    pub(crate) count: u64,
    /// Packets that came again after the furthest.
    pub(crate) furthest: u64,
}

/// From a kill to the first packet from the next engine.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// For none.
    None,
    /// The engine is being killed.
    Begun { at: Instant },
    /// Every packet from this number on comes from another engine.
    For { at: Instant, packet: u64 },
    /// It has come after this long.
    Over(Duration),
}

impl Viewer {
    /// Asks the server for `id`.
    pub(crate) fn ask(address: SocketAddrV4, id: &ContentId) -> Result<Self> {
        let verifier = id.verifier().context("the content is not signed")?;
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        let request =
            format!("GET /ace/getstream?id={id} HTTP/1.1\r\nHost: bench\r\nUser-Agent: failover\r\n\r\n");
        socket.write_all(request.as_bytes())?;
        let watch = Watch {
            verifier,
            latest: Instant::now(),
            silence: Duration::ZERO,
            wait: Wait::None,
            back_steps: BackSteps::default(),
            end: None,
        };
        let shared = Arc::new(Shared { watch: Mutex::new(watch), is_over: AtomicBool::new(false) });
        let reading = Arc::clone(&shared);
        let reader = std::thread::Builder::new().name("viewer".to_owned()).spawn(move || {
            let end = reading.read_all(socket).err().map(|error| format!("{error:#}"));
            reading.lock().end = end;
        })?;
        Ok(Self { shared, reader: Some(reader) })
    }

    /// What is known of it now.
    pub(crate) fn watch(&self) -> MutexGuard<'_, Watch> {
        self.shared.lock()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            // A panic there has been printed there.
            reader.join().ok();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads until the viewer leaves; an error when the server ends it.
    fn read_all(&self, mut socket: TcpStream) -> Result<()> {
        let mut buffer = vec![0; READ];
        let mut head = Vec::new();
        let mut is_body = false;
        while !self.is_over.load(Ordering::Acquire) {
            let read = match socket.read(&mut buffer) {
                Ok(0) => bail!("the server has closed the connection"),
                Ok(read) => read,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    continue;
                }
                Err(error) => return Err(error).context("the connection is lost"),
            };
            if is_body {
                self.lock().take(&buffer[..read]);
                continue;
            }
            head.extend_from_slice(&buffer[..read]);
            let Some(end) = head.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                ensure!(head.len() <= MAX_HEAD, "a head of more than {MAX_HEAD} bytes");
                continue;
            };
            let text = String::from_utf8_lossy(&head);
            ensure!(text.starts_with("HTTP/1.1 200 "), "refused: {text}");
            is_body = true;
            self.lock().take(&head[end + 4..]);
        }
        Ok(())
    }
}

impl Watch {
    fn take(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let now = Instant::now();
        self.silence = self.silence.max(now - self.latest);
        self.latest = now;
        let before = self.verifier.report();
        self.verifier.push(bytes, SystemTime::now());
        let after = self.verifier.report();
        if after.jumped < before.jumped {
            self.back_steps.count += 1;
            self.back_steps.furthest = self.back_steps.furthest.max(before.jumped.abs_diff(after.jumped));
        }
        if let Wait::For { at, packet } = self.wait
            && after.last >= Some(packet)
        {
            self.wait = Wait::Over(now - at);
        }
    }

    /// The engine is about to be killed. Returns the longest silence since the
    /// time before.
    pub(crate) fn begin(&mut self, at: Instant) -> Duration {
        self.wait = Wait::Begun { at };
        std::mem::take(&mut self.silence)
    }

    /// The engine is dead; `packet` is the next to be broadcast.
    pub(crate) fn await_packet(&mut self, packet: u64) {
        let Wait::Begun { at } = self.wait else { return };
        let has_come = self.verifier.report().last >= Some(packet);
        self.wait = if has_come { Wait::Over(self.latest - at) } else { Wait::For { at, packet } };
    }

    /// The gap, once it is over.
    pub(crate) fn gap(&self) -> Option<Duration> {
        match self.wait {
            Wait::Over(gap) => Some(gap),
            Wait::None | Wait::Begun { .. } | Wait::For { .. } => None,
        }
    }

    /// Why no more will come, if so.
    pub(crate) fn end(&self) -> Option<&str> {
        self.end.as_deref()
    }

    /// Longest time without a byte since the latest kill, the present included.
    pub(crate) fn silence(&self) -> Duration {
        self.silence.max(self.latest.elapsed())
    }

    /// Signalled jumps to before the packet that had come last.
    pub(crate) fn back_steps(&self) -> BackSteps {
        self.back_steps
    }

    /// What the verifier found.
    pub(crate) fn report(&self) -> Report {
        self.verifier.report()
    }
}
