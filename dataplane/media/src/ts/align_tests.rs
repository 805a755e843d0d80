//! The promises of alignment, each against streams whose packets are known.

use proptest::prelude::*;

use super::*;

/// Small, seeded and good enough to make test bytes.
pub(super) struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let x = self.0 ^ (self.0 >> 32);
        x.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 16
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    fn packet(&mut self) -> Vec<u8> {
        let mut p = self.bytes(PACKET_LEN);
        p[..4].copy_from_slice(&[SYNC_BYTE, 0x01, 0x00, 0x10]);
        p
    }
}

/// Feeds `input` in pieces of the given sizes, repeated, and returns all that
/// came out with the bytes skipped.
fn feed(input: &[u8], sizes: &[usize]) -> (Vec<u8>, u64) {
    let mut aligner = Aligner::new();
    let (mut out, mut buf, mut rest) = (Vec::new(), Vec::new(), input);
    let mut skipped = 0;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
        rest = later;
        buf.extend_from_slice(now);
        let got = aligner.align(&mut buf);
        assert_eq!(got.packets % PACKET_LEN, 0);
        assert_eq!(got.packets + got.pending + usize::try_from(got.skipped).unwrap(), buf.len());
        assert!(got.pending <= MAX_PENDING, "{} bytes pending", got.pending);
        skipped += got.skipped;
        out.extend_from_slice(&buf[..got.packets]);
        buf.truncate(got.packets + got.pending);
        buf.drain(..got.packets);
    }
    let got = aligner.finish(&mut buf);
    assert_eq!(got.pending, 0);
    out.extend_from_slice(&buf[..got.packets]);
    skipped += got.skipped;
    assert_eq!(aligner.skipped(), skipped);
    assert!(out.chunks(PACKET_LEN).all(|p| p[0] == SYNC_BYTE), "every packet starts with the sync byte");
    assert_eq!(out.len() + usize::try_from(skipped).unwrap(), input.len(), "bytes in = out + skipped");
    (out, skipped)
}

/// The rules of the module once more, without haste: the whole input at once,
/// positions instead of buffers.
fn oracle(input: &[u8]) -> Vec<u8> {
    let sync = |i: usize| input.get(i) == Some(&SYNC_BYTE);
    let run = |i: usize| (0..4).take_while(|k| sync(i + k * 188)).count();
    let legal = |i: usize| match (input.get(i + 3).map(|c| c >> 4 & 3), input.get(i + 4)) {
        (Some(1), Some(_)) => true,
        (Some(2), Some(&n)) => n == 183,
        (Some(3), Some(&n)) => n < 183,
        _ => false,
    };
    let inside = |i: usize| i + 1..(i + 188).min(input.len());
    let mut out = Vec::new();
    let mut at = 0;
    let mut synced = sync(0);
    while at < input.len() {
        let packet = input.get(at..at + 188);
        if synced {
            let ends = at + 188 == input.len();
            let whole = packet.is_some()
                && (ends || sync(at + 188) || (legal(at) && !inside(at).any(|r| run(r) == 4)));
            if whole {
                out.extend_from_slice(packet.unwrap());
            }
            synced = whole && sync(at + 188);
            at += if whole { 188 } else { 1 };
        } else {
            let here = run(at);
            let enough = here > 2 || (here == 2 && legal(at) && legal(at + 188));
            synced = enough && !inside(at).any(|r| run(r) > here);
            at += usize::from(!synced);
        }
    }
    out
}

#[test]
fn an_aligned_stream_passes_untouched_whatever_the_reads() {
    let mut noise = Noise(1);
    let stream: Vec<u8> = (0..60).flat_map(|_| noise.packet()).collect();
    for sizes in [&[1][..], &[7], &[187], &[188], &[189], &[1315, 1316, 1317], &[16_384], &[1 << 20]] {
        assert_eq!(feed(&stream, sizes), (stream.clone(), 0), "reads of {sizes:?}");
    }
}

#[test]
fn a_packet_waits_for_one_byte_and_finish_releases_it() {
    let mut noise = Noise(2);
    let mut buf = noise.packet();
    let mut aligner = Aligner::new();
    assert_eq!(aligner.align(&mut buf), Aligned { packets: 0, pending: 188, skipped: 0 });
    buf.push(SYNC_BYTE);
    assert_eq!(aligner.align(&mut buf), Aligned { packets: 188, pending: 1, skipped: 0 });
    assert_eq!(aligner.finish(&mut [SYNC_BYTE]), Aligned { packets: 0, pending: 0, skipped: 1 });
    assert_eq!(aligner.finish(&mut noise.packet()), Aligned { packets: 188, pending: 0, skipped: 0 });
    assert_eq!((aligner.skipped(), aligner.resyncs()), (1, 0));
}

#[test]
fn only_damaged_packets_are_lost() {
    let mut noise = Noise(3);
    let p: Vec<Vec<u8>> = (0..12).map(|_| noise.packet()).collect();
    let all = |range: std::ops::Range<usize>| p[range].concat();
    let zeros = |n: usize| vec![0u8; n];
    let mut damaged_sync = all(0..12);
    damaged_sync[3 * 188] = 0x46;
    let chance = [vec![SYNC_BYTE], zeros(99)].concat();
    for (name, input, output) in [
        ("clean", all(0..12), all(0..12)),
        ("one byte between", [all(0..3), zeros(1), all(3..12)].concat(), all(0..12)),
        ("a whole packet of zeros between", [all(0..3), zeros(188), all(3..12)].concat(), all(0..12)),
        ("a chance sync byte between", [all(0..3), chance.clone(), all(3..12)].concat(), all(0..12)),
        ("one in step with the packets", [all(0..3), chance, zeros(200), all(3..12)].concat(), all(0..12)),
        ("starts in mid-packet", all(0..12)[50..].to_vec(), all(1..12)),
        (
            "a packet cut short",
            [&p[0], &p[1], &p[2][..70], &all(3..12)[..]].concat(),
            [all(0..2), all(3..12)].concat(),
        ),
        ("a damaged sync byte", damaged_sync, [all(0..3), all(4..12)].concat()),
        (
            "two packets between gaps",
            [all(0..3), zeros(9), all(3..5), zeros(9), all(5..12)].concat(),
            all(0..12),
        ),
        ("cut short at the end", all(0..12)[..2000].to_vec(), all(0..10)),
        ("two packets after foreign bytes", [zeros(30), all(0..2)].concat(), all(0..2)),
    ] {
        let got = feed(&input, &[1 << 20]).0;
        assert_eq!(got.len() / 188, output.len() / 188, "{name}");
        assert_eq!(got, output, "{name}");
    }
}

#[test]
fn bytes_without_packets_are_dropped_as_they_come() {
    let zeros = vec![0u8; 65_536];
    assert_eq!(feed(&zeros, &[1000]), (vec![], 65_536));
    let text = b"#EXTM3U\n#EXT-X-VERSION:3\nGood Gracious, no packets here\n".repeat(1200);
    assert_eq!(feed(&text, &[4096]).0, []);
}

/// Over many gaps of random bytes: no good packet is lost, and false ones stay
/// within the odds that the module states.
#[test]
fn random_bytes_between_packets_cost_no_good_packet() {
    let mut noise = Noise(4);
    let (mut false_packets, gaps) = (0, 600);
    for gap in 0..gaps {
        let (before, after): (Vec<_>, Vec<_>) =
            ((0..8).map(|_| noise.packet()).collect(), (0..8).map(|_| noise.packet()).collect());
        let foreign_len = 1 + usize::try_from(noise.next() % 4096).unwrap();
        let foreign = noise.bytes(foreign_len);
        let (got, _) = feed(&[before.concat(), foreign, after.concat()].concat(), &[65_536]);
        let got: Vec<_> = got.chunks(PACKET_LEN).collect();
        assert!(got.starts_with(&before.iter().map(|p| &p[..]).collect::<Vec<_>>()), "gap {gap}");
        assert!(got.ends_with(&after.iter().map(|p| &p[..]).collect::<Vec<_>>()), "gap {gap}");
        false_packets += got.len() - 16;
    }
    // 600 gaps of 2 KiB: about 600 × (1/600 + 2048 × 3e-6) are to be expected.
    assert!(false_packets <= 15, "{false_packets} false packets in {gaps} gaps");
}

#[test]
fn a_stream_that_starts_in_mid_packet_is_found_within_the_first_packet_boundary() {
    let mut noise = Noise(5);
    let stream: Vec<u8> = (0..20).flat_map(|_| noise.packet()).collect();
    for start in 1..PACKET_LEN {
        let (out, skipped) = feed(&stream[start..], &[1316]);
        if stream[start] != SYNC_BYTE {
            assert_eq!(skipped, (PACKET_LEN - start) as u64);
            assert_eq!(out, &stream[PACKET_LEN..]);
        }
    }
}

/// Packets, cut packets and foreign bytes rich in sync bytes, in any order.
fn damaged_stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = (any::<u64>(), 0u8..8, 1usize..700);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| {
        let mut out = Vec::new();
        for (seed, kind, len) in pieces {
            let mut noise = Noise(seed);
            match kind {
                0 => out.extend(noise.bytes(len)),
                1 => out.extend(noise.bytes(len).iter().map(|b| if b % 4 == 0 { SYNC_BYTE } else { *b })),
                2 => out.extend(&noise.packet()[..1 + len % 188]),
                3 => out.extend(vec![SYNC_BYTE; len]),
                _ => (0..=len % 6).for_each(|_| out.extend(noise.packet())),
            }
        }
        out
    })
}

proptest! {
    #[test]
    fn how_the_input_is_split_changes_nothing(
        stream in damaged_stream(),
        sizes in prop::collection::vec(1usize..900, 1..20),
    ) {
        let expected = oracle(&stream);
        prop_assert_eq!(&feed(&stream, &[usize::MAX]).0, &expected);
        prop_assert_eq!(&feed(&stream, &sizes).0, &expected);
        prop_assert_eq!(&feed(&stream, &[1]).0, &expected);
    }

    #[test]
    fn arbitrary_bytes_are_counted_to_the_last(
        bytes in prop::collection::vec(prop_oneof![Just(SYNC_BYTE), any::<u8>()], 0..4000),
        size in 1usize..500,
    ) {
        prop_assert_eq!(feed(&bytes, &[size]).0, oracle(&bytes));
    }
}
