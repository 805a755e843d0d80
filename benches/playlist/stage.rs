//! The servers: ours with a stream, and those that it is held against.

use std::{
    net::{SocketAddrV4, TcpListener, TcpStream},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use millrace_emulator::{Content, ContentId, Scenario};

use crate::{
    Options,
    crowd::{Crowd, first_answer, next_answer},
    support::{
        http::address_in,
        options::own_program,
        process::Process,
        scene::{SOON, Scene},
    },
};

/// Rate of each stream.
const RATE: u32 = 4_000_000;
/// Streams at once: those that begin cold linger for a while.
const CAPACITY: usize = 20;
/// Between two looks at the playlist.
const LOOK: Duration = Duration::from_millis(500);
/// For a playlist to be as long as it gets.
const FULL_WITHIN: Duration = Duration::from_secs(60);

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The real binary.
    Millrace,
    /// nginx, with the bytes of one playlist in a file.
    Nginx,
    /// The runtime that ours has, with these bytes and nothing else.
    Bare,
}

impl Side {
    /// In the order of a round.
    pub(crate) const ALL: [Self; 3] = [Self::Millrace, Self::Nginx, Self::Bare];
}

/// A server and its address.
struct Rival {
    process: Process,
    address: SocketAddrV4,
}

/// All that is measured.
pub(crate) struct Stage {
    pub(crate) scene: Scene,
    nginx: Option<Rival>,
    bare: Rival,
    /// Of the files that nginx serves; in memory.
    files: PathBuf,
    /// Path of the playlist there.
    path: String,
    /// Its length.
    pub(crate) len: usize,
}

/// Path of the multivariant playlist of a stream.
pub(crate) fn manifest(stream: u64) -> String {
    let content = Content::Signed { bitrate_bps: RATE };
    let id = ContentId::new(content, Scenario::healthy(), stream);
    format!("/ace/manifest.m3u8?id={id}")
}

/// The viewer who begins with `manifest`: its connection, and its media playlist's path.
pub(crate) fn viewer(address: SocketAddrV4, manifest: &str) -> Result<(TcpStream, String)> {
    let (socket, text) = first_answer(address, manifest)?;
    Ok((socket, playlist_in(&text)?))
}

/// Path of the media playlist that a multivariant one names.
pub(crate) fn playlist_in(text: &str) -> Result<String> {
    let name = text.lines().find(|line| !line.starts_with('#')).context("no media playlist")?;
    Ok(format!("/ace/{name}"))
}

impl Stage {
    /// Starts the servers, ours with stream 0.
    pub(crate) fn set(options: &Options) -> Result<Self> {
        let scene = Scene::start(&options.common, 1, CAPACITY, &[])?;
        let (socket, path) = viewer(scene.address, &manifest(0))?;
        let text =
            if options.common.is_quick() { next_answer(&socket, &path)? } else { full(&socket, &path)? };
        let files = Path::new("/dev/shm").join(format!("millrace-playlist-{}", std::process::id()));
        let file = files.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(file.parent().context("a path without a directory")?)?;
        std::fs::write(&file, &text)?;
        let bare = Rival::bare(options, &file)?;
        let nginx = Rival::nginx(options, &files)?;
        Ok(Self { scene, nginx, bare, files, path, len: text.len() })
    }

    /// The process of a side, if there is one.
    pub(crate) fn pid(&self, side: Side) -> Option<u32> {
        match side {
            Side::Millrace => Some(self.scene.pid()),
            Side::Nginx => self.nginx.as_ref().map(|nginx| nginx.process.pid()),
            Side::Bare => Some(self.bare.process.pid()),
        }
    }

    /// So many clients of a side, each of which has had one answer. Ours are
    /// viewers of stream 0, each with an address of its own.
    pub(crate) fn crowd(&self, side: Side, count: usize) -> Result<Crowd> {
        let mut crowd = Crowd::new()?;
        for _ in 0..count {
            let (socket, path) = match side {
                Side::Millrace => viewer(self.scene.address, &manifest(0))?,
                Side::Nginx => {
                    let nginx = self.nginx.as_ref().context("there is no nginx")?;
                    (TcpStream::connect(nginx.address)?, self.path.clone())
                }
                Side::Bare => (TcpStream::connect(self.bare.address)?, self.path.clone()),
            };
            next_answer(&socket, &path)?;
            crowd.join(socket, &path)?;
        }
        Ok(crowd)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.files).ok();
    }
}

/// The playlist once segments leave it, which is when it grows no more.
fn full(socket: &TcpStream, path: &str) -> Result<String> {
    let deadline = Instant::now() + FULL_WITHIN;
    loop {
        let text = next_answer(socket, path)?;
        if !text.contains("#EXT-X-MEDIA-SEQUENCE:0\n") {
            return Ok(text);
        }
        ensure!(Instant::now() < deadline, "no segment leaves the playlist within {FULL_WITHIN:?}:\n{text}");
        std::thread::sleep(LOOK);
    }
}

/// A floor on the server's core, as this program's own part.
pub(crate) fn floor(args: &[String]) -> Result<(Process, SocketAddrV4)> {
    let process = Process::start("the floor", &own_program()?, args)?;
    let address = process.wait_for(SOON, address_in)?;
    Ok((process, address))
}

impl Rival {
    fn bare(options: &Options, file: &Path) -> Result<Self> {
        let cpu = options.common.server_cpu;
        let args = ["respond".to_owned(), format!("--cpu={cpu}"), format!("--file={}", file.display())];
        let (process, address) = floor(&args)?;
        Ok(Self { process, address })
    }

    /// As Debian sets it up where that matters, without the log and without an end
    /// of connections; nothing if it is not installed.
    fn nginx(options: &Options, files: &Path) -> Result<Option<Self>> {
        let known = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
        let Some(program) = known.into_iter().find(|path| Path::new(path).exists()) else {
            eprintln!("SKIP: there is no nginx to be held against");
            return Ok(None);
        };
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string().parse::<SocketAddrV4>()?;
        let dir = files.display();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; worker_rlimit_nofile 16384;\n\
             pid {dir}/pid; error_log stderr warn;\n\
             events {{ worker_connections 8192; }}\n\
             http {{\n\
             types {{ application/vnd.apple.mpegurl m3u8; }}\n\
             access_log off; sendfile on; tcp_nopush on;\n\
             keepalive_requests 1000000000; keepalive_timeout 3600s;\n\
             client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;\n\
             uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
             server {{ listen {address}; root {dir}; }}\n\
             }}\n"
        );
        let config = files.join("nginx.conf");
        std::fs::write(&config, text)?;
        let command = [program, "-e", "stderr", "-c"].map(str::to_owned);
        let command = [&command[..], &[config.display().to_string()]].concat();
        let process = options.common.launch("nginx", &[], &command)?;
        let deadline = Instant::now() + SOON;
        while TcpStream::connect(address).is_err() {
            ensure!(
                Instant::now() < deadline,
                "nginx does not listen: {:?}",
                process.wait_for(LOOK, |_| None::<()>)
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(Self { process, address }))
    }
}
