//! What has to hold for any bytes. Shared by the fuzz targets and by the test
//! that replays their corpora.
#![allow(dead_code, reason = "each fuzz target uses one of them")]

use std::{sync::Arc, time::Duration};

use millrace_media::hls::source::{
    self, Attempt, Effect, Follower, IN_FLIGHT, MAX_ENTRIES, MAX_URI, Playlist, parse,
};
use millrace_media::ts::{
    Aligner, Continuity, ContinuityChecker, Discontinuity, Event, Formats, Indexer, MAX_PENDING, PACKET_LEN,
    Packet, Pcr, Psi, STAMP_MODULUS, SYNC_BYTE, Verdict, decode_time,
};

/// Any bytes, as packets: the parts fit, and the rule of continuity counters
/// allows a duplicate once.
pub(crate) fn packet(data: &[u8]) {
    let mut checker = ContinuityChecker::new();
    let mut last = None;
    for bytes in data.as_chunks::<PACKET_LEN>().0 {
        let packet = Packet::new(bytes);
        let parts = 4 + usize::from(packet.has_adaptation_field()) + packet.adaptation_field().len();
        assert!(parts + packet.payload().len() <= PACKET_LEN);
        if let Some(pcr) = packet.pcr() {
            assert!(pcr.ticks() < Pcr::MODULUS);
            assert_eq!(Pcr::from_bytes(pcr.to_bytes()), Some(pcr));
        }
        if let Some(time) = decode_time(packet) {
            assert!(time < STAMP_MODULUS && packet.payload_unit_start() && packet.payload().len() >= 14);
        }
        let verdict = checker.check(packet);
        let duplicate_of = (verdict == Verdict::Duplicate).then_some(packet.pid());
        assert!(duplicate_of.is_none() || duplicate_of != last, "twice in a row");
        last = duplicate_of;
    }
}

/// The first byte says how the rest is split into calls; whole and split give
/// the same packets, and each byte is accounted for.
pub(crate) fn aligner(data: &[u8]) {
    let Some((&split, stream)) = data.split_first() else { return };
    let whole = align(stream, stream.len().max(1));
    let parts = align(stream, 1 + usize::from(split) * 3);
    assert_eq!(whole, parts);
}

fn align(stream: &[u8], size: usize) -> Vec<u8> {
    let mut aligner = Aligner::new();
    let (mut out, mut buf) = (Vec::new(), Vec::new());
    for chunk in stream.chunks(size) {
        buf.extend_from_slice(chunk);
        let got = aligner.align(&mut buf);
        assert!(got.pending <= MAX_PENDING);
        assert_eq!((got.packets + got.pending) as u64 + got.skipped, buf.len() as u64);
        out.extend_from_slice(&buf[..got.packets]);
        buf.truncate(got.packets + got.pending);
        buf.drain(..got.packets);
    }
    let got = aligner.finish(&mut buf);
    assert_eq!(got.pending, 0);
    out.extend_from_slice(&buf[..got.packets]);
    let (packets, rest) = out.as_chunks::<PACKET_LEN>();
    assert!(rest.is_empty() && packets.iter().all(|p| p[0] == SYNC_BYTE));
    assert_eq!(out.len() as u64 + aligner.skipped(), stream.len() as u64);
    out
}

/// The first byte says how many packets a call gets; events do not depend on
/// it, and prefaces are whole packets that a fresh indexer reads as the same
/// PSI.
pub(crate) fn indexer(data: &[u8]) {
    let Some((&split, stream)) = data.split_first() else { return };
    // Sync bytes in place let the fuzzer get at what is behind them.
    let mut stream = stream[..stream.len() / PACKET_LEN * PACKET_LEN].to_vec();
    stream.as_chunks_mut::<PACKET_LEN>().0.iter_mut().for_each(|p| p[0] = SYNC_BYTE);

    let (mut whole, mut expected) = (Indexer::with_units(), Vec::new());
    whole.scan(&stream, &mut expected);
    let (mut parts, mut events) = (Indexer::with_units(), Vec::new());
    stream.chunks((1 + usize::from(split)) * PACKET_LEN).for_each(|c| parts.scan(c, &mut events));
    assert_eq!(events, expected);
    assert_eq!(parts.stats(), whole.stats());
    assert_eq!(whole.offset(), stream.len() as u64);

    let mut join_points = 0;
    let (mut last_psi, mut last_unit) = (None, None);
    for event in events {
        match event {
            Event::Join(point) => {
                join_points += 1;
                let at = usize::try_from(point.offset).expect("an offset within the input");
                let packet = Packet::first_of(&stream[at..]).expect("a whole packet");
                assert!(packet.payload_unit_start());
                assert!(point.continuity.iter().count() <= Continuity::CAPACITY);
            }
            Event::Unit { point, time } => {
                last_unit = Some(point.offset);
                assert!(point.offset < stream.len() as u64 && time.is_none_or(|t| t < STAMP_MODULUS));
            }
            Event::RandomAccess(offset) => assert_eq!(last_unit, Some(offset), "of the newest unit"),
            Event::Psi { psi, .. } => {
                assert!(psi.tracked().len() <= Continuity::CAPACITY);
                assert_ne!(last_psi.as_ref(), Some(&psi), "announced without a change");
                last_psi = Some(psi);
            }
            Event::Pcr { offset, pcr, .. } => {
                assert!(offset < stream.len() as u64 && pcr.ticks() < Pcr::MODULUS);
            }
        }
    }
    assert_eq!(join_points, whole.stats().join_points);
    for discontinuity in [Discontinuity::None, Discontinuity::Signalled] {
        let Some(psi) = &last_psi else { break };
        let preface = psi.preface(&Continuity::new(), discontinuity);
        assert_eq!(preface.len() % PACKET_LEN, 0);
        let mut fresh = Indexer::new();
        fresh.scan(&preface, &mut Vec::new());
        assert_eq!((fresh.stats().continuity_errors, fresh.stats().bad_sections), (0, 0));
        if let Some(read) = fresh.psi() {
            assert_eq!(read, psi);
        }
    }
}

/// Clips whose first packets are tables: video on PID 0x100 and AAC on 0x101,
/// or sound on 0x100.
const TABLES: [&[u8]; 7] = [
    include_bytes!("../tests/data/h264.ts"),
    include_bytes!("../tests/data/hevc.ts"),
    include_bytes!("../tests/data/mpeg2.ts"),
    include_bytes!("../tests/data/formats/aac.ts"),
    include_bytes!("../tests/data/formats/aac-latm.ts"),
    include_bytes!("../tests/data/formats/mp3.ts"),
    include_bytes!("../tests/data/formats/eac3-dvb.ts"),
];

/// The first byte says which tables are in force and whether the rest is
/// packets, or an elementary stream that is put into packets of each PID.
/// Formats are within their ranges, and the list of them is whole or none.
pub(crate) fn formats(data: &[u8]) {
    let Some((&how, stream)) = data.split_first() else { return };
    let tables = TABLES[usize::from(how >> 1) % TABLES.len()];
    let mut packets = stream.to_vec();
    if how & 1 == 0 {
        packets.as_chunks_mut::<PACKET_LEN>().0.iter_mut().for_each(|p| p[0] = SYNC_BYTE);
    } else {
        packets = [packetized(0, stream), packetized(1, stream)].concat();
    }
    let mut indexer = Indexer::new();
    indexer.scan(&tables[..4 * PACKET_LEN], &mut Vec::new());
    let psi = Arc::clone(indexer.psi().expect("tables in the first packets"));
    check_formats(&psi, &packets);
    // As the packets themselves have it.
    let mut indexer = Indexer::new();
    indexer.scan(&packets, &mut Vec::new());
    if let Some(psi) = indexer.psi() {
        check_formats(psi, &packets);
    }
}

fn check_formats(psi: &Psi, packets: &[u8]) {
    let found = Formats::of(psi, packets);
    let whole = packets.len() / PACKET_LEN * PACKET_LEN;
    assert_eq!(found, Formats::of(psi, &packets[..whole]), "a part of a packet was read");
    assert!(found.audio.len() <= psi.audio().len());
    if let Some(video) = &found.video {
        assert!(psi.video().is_some() && video.width > 0 && video.height > 0);
        assert!(video.codec.as_ref().is_none_or(|codec| (7..=40).contains(&codec.len())));
        assert!(video.frame_rate.is_none_or(|rate| (1000..=300_000).contains(&rate.thousandths())));
    }
    let Some(codecs) = found.codecs() else { return };
    assert_eq!(found.video.is_some(), psi.video().is_some());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let names: Vec<_> = codecs.split(',').collect();
    assert!(names.iter().all(|name| !name.is_empty() && name.chars().all(is_plain)), "{codecs}");
    let video = found.video.as_ref().map(|video| video.codec.as_deref());
    let all = video.into_iter().chain(found.audio.iter().map(|audio| audio.codec));
    assert!(all.into_iter().all(|name| name.is_some_and(|name| names.contains(&name))), "{codecs}");
}

/// `stream` as PES packets of PID 0x100 or 0x101, one TS packet each.
fn packetized(pid: u8, stream: &[u8]) -> Vec<u8> {
    let mut packets = Vec::new();
    for part in stream.chunks(PACKET_LEN - 15) {
        let stuffing = PACKET_LEN - 15 - part.len();
        packets.extend_from_slice(&[SYNC_BYTE, 0x41, pid, 0x30]);
        packets.extend_from_slice(&[u8::try_from(stuffing + 1).expect("less than a packet"), 0]);
        packets.resize(packets.len() + stuffing, 0xFF);
        packets.extend_from_slice(&[0, 0, 1, 0xE0 - 0x20 * pid, 0, 0, 0x80, 0, 0]);
        packets.extend_from_slice(part);
    }
    packets
}

/// Bodies, each up to a zero byte. Its first byte says how many seconds passed
/// (bits 0 to 4) and whether what is asked for comes to nothing (bit 6). How
/// lines end changes nothing; each segment has its turn once, in order, and is
/// asked for twice at most.
pub(crate) fn hls(data: &[u8]) {
    let mut follower = Follower::new();
    let mut now = Duration::ZERO;
    let (mut asked, mut last_turn, mut turns) = (Vec::new(), None, 0);
    for chunk in data.split(|&b| b == 0) {
        let Some((&step, body)) = chunk.split_first() else { continue };
        now += Duration::from_secs(u64::from(step & 0x1F));
        let mut effects = Vec::new();
        match playlist(body) {
            Some(Playlist::Media(list)) => {
                follower.on(source::Event::Listed { list: &list, asked: now }, now, &mut effects);
            }
            _ => follower.on(source::Event::NotListed { asked: now }, now, &mut effects),
        }
        assert!(follower.poll_at().is_none_or(|at| now + Duration::from_secs(1) <= at));
        loop {
            for effect in effects.drain(..) {
                match effect {
                    Effect::Fetch(fetch) => {
                        assert!(is_request_target(&fetch.uri));
                        asked.push(fetch);
                    }
                    Effect::Turn { ticket, breaks } => {
                        assert!(last_turn < Some(ticket), "turns in order");
                        assert!(last_turn.is_some() || breaks.is_none(), "the first follows nothing");
                        last_turn = Some(ticket);
                        turns += 1;
                    }
                    Effect::Skip(ticket) => assert!(asked.iter().all(|fetch| fetch.ticket != ticket)),
                }
            }
            assert!(asked.len() <= IN_FLIGHT);
            // The newest first, so that one waits for another's turn.
            let Some(fetch) = asked.pop() else { break };
            let happening = match step & 0x40 {
                0 => source::Event::Fetched(fetch.ticket),
                _ => source::Event::Failed(fetch.ticket),
            };
            follower.on(happening, now, &mut effects);
            let again = effects.iter().filter(|e| matches!(e, Effect::Fetch(f) if f.ticket == fetch.ticket));
            let may_be = usize::from(step & 0x40 != 0 && fetch.attempt == Attempt::First);
            assert_eq!(again.count(), may_be);
        }
        // All that was due is settled, so each had its turn or was skipped.
        let stats = follower.stats();
        assert!(turns <= stats.due && stats.due <= turns + stats.skipped && stats.left == 0);
        assert!(follower.verdict(now) != source::Verdict::Starting || stats.due == 0);
    }
}

fn playlist(body: &[u8]) -> Option<Playlist> {
    let list = parse(body, "/ace/m/x/k.m3u8?q");
    let crlf = body.iter().flat_map(|&b| if b == b'\n' { vec![b'\r', b] } else { vec![b] });
    assert_eq!(list, parse(&crlf.collect::<Vec<_>>(), "/ace/m/x/k.m3u8?q"));
    match &list {
        Ok(Playlist::Media(list)) => {
            let longest = Duration::from_secs(600);
            assert!(list.segments.len() <= MAX_ENTRIES && list.target <= longest);
            assert!(list.segments.is_sorted_by(|a, b| a.sequence < b.sequence));
            assert!(list.segments.iter().all(|s| is_request_target(&s.uri) && s.duration <= longest));
        }
        Ok(Playlist::Master(list)) => {
            assert!(list.variants.len() <= MAX_ENTRIES);
            assert!(list.variants.iter().all(|v| is_request_target(&v.uri)));
            assert_eq!(list.best().is_none(), list.variants.is_empty());
        }
        Err(_) => {}
    }
    list.ok()
}

fn is_request_target(uri: &str) -> bool {
    uri.starts_with('/') && uri.len() <= MAX_URI && uri.bytes().all(|b| b' ' < b && b < 0x7F)
}
