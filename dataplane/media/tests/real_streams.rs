//! Clips of a real encoder: what is found in them is what ffprobe finds.

use std::sync::Arc;

use millrace_media::ts::{
    Aligner, Discontinuity, Event, Indexer, JoinPoint, PACKET_LEN, Packet, Psi, VideoCodec,
};

struct Clip {
    name: &'static str,
    bytes: &'static [u8],
    key_frames: &'static str,
    codec: VideoCodec,
}

const CLIPS: [Clip; 3] = [
    Clip {
        name: "H.264",
        bytes: include_bytes!("data/h264.ts"),
        key_frames: include_str!("data/h264.keyframes"),
        codec: VideoCodec::H264,
    },
    Clip {
        name: "HEVC",
        bytes: include_bytes!("data/hevc.ts"),
        key_frames: include_str!("data/hevc.keyframes"),
        codec: VideoCodec::Hevc,
    },
    Clip {
        name: "MPEG-2",
        bytes: include_bytes!("data/mpeg2.ts"),
        key_frames: include_str!("data/mpeg2.keyframes"),
        codec: VideoCodec::Mpeg2,
    },
];

impl Clip {
    fn key_frames(&self) -> Vec<u64> {
        self.key_frames.lines().map(|l| l.parse().expect("an offset")).collect()
    }
}

#[derive(Default)]
struct Found {
    psi: Vec<Arc<Psi>>,
    joins: Vec<JoinPoint>,
    pcrs: Vec<u64>,
    /// Offset and time to decode.
    units: Vec<(u64, u64)>,
    random_access: Vec<u64>,
}

fn index(stream: &[u8]) -> Found {
    let (mut indexer, mut events) = (Indexer::with_units(), Vec::new());
    indexer.scan(stream, &mut events);
    let stats = indexer.stats();
    assert_eq!(stats.packets, (stream.len() / PACKET_LEN) as u64);
    assert_eq!((stats.continuity_errors, stats.bad_sections, stats.transport_errors), (0, 0, 0));
    let mut found = Found::default();
    for event in events {
        match event {
            Event::Psi { psi, .. } => found.psi.push(psi),
            Event::Join(point) => found.joins.push(point),
            Event::Pcr { pcr, .. } => found.pcrs.push(pcr.ticks()),
            Event::Unit { point, time } => found.units.push((point.offset, time.expect("a time stamp"))),
            Event::RandomAccess(offset) => found.random_access.push(offset),
        }
    }
    found
}

/// The stream without its random access indicators, so that the pictures
/// themselves have to tell.
fn without_indicators(stream: &[u8]) -> Vec<u8> {
    let mut stream = stream.to_vec();
    let (packets, _) = stream.as_chunks_mut::<PACKET_LEN>();
    let mut cleared = 0;
    for packet in packets {
        if Packet::new(packet).random_access() {
            packet[5] &= !0x40;
            cleared += 1;
        }
    }
    assert!(cleared > 0);
    stream
}

#[test]
fn join_points_are_the_key_frames_that_ffprobe_reports() {
    for clip in CLIPS {
        let expected = clip.key_frames();
        assert!(expected.len() >= 5, "{}", clip.name);
        for (how, stream) in
            [("indicated", clip.bytes.to_vec()), ("in pictures", without_indicators(clip.bytes))]
        {
            let found = index(&stream);
            let got: Vec<_> = found.joins.iter().map(|j| j.offset).collect();
            assert_eq!(got, expected, "{}, {how}", clip.name);
            assert_eq!(found.random_access, expected, "{}, {how}", clip.name);
            let steps: Vec<_> = found.units.windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
            assert!(steps.iter().all(|step| *step == 90_000 / 25), "{}, {how}: {steps:?}", clip.name);
            let units: Vec<_> = found.units.iter().map(|unit| unit.0).collect();
            assert!(expected.iter().all(|key| units.contains(key)), "{}, {how}", clip.name);
            assert!(found.joins.iter().all(|j| j.pcr.is_some()), "{}, {how}", clip.name);
        }
    }
}

#[test]
fn the_tables_and_the_clock_are_those_of_the_clip() {
    for clip in CLIPS {
        let found = index(clip.bytes);
        assert_eq!(found.psi.len(), 1, "{}: repeated tables are no change", clip.name);
        let psi = &found.psi[0];
        assert_eq!(
            psi.video().map(|(pid, codec)| (pid.get(), codec)),
            Some((0x100, clip.codec)),
            "{}",
            clip.name
        );
        assert_eq!(psi.audio().iter().map(|pid| pid.get()).collect::<Vec<_>>(), [0x101], "{}", clip.name);
        assert_eq!(psi.pcr_pid().map(|pid| pid.get()), Some(0x100), "{}", clip.name);
        // Six seconds at 25 frames a second, the last 40 ms not clocked.
        let (first, last) = (found.pcrs[0], found.pcrs[found.pcrs.len() - 1]);
        assert!((5 * 27_000_000..6 * 27_000_000).contains(&(last - first)), "{}", clip.name);
    }
}

#[test]
fn a_join_with_its_preface_is_a_legal_stream_with_the_same_points() {
    for clip in CLIPS {
        let found = index(clip.bytes);
        for (i, point) in found.joins.iter().enumerate() {
            let at = usize::try_from(point.offset).unwrap();
            let preface = point.preface(&found.psi[0], Discontinuity::None);
            let joined = index(&[&preface, &clip.bytes[at..]].concat());
            assert_eq!(joined.joins.len(), found.joins.len() - i, "{}", clip.name);
            assert_eq!(joined.joins[0].offset, preface.len() as u64, "{}", clip.name);
            // From the last point back to this one, as a lapped viewer is moved.
            let end = usize::try_from(found.joins[found.joins.len() - 1].offset).unwrap();
            let moved = point.preface(&found.psi[0], Discontinuity::Signalled);
            index(&[&clip.bytes[..end], &moved, &clip.bytes[at..]].concat());
        }
    }
}

#[test]
fn foreign_bytes_in_a_clip_cost_no_packet() {
    for clip in CLIPS {
        let mut stream = Vec::new();
        for (i, part) in clip.bytes.chunks(7 * PACKET_LEN).enumerate() {
            stream.extend_from_slice(part);
            // No 0x47 among them: chance is the aligner's own tests' business.
            stream.extend((0..64u8).cycle().take(1 + i % 900));
        }
        let mut aligner = Aligner::new();
        let got = aligner.finish(&mut stream);
        assert_eq!(&stream[..got.packets], clip.bytes, "{}", clip.name);
        assert_eq!(aligner.resyncs(), clip.bytes.len().div_ceil(7 * PACKET_LEN) as u64 - 1, "{}", clip.name);
    }
}
