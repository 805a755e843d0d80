//! The clip is one endless programme to a decoder.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::{
    io::Write,
    process::{Command, Stdio},
    time::Duration,
};

use millrace_emulator::{Content, ContentId, Emulator, EmulatorConfig, Scenario, Timing};
use support::*;

/// Three minutes of the clip, as an engine sends them.
fn three_minutes() -> Vec<u8> {
    let timing = Timing { burst: Duration::from_secs(220), ..Timing::fast() };
    let emulator = Emulator::start(EmulatorConfig { timing, ..config(1) }).unwrap();
    let id = ContentId::new(Content::Clip, Scenario::healthy(), 5);
    let answer = start(emulator.addresses()[0], &id, "p").read(13_800_000);
    assert!(answer.body.len() > 13_000_000, "{}", answer.body.len());
    answer.body
}

fn run(program: &str, arguments: &[&str], input: &[u8]) -> (String, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} has to be installed: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn three_minutes_of_laps_decode_without_a_complaint_or_a_seam() {
    let whole = three_minutes();
    // A decoder complains of pictures before the first key frame and of one
    // cut off at the end, rightly: so take whole laps.
    let packets = whole.as_chunks::<188>().0;
    let clip = include_bytes!("../data/clip.ts").as_chunks::<188>().0;
    // The first packet of video, but for its counter and time stamps.
    let first = packets.iter().position(|p| p[..3] == clip[3][..3] && p[40..] == clip[3][40..]).unwrap() - 3;
    let laps = (packets.len() - first) / clip.len();
    let bytes = packets[first..first + laps * clip.len()].concat();
    assert!(laps as f64 * 12.8 >= 180.0);

    let (_, errors) = run("ffmpeg", &["-v", "warning", "-xerror", "-i", "-", "-f", "null", "-"], &bytes);
    assert_eq!(errors, "");

    for (stream, step, per_lap) in [("v:0", 3600, 320), ("a:0", 1920, 600)] {
        let arguments =
            ["-v", "error", "-select_streams", stream, "-show_entries", "packet=dts", "-of", "csv=p=0", "-"];
        let (list, _) = run("ffprobe", &arguments, &bytes);
        let dts: Vec<i64> = list.lines().filter_map(|l| l.trim_end_matches(',').parse().ok()).collect();
        assert_eq!(dts.len(), laps * per_lap, "{stream}");
        let odd: Vec<_> = dts.windows(2).filter(|w| w[1] - w[0] != step).collect();
        assert!(odd.is_empty(), "{stream}: {odd:?}");
    }
}
