//! What people play with plays: the real programs decode what they are sent.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use millrace_emulator::{Content, ContentId, Scenario};
use support::{
    Server, Viewer,
    pool::{engines, path_of, serve_ready},
    tool::{Scratch, Tool, has, run},
};

mod support;

/// For what takes a few seconds of stream.
const SOON: Duration = Duration::from_secs(20);
const PACKET: usize = 188;

/// A real programme: H.264, 640 × 360 at 25 frames a second, and AAC.
fn clip(serial: u64) -> ContentId {
    ContentId::new(Content::Clip, Scenario::healthy(), serial)
}

/// The paths that play `id`.
fn paths(id: ContentId) -> [String; 4] {
    [
        path_of(id),
        format!("/ace/getstream.ts?id={id}"),
        format!("/ace/{id}.ts"),
        format!("/ace/getstream?infohash={}&pid=1&format=json", id.infohash()),
    ]
}

fn url(server: &Server, path: &str) -> String {
    format!("http://{}{path}", server.address())
}

#[test]
fn ffprobe_sees_video_and_audio_with_size_and_rate_on_every_path() {
    if !has("ffprobe") {
        return;
    }
    let emulator = engines(2);
    let server = serve_ready(&emulator, "");
    for path in paths(clip(1)) {
        let entries = "stream=codec_name,width,height,r_frame_rate,sample_rate,channels";
        let url = url(&server, &path);
        let args = ["-v", "warning", "-show_entries", entries, "-of", "flat", &url];
        let outcome = run("ffprobe", &args, SOON);
        assert!(outcome.status.success() && outcome.stderr.is_empty(), "{path}: {outcome:#?}");
        for line in [
            r#"codec_name="h264""#,
            "width=640",
            "height=360",
            r#"r_frame_rate="25/1""#,
            r#"codec_name="aac""#,
            r#"sample_rate="48000""#,
            "channels=1",
        ] {
            assert!(outcome.stdout.contains(line), "{path}: no {line} in {}", outcome.stdout);
        }
    }
    assert_eq!(emulator.counters().misuse, Default::default());
}

#[test]
fn ffmpeg_decodes_thirty_seconds_of_twenty_streams_without_a_complaint() {
    if !has("ffmpeg") {
        return;
    }
    let emulator = engines(7);
    let server = serve_ready(&emulator, "");
    let decoders: Vec<_> = (0..20)
        .map(|serial| {
            let url = url(&server, &path_of(clip(serial)));
            let head = ["-nostdin", "-hide_banner", "-v", "warning", "-threads", "1", "-i", &url];
            let tail = ["-t", "30", "-nostats", "-progress", "pipe:1", "-f", "null", "-"];
            Tool::start("ffmpeg", &[&head[..], &tail[..]].concat())
        })
        .collect();
    for (serial, decoder) in decoders.into_iter().enumerate() {
        let outcome = decoder.ends_within(Duration::from_secs(60));
        assert!(outcome.status.success() && outcome.stderr.is_empty(), "stream {serial}: {outcome:#?}");
        let last = |name: &str| {
            let value = outcome.stdout.lines().rev().find_map(|line| line.strip_prefix(name));
            value.and_then(|v| v.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        // Sound comes up to a fifth of a second before the first picture.
        let frames = last("frame=");
        assert!((740..=752).contains(&frames), "stream {serial}: {frames} frames in 30 s");
        assert_eq!(last("out_time_us="), 30_000_000, "stream {serial}");
        assert_eq!((last("dup_frames="), last("drop_frames=")), (0, 0), "stream {serial}");
    }
    let counters = emulator.counters();
    assert_eq!((counters.starts, counters.playbacks), (20, 20));
    assert_eq!(counters.misuse, Default::default());
}

#[test]
fn mpv_shows_four_seconds() {
    if !has("mpv") {
        return;
    }
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let images = Scratch::new();
    let outdir = format!("--vo-image-outdir={}", images.path().display());
    let url = url(&server, &paths(clip(1))[2]);
    let quiet = ["--no-config", "--msg-level=all=warn", "--vo=image", &outdir, "--ao=null", "--length=4"];
    let outcome = run("mpv", &[&quiet[..], &[&url]].concat(), SOON);
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{outcome:#?}");
    // On a busy machine it drops some of the hundred.
    let shown = images.files(".jpg");
    assert!((60..=104).contains(&shown), "{shown} frames: {outcome:#?}");
}

#[test]
fn vlc_shows_four_seconds() {
    if !has("cvlc") {
        return;
    }
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let images = Scratch::new();
    let outdir = format!("--scene-path={}", images.path().display());
    let url = url(&server, &paths(clip(1))[1]);
    let outputs = ["-vv", "--no-color", "--vout", "dummy", "--aout", "dummy", "--run-time", "4"];
    let scene = ["--video-filter=scene", &outdir, "--scene-format=png", "--scene-ratio=25"];
    let args = [&outputs[..], &scene[..], &["--play-and-exit", &url, "vlc://quit"]].concat();
    let outcome = Tool::start_unprivileged("cvlc", &args).ends_within(SOON);
    let said = outcome.stdout + &outcome.stderr;
    // One picture in 25 is kept.
    let shown = images.files(".png");
    assert!((3..=5).contains(&shown), "{shown} pictures of 4:\n{said}");
    assert!(said.contains("codec (h264) started"), "{said}");
    for complaint in
        ["ts demux warning", "ts demux error", "avcodec decoder error", "http error", "access error"]
    {
        assert!(!said.contains(complaint), "{complaint}:\n{said}");
    }
}

#[test]
fn gstreamer_decodes_four_seconds() {
    if !has("gst-launch-1.0") {
        return;
    }
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let location = format!("location={}", url(&server, &paths(clip(1))[0]));
    // A sink ends when it has had its buffers, and the whole when both have.
    let pipeline = "! tsdemux name=d d. ! queue ! h264parse ! avdec_h264 ! fakesink sync=true num-buffers=100 \
        d. ! queue ! aacparse ! avdec_aac ! fakesink sync=true num-buffers=187";
    let mut args = vec!["-q", "souphttpsrc", &location];
    args.extend(pipeline.split_whitespace());
    let began = Instant::now();
    let outcome = run("gst-launch-1.0", &args, SOON);
    assert!(outcome.status.success(), "{outcome:#?}");
    for complaint in ["ERROR", "WARN"] {
        assert!(!outcome.stderr.contains(complaint), "{outcome:#?}");
    }
    assert!(began.elapsed() > Duration::from_secs(3), "at the pace of the clock");
}

/// The packets of a body, all of them whole and in step.
fn packets(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    assert!(bytes.chunks(PACKET).all(|p| p[0] == 0x47), "a packet without its sync byte");
    bytes.chunks_exact(PACKET)
}

fn pid(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[1] & 0x1f, packet[2]])
}

/// The body starts with PAT, PMT and a random access point of the video.
fn assert_starts_right(name: &str, body: &[u8]) {
    let first: Vec<_> = packets(body).take(3).collect();
    let [pat, pmt, rap] = first[..] else { panic!("{name}: {} bytes", body.len()) };
    let starts_unit = |p: &[u8]| p[1] & 0x40 != 0;
    // ISO/IEC 13818-1 §2.4.4.3: the first programme's PMT; §2.4.4.8: its PCR PID.
    let pmt_pid = u16::from_be_bytes([pat[15] & 0x1f, pat[16]]);
    let pcr_pid = u16::from_be_bytes([pmt[13] & 0x1f, pmt[14]]);
    assert!(pid(pat) == 0 && starts_unit(pat), "{name}: PAT");
    assert!(pid(pmt) == pmt_pid && starts_unit(pmt), "{name}: PMT");
    let random_access = rap[3] & 0x20 != 0 && rap[4] > 0 && rap[5] & 0x40 != 0;
    assert!(pid(rap) == pcr_pid && starts_unit(rap) && random_access, "{name}: random access point");
}

#[test]
fn curl_gets_what_a_player_gets() {
    if !has("curl") {
        return;
    }
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let [path, ..] = paths(clip(1));
    let mut player = Viewer::ask(server.address(), &path).unwrap();
    assert_eq!(player.head(SOON).unwrap().0, 200);
    let scratch = Scratch::new();
    let file = scratch.path().join("body");
    let (file, url) = (file.display().to_string(), url(&server, &path));
    let args = ["--silent", "--show-error", "--max-time", "6", "--output", &file, &url];
    let curl = Tool::start("curl", &args);
    let by_player = player.read_for(Duration::from_secs(6)).unwrap();
    // 28: the time was over, and not the stream.
    let outcome = curl.ends_within(SOON);
    assert_eq!(outcome.status.code(), Some(28), "{outcome:#?}");
    let by_curl = fs::read(&file).unwrap();

    for (name, body) in [("curl", &by_curl), ("player", &by_player)] {
        assert_starts_right(name, body);
    }
    // Who joined later has its beginning, tables left aside, in the other's body.
    let behind_tables = |body: &[u8]| body[2 * PACKET..].to_vec();
    let (one, other) = (behind_tables(&by_curl), behind_tables(&by_player));
    let probe = 40 * PACKET;
    let place = |body: &[u8], of: &[u8]| {
        let packets = 0..(body.len() - probe) / PACKET;
        packets.map(|i| i * PACKET).find(|&at| body[at..at + probe] == of[..probe])
    };
    let (earlier, later, at) = match (place(&other, &one), place(&one, &other)) {
        (Some(at), _) => (&other, &one, at),
        (None, Some(at)) => (&one, &other, at),
        (None, None) => panic!("the two bodies have nothing in common"),
    };
    let overlap = later.len().min(earlier.len() - at);
    assert!(overlap > 100_000, "an overlap of {overlap} bytes");
    assert!(earlier[at..at + overlap] == later[..overlap], "the same bytes for both");
}

/// Sends a request as it is, and reads until there are `body` bytes of body.
fn ask(server: &Server, request: &str, body: usize) -> (String, BTreeMap<String, String>, Vec<u8>) {
    let mut socket = TcpStream::connect(server.address()).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 << 10]);
    loop {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        if let Some(end) = end.filter(|end| bytes.len() >= end + body) {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let (status, lines) = head.split_once("\r\n").unwrap();
            let headers = lines.lines().filter_map(|line| line.split_once(": "));
            let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
            return (status.to_owned(), headers.collect(), bytes[end..].to_vec());
        }
        let read = socket.read(&mut piece).unwrap();
        assert!(read > 0, "closed after {} bytes: {request}", bytes.len());
        bytes.extend_from_slice(&piece[..read]);
    }
}

#[test]
fn every_kind_of_player_is_told_what_it_needs() {
    let emulator = engines(1);
    let server = serve_ready(&emulator, "");
    let id = clip(1);
    for (player, version, lines) in [
        ("curl", "1.1", "Host: a\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"),
        (
            "ffmpeg",
            "1.1",
            "User-Agent: Lavf/60.16.100\r\nAccept: */*\r\nRange: bytes=0-\r\nConnection: close\r\n\
             Host: a\r\nIcy-MetaData: 1\r\n",
        ),
        ("VLC", "1.1", "Host: a\r\nAccept: */*\r\nUser-Agent: VLC/3.0.21\r\nRange: bytes=0-\r\n"),
        ("a seeking player", "1.1", "Host: a\r\nRange: bytes=1000000-\r\n"),
        ("Kodi", "1.1", "Host: a\r\nUser-Agent: Kodi/21.0\r\nAccept: */*\r\nConnection: keep-alive\r\n"),
        ("ExoPlayer", "1.1", "Host: a\r\nIcy-MetaData: 1\r\nAccept-Encoding: gzip, identity\r\n"),
        (
            "a browser",
            "1.1",
            "Host: a\r\nOrigin: null\r\nAccept-Encoding: gzip, br\r\nSec-Fetch-Mode: cors\r\n",
        ),
        ("an old box", "1.0", "User-Agent: MAG250\r\n"),
        ("an old box that says more", "1.0", "Host: a\r\nConnection: keep-alive\r\nRange: bytes=0-\r\n"),
    ] {
        for (method, body) in [("HEAD", 0), ("GET", 20 * PACKET)] {
            for path in paths(id) {
                let name = format!("{player}: {method} {path}");
                let request = format!("{method} {path} HTTP/{version}\r\n{lines}\r\n");
                let (status, headers, body) = ask(&server, &request, body);
                assert_eq!(status, "HTTP/1.1 200 OK", "{name}");
                for (header, value) in [
                    ("content-type", "video/mp2t"),
                    ("connection", "close"),
                    ("cache-control", "no-store"),
                    ("x-accel-buffering", "no"),
                    ("access-control-allow-origin", "*"),
                    ("access-control-expose-headers", "Content-Length, Date, Millrace-Session"),
                ] {
                    assert_eq!(headers.get(header).map(String::as_str), Some(value), "{name}: {header}");
                }
                let unwanted = ["content-length", "accept-ranges", "content-range", "content-encoding"];
                let is_unwanted = |h: &str| {
                    unwanted.contains(&h)
                        || h == "transfer-encoding"
                        || h.starts_with("icy")
                        || h == "location"
                };
                let said: Vec<_> = headers.keys().filter(|h| is_unwanted(h)).collect();
                assert!(said.is_empty(), "{name}: {said:?}");
                if method == "GET" {
                    assert_starts_right(&name, &body[..20 * PACKET]);
                }
            }
        }
    }
    assert_eq!(emulator.counters().misuse, Default::default());
    assert_eq!(emulator.counters().open_sessions, 1, "one stream for all");
}
