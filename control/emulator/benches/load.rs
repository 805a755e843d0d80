//! What the emulator costs: making packets, verifying them, feeding streams.
//!
//! `cargo bench -p millrace-emulator` measures; without `--bench` it runs tiny.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant, SystemTime},
};

use millrace_emulator::{
    Content, ContentId, Emulator, EmulatorConfig, Scenario, Timing,
    signed::{Broadcast, PACKET_BYTES, Verifier},
};

const RATE: u32 = 4_000_000;

fn main() {
    let is_full = std::env::args().any(|a| a == "--bench");
    let packets = if is_full { 8_000_000 } else { 1000 };
    make(packets);
    verify(packets);
    feed(if is_full { 200 } else { 2 }, Duration::from_secs(if is_full { 10 } else { 1 }));
}

fn gib_per_second(packets: u64, took: Duration) -> f64 {
    (packets * 188) as f64 / f64::from(1u32 << 30) / took.as_secs_f64()
}

fn make(packets: u64) {
    let broadcast = Broadcast::new(1, RATE);
    let mut p = [0; PACKET_BYTES];
    let mut sum = 0u64;
    let began = Instant::now();
    for n in 1_000_000_000..1_000_000_000 + packets {
        broadcast.write(n, &mut p);
        sum = sum.wrapping_add(u64::from(p[187])).rotate_left(1);
    }
    println!("make    {:.2} GiB/s, checksum {sum:x}", gib_per_second(packets, began.elapsed()));
}

fn verify(packets: u64) {
    let broadcast = Broadcast::new(1, RATE);
    let first = broadcast.group_start(1_000_000_000);
    let mut verifier = Verifier::new(1, RATE);
    let mut took = Duration::ZERO;
    let mut bytes = Vec::new();
    for at in (first..first + packets).step_by(1000) {
        bytes.clear();
        for n in at..at + 1000 {
            let mut p = [0; PACKET_BYTES];
            broadcast.write(n, &mut p);
            bytes.extend_from_slice(&p);
        }
        let began = Instant::now();
        for piece in bytes.chunks(65_000) {
            verifier.push(piece, SystemTime::now());
        }
        took += began.elapsed();
    }
    let report = verifier.report();
    assert!(report.is_unbroken(), "{report:?}");
    println!("verify  {:.2} GiB/s, last {:?}", gib_per_second(report.packets, took), report.last);
}

/// Ticks of 10 ms that the emulator's thread has used.
fn emulator_ticks() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc is mounted");
    let stats = tasks.filter_map(|t| std::fs::read_to_string(t.ok()?.path().join("stat")).ok());
    stats
        .filter_map(|stat| {
            let (name, rest) = stat.rsplit_once(") ")?;
            let fields: Vec<_> = rest.split(' ').collect();
            let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
            name.ends_with("(engine-emulator").then_some(ticks)
        })
        .sum()
}

fn feed(streams: u16, time: Duration) {
    let config = EmulatorConfig { engines: streams, timing: Timing::fast(), ..EmulatorConfig::default() };
    let emulator = Emulator::start(config).expect("ports are free");
    let readers: Vec<_> = (0u64..)
        .zip(emulator.addresses())
        .map(|(serial, address)| {
            let id = ContentId::new(Content::Signed { bitrate_bps: RATE }, Scenario::healthy(), serial);
            let read = move || {
                let mut to = format!("/ace/getstream?id={id}&pid={serial}");
                loop {
                    let mut stream = TcpStream::connect(address).expect("engine listens");
                    write!(stream, "GET {to} HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("engine reads");
                    let mut piece = vec![0; 65_536];
                    let n = stream.read(&mut piece).expect("engine answers");
                    let head = String::from_utf8_lossy(&piece[..n]).into_owned();
                    match head.split_once("Location: http://").and_then(|(_, l)| l.split_once('/')) {
                        Some((_, path)) => to = format!("/{}", path.split("\r\n").next().unwrap_or("")),
                        None => while stream.read(&mut piece).is_ok_and(|n| n > 0) {},
                    }
                }
            };
            thread::Builder::new().stack_size(256 * 1024).spawn(move || {
                // The engine's end is the reader's.
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).ok();
            })
        })
        .collect();
    while emulator.counters().open_readers < u64::from(streams) {
        thread::sleep(Duration::from_millis(10));
    }
    // Bursts over.
    thread::sleep(time / 2);
    let (bytes, ticks, began) = (emulator.counters().bytes, emulator_ticks(), Instant::now());
    thread::sleep(time);
    let took = began.elapsed().as_secs_f64();
    let rate = (emulator.counters().bytes - bytes) as f64 * 8.0 / 1e6 / took;
    let cpu = (emulator_ticks() - ticks) as f64 / took;
    println!("feed    {} streams at {rate:.0} Mbit/s in all: {cpu:.1} % of a core", readers.len());
    std::process::exit(0);
}
