//! What people play HLS with plays, and goes on when the engine behind it dies:
//! what engines hand out as a transport stream, and half as long what they hand
//! out by HLS. `PLAYER_SECONDS` plays for longer than the usual half minute.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::{
    thread,
    time::{Duration, Instant},
};

use millrace_emulator::{Content, ContentId, Scenario};
use support::{
    Server,
    engines::EngineProcess,
    tool::{Outcome, Scratch, Tool, has},
    wait_until,
};

mod support;

const SOON: Duration = Duration::from_secs(20);

fn play_time() -> Duration {
    let given = std::env::var("PLAYER_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(given.unwrap_or(30))
}

/// How engines hand the stream out, and how long it is played.
fn sources() -> [(&'static str, Duration); 2] {
    [("ts", play_time()), ("hls", play_time() / 2)]
}

/// Two engines as processes, the server in front of them, and a programme.
struct Scene {
    engines: Vec<EngineProcess>,
    server: Server,
    id: ContentId,
}

impl Scene {
    fn new(serial: u64, source: &str) -> Self {
        let engines: Vec<_> =
            (0..2).map(|n| EngineProcess::start(&["--fast", "--seed", &n.to_string()])).collect();
        let urls: Vec<_> = engines.iter().map(|engine| format!("http://{}", engine.address())).collect();
        let mut args = vec!["--listen", "127.0.0.1:0", "--cpus", "0"];
        urls.iter().for_each(|url| args.extend(["--engine", url]));
        let settings = [("MILLRACE_STREAMS_SOURCE", source)];
        let server = Server::start_with(&settings, &args).allow("engine turned");
        let is_ready = || server.get("/api/v1/engines").text().matches("\"ready\"").count() == 2;
        assert!(wait_until(SOON, is_ready), "{}", server.log());
        Self { engines, server, id: ContentId::new(Content::Clip, Scenario::healthy(), serial) }
    }

    fn url(&self) -> String {
        format!("http://{}/ace/manifest.m3u8?id={}", self.server.address(), self.id)
    }

    /// Half of `time` is over, and the engine that plays is killed.
    fn kill_in_the_middle(&mut self, time: Duration) {
        thread::sleep(time / 2);
        let streams: serde_json::Value =
            serde_json::from_slice(&self.server.get("/api/v1/streams").body).unwrap();
        let playing = streams["streams"][0]["engine"].as_u64().unwrap();
        self.engines[usize::try_from(playing).unwrap()].kill();
    }

    /// The player was served by both engines, one after the other.
    #[track_caller]
    fn assert_moved(&self, name: &str, source: &str, outcome: &Outcome) {
        let log = self.server.log();
        assert_eq!(log.matches("source lost").count(), 1, "{name}: {outcome:#?}\n{log}");
        assert_eq!(log.matches("source plays").count(), 2, "{name}: {log}");
        // A list of the other engine's may begin behind that end.
        let is_exact = log.contains("exactly where the chain ends");
        assert!(is_exact || source == "hls", "{name}: {log}");
    }
}

/// Lets `program` play for `time`, kills the engine in the middle, and gives what
/// came of it.
fn plays(
    serial: u64,
    (source, time): (&str, Duration),
    program: &str,
    args: impl FnOnce(&str) -> Vec<String>,
) -> Option<Outcome> {
    if !has(program) {
        return None;
    }
    let mut scene = Scene::new(serial, source);
    let args = args(&scene.url());
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let tool = match program {
        "cvlc" => Tool::start_unprivileged(program, &args),
        _ => Tool::start(program, &args),
    };
    scene.kill_in_the_middle(time);
    let outcome = tool.ends_within(time + SOON);
    scene.assert_moved(&format!("{program}, {source}"), source, &outcome);
    Some(outcome)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn ffmpeg_decodes_every_picture() {
    for (source, time) in sources() {
        let seconds = time.as_secs();
        let args = |url: &str| {
            let text = format!(
                "-nostdin -hide_banner -v warning -threads 1 -re -i {url} -t {seconds} -nostats -progress pipe:1 -f null -"
            );
            words(&text)
        };
        let Some(outcome) = plays(1, (source, time), "ffmpeg", args) else { return };
        assert!(outcome.status.success() && outcome.stderr.is_empty(), "{source}: {outcome:#?}");
        let last = |name: &str| {
            let value = outcome.stdout.lines().rev().find_map(|line| line.strip_prefix(name));
            value.and_then(|value| value.trim().parse::<u64>().ok()).unwrap_or(0)
        };
        let frames = last("frame=");
        assert!(
            frames.abs_diff(seconds * 25) <= 12,
            "{source}: {frames} frames in {seconds} s: {outcome:#?}"
        );
        assert_eq!((last("dup_frames="), last("drop_frames=")), (0, 0), "{source}: {outcome:#?}");
    }
}

#[test]
fn mpv_goes_on() {
    for (source, time) in sources() {
        let images = Scratch::new();
        let outdir = images.path().display().to_string();
        let args = |url: &str| {
            let text = format!(
                "--no-config --msg-level=all=warn --vo=image \
                 --vo-image-outdir={outdir} --ao=null --length={} {url}",
                time.as_secs()
            );
            words(&text)
        };
        let Some(outcome) = plays(2, (source, time), "mpv", args) else { return };
        assert!(outcome.status.success() && outcome.stderr.is_empty(), "{source}: {outcome:#?}");
        let (shown, all) = (images.files(".jpg"), time.as_secs() * 25);
        // On a busy machine it drops some.
        assert!(shown as u64 * 2 > all, "{source}: {shown} of {all} pictures: {outcome:#?}");
    }
}

#[test]
fn vlc_goes_on() {
    for (source, time) in sources() {
        let images = Scratch::new();
        let outdir = images.path().display().to_string();
        let args = |url: &str| {
            let text = format!(
                "-vv --no-color --vout dummy --aout dummy --run-time {} --video-filter=scene --scene-path={outdir} \
                 --scene-format=png --scene-ratio=25 --play-and-exit {url} vlc://quit",
                time.as_secs()
            );
            words(&text)
        };
        let Some(outcome) = plays(3, (source, time), "cvlc", args) else { return };
        let said = outcome.stdout + &outcome.stderr;
        let (shown, all) = (images.files(".png") as u64, time.as_secs());
        assert!(shown + 4 >= all, "{source}: {shown} pictures of {all}:\n{said}");
        assert!(said.contains("codec (h264) started"), "{source}: {said}");
        for complaint in
            ["ts demux error", "avcodec decoder error", "http error", "access error", "adaptive demux error"]
        {
            assert!(!said.contains(complaint), "{source}: {complaint}:\n{said}");
        }
    }
}

#[test]
fn gstreamer_goes_on() {
    for (source, time) in sources() {
        let frames = time.as_secs() * 25;
        let args = |url: &str| {
            let text = format!(
                "-q uridecodebin3 uri={url} name=d \
                 d. ! video/x-raw ! queue ! fakesink sync=true num-buffers={frames} \
                 d. ! audio/x-raw ! queue ! fakesink sync=true num-buffers={}",
                frames * 1_875 / 1_000
            );
            words(&text)
        };
        let began = Instant::now();
        let Some(outcome) = plays(4, (source, time), "gst-launch-1.0", args) else { return };
        assert!(outcome.status.success(), "{source}: {outcome:#?}");
        assert!(!outcome.stderr.contains("ERROR"), "{source}: {outcome:#?}");
        assert!(began.elapsed() > time - Duration::from_secs(5), "{source}: at the pace of the clock");
    }
}
