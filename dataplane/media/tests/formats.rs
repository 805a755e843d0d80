//! Clips of real encoders: their formats are what ffmpeg says they are.
#![allow(clippy::unwrap_used, reason = "tests, and what tests call")]

use std::{fmt::Write, fs, path::PathBuf, sync::Arc};

use millrace_media::ts::{Event, Formats, Indexer, PACKET_LEN, Packet, Pid, Psi, decode_time};

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The PSI of a stream, and the stream from its first join point on.
fn joined(stream: &[u8]) -> (Arc<Psi>, &[u8]) {
    let (mut indexer, mut events) = (Indexer::new(), Vec::new());
    indexer.scan(stream, &mut events);
    let psi = Arc::clone(indexer.psi().unwrap());
    let first = events.into_iter().find_map(|event| {
        let Event::Join(point) = event else { return None };
        Some(usize::try_from(point.offset).unwrap())
    });
    (psi, &stream[first.unwrap()..])
}

fn formats(stream: &[u8]) -> Formats {
    let (psi, stream) = joined(stream);
    Formats::of(&psi, stream)
}

/// ISO/IEC 14496-15 §E.3, from hvcC (§8.3.3.1.2).
fn hevc_name(config: &[u8]) -> String {
    let space = ["", "A", "B", "C"][usize::from(config[1] >> 6)];
    let tier = if config[1] & 0x20 == 0 { 'L' } else { 'H' };
    let compatibility = u32::from_be_bytes(config[2..6].try_into().unwrap()).reverse_bits();
    let mut name = format!("hvc1.{space}{}.{compatibility:X}.{tier}{}", config[1] & 0x1F, config[12]);
    let mut constraints = &config[6..12];
    while let [rest @ .., 0] = constraints {
        constraints = rest;
    }
    constraints.iter().for_each(|byte| write!(name, ".{byte:X}").unwrap());
    name
}

fn video_name(codec: &str, profile: &str, level: &str, config: &str) -> String {
    let config: Vec<u8> =
        (0..config.len()).step_by(2).map(|at| u8::from_str_radix(&config[at..at + 2], 16).unwrap()).collect();
    match (codec, profile) {
        ("h264", _) => {
            assert_eq!(config[3].to_string(), level);
            format!("avc1.{:02X}{:02X}{:02X}", config[1], config[2], config[3])
        }
        ("hevc", _) => {
            assert_eq!(config[12].to_string(), level);
            hevc_name(&config)
        }
        ("mpeg2video", "Main") => "mp4v.61".to_owned(),
        ("mpeg2video", "High") => "mp4v.64".to_owned(),
        ("mpeg2video", "4:2:2") => "mp4v.65".to_owned(),
        ("mpeg1video", _) => "mp4v.6A".to_owned(),
        _ => panic!("{codec} {profile}"),
    }
}

fn audio_name(codec: &str, profile: &str) -> Option<&'static str> {
    match (codec, profile) {
        ("aac" | "aac_latm", "LC") => Some("mp4a.40.2"),
        ("mp2", _) => None,
        ("mp3", _) => Some("mp4a.40.34"),
        ("ac3", _) => Some("ac-3"),
        ("eac3", _) => Some("ec-3"),
        _ => panic!("{codec} {profile}"),
    }
}

#[test]
fn formats_are_those_that_ffprobe_reports() {
    let answers = fs::read_to_string(data("formats/answers")).unwrap();
    let mut count = 0;
    for line in answers.lines() {
        let fields: Vec<&str> = line.split(';').collect();
        let clip = fields[0];
        let found = formats(&fs::read(data("formats").join(format!("{clip}.ts"))).unwrap());
        match fields[1..] {
            [codec, profile, width, height, level, rate, config] => {
                let video = found.video.as_ref().unwrap_or_else(|| panic!("{clip}: no video"));
                let (frames, seconds) = rate.split_once('/').unwrap();
                let rate = frames.parse::<f64>().unwrap() / seconds.parse::<f64>().unwrap();
                // ffprobe looks at pictures, which may be fields.
                let fields = if clip == "hevc-fields" { 2 } else { 1 };
                let height = height.parse::<u16>().unwrap() * fields;
                assert_eq!((video.width.to_string().as_str(), video.height), (width, height), "{clip}");
                let found_rate = video.frame_rate.map(|rate| rate.to_string());
                assert_eq!(found_rate, Some(format!("{:.3}", rate / f64::from(fields))), "{clip}");
                let name = video_name(codec, profile, level, config);
                assert_eq!(
                    (video.codec.as_ref(), found.codecs().as_ref()),
                    (Some(&name), Some(&name)),
                    "{clip}"
                );
                assert!(found.audio.is_empty(), "{clip}");
            }
            [codec, profile, _] => {
                let names: Vec<_> = found.audio.iter().map(|audio| (audio.pid.get(), audio.codec)).collect();
                assert_eq!(names, [(0x100, audio_name(codec, profile))], "{clip}");
                assert_eq!((found.video.as_ref(), found.codecs().as_deref()), (None, names[0].1), "{clip}");
            }
            _ => panic!("{line}"),
        }
        count += 1;
    }
    assert_eq!(count, 24);
}

#[test]
fn codecs_name_video_and_audio_of_a_program() {
    for (clip, expected) in [
        ("h264.ts", "avc1.64000B,mp4a.40.2"),
        ("hevc.ts", "hvc1.1.6.L30.90,mp4a.40.2"),
        ("mpeg2.ts", "mp4v.61,mp4a.40.2"),
    ] {
        let stream = fs::read(data(clip)).unwrap();
        let found = formats(&stream);
        assert_eq!(found.codecs().as_deref(), Some(expected), "{clip}");
        let video = found.video.as_ref().unwrap();
        let rate = video.frame_rate.unwrap().thousandths();
        assert_eq!((video.width, video.height, rate), (160, 96, 25_000), "{clip}");
        // From wherever, it is the same.
        let (psi, _) = joined(&stream);
        for from in (0..stream.len() / 2).step_by(7 * PACKET_LEN) {
            assert_eq!(Formats::of(&psi, &stream[from..]), found, "{clip} from {from}");
        }
    }
}

#[test]
fn time_stamps_are_those_that_ffprobe_reports() {
    let stream = fs::read(data("h264.ts")).unwrap();
    let found: Vec<String> = stream
        .as_chunks::<PACKET_LEN>()
        .0
        .iter()
        .zip((0..).step_by(PACKET_LEN))
        .filter(|(packet, _)| Some(Packet::new(packet).pid()) == Pid::new(0x100))
        .filter_map(|(packet, offset)| Some(format!("{offset};{}", decode_time(Packet::new(packet))?)))
        .collect();
    let expected = fs::read_to_string(data("formats/times")).unwrap();
    assert_eq!(found.len(), 150);
    assert_eq!(found, expected.lines().collect::<Vec<_>>());
}
