//! The tables of a broadcast: PAT and PMT, each in one packet.

use super::{AUDIO_PID, Edit, PACKET_BYTES, PMT_PID, VIDEO_PID, edit::TableChange};

/// What the PIDs of the second of two programmes are above those of the first,
/// and of a changed table above the usual ones.
const SECOND_PROGRAMME: u16 = 0x100;
const MOVED: u16 = 0x10;

const AVC: u8 = 0x1b;
const HEVC: u8 = 0x24;
const AAC: u8 = 0x0f;
const MPEG_AUDIO: u8 = 0x03;

static PAT: [u8; PACKET_BYTES] =
    section(0, &[0x00, 0xb0, 13, 0, 1, 0xc1, 0, 0, 0, 1, 0xe0 | high(PMT_PID), low(PMT_PID)]);
static PAT_OF_TWO: [u8; PACKET_BYTES] = {
    let second = PMT_PID + 1;
    let first = [0xe0 | high(PMT_PID), low(PMT_PID)];
    #[rustfmt::skip]
    let body = [0x00, 0xb0, 17, 0, 1, 0xc1, 0, 0,
        0, 1, first[0], first[1], 0, 2, 0xe0 | high(second), low(second)];
    section(0, &body)
};
static PMT: [u8; PACKET_BYTES] = {
    #[rustfmt::skip]
    let body = [0x02, 0xb0, 23, 0, 1, 0xc1, 0, 0, 0xe0 | high(VIDEO_PID), low(VIDEO_PID), 0xf0, 0,
        AVC, 0xe0 | high(VIDEO_PID), low(VIDEO_PID), 0xf0, 0,
        AAC, 0xe0 | high(AUDIO_PID), low(AUDIO_PID), 0xf0, 0];
    section(PMT_PID, &body)
};

/// Where the streams of a programme are.
pub(super) struct Pids {
    pub(super) video: u16,
    pub(super) audio: u16,
}

/// The PIDs of programme 0 or 1 in epoch `epoch`.
pub(super) fn pids(edit: &Edit, programme: u16, epoch: u64) -> Pids {
    let moved = match edit {
        Edit::Tables { change, .. } if change.moves_pids() && epoch % 2 == 1 => MOVED,
        _ => 0,
    };
    let by = moved + programme * SECOND_PROGRAMME;
    Pids { video: VIDEO_PID + by, audio: AUDIO_PID + by }
}

/// The PAT, with continuity counter 0.
pub(super) fn pat(edit: &Edit) -> &'static [u8; PACKET_BYTES] {
    if *edit == Edit::TwoPrograms { &PAT_OF_TWO } else { &PAT }
}

/// The PMT of programme 0 or 1 in epoch `epoch`, with continuity counter 0.
pub(super) fn pmt(edit: &Edit, programme: u16, epoch: u64) -> [u8; PACKET_BYTES] {
    let (has_video, has_audio) = (edit.has_video(), edit.has_audio());
    let change = match edit {
        Edit::Tables { change, .. } => *change,
        Edit::TwoPrograms => TableChange::Version,
        _ if has_video && has_audio => return PMT,
        _ => TableChange::Version,
    };
    let version = if matches!(edit, Edit::Tables { .. }) { (epoch & 31) as u8 } else { 0 };
    let (video_type, audio_type) =
        if change.is_of_codec() && epoch % 2 == 1 { (HEVC, MPEG_AUDIO) } else { (AVC, AAC) };
    let Pids { video, audio } = pids(edit, programme, epoch);
    let mut body = [0; 22];
    let number = low(programme + 1);
    let head = [0x02, 0xb0, 0, 0, number, 0xc1 | version << 1, 0, 0, 0xe0 | high(video), low(video), 0xf0, 0];
    body[..12].copy_from_slice(&head);
    let mut end = 12;
    for (kind, pid) in [has_video.then_some((video_type, video)), has_audio.then_some((audio_type, audio))]
        .into_iter()
        .flatten()
    {
        body[end..end + 5].copy_from_slice(&[kind, 0xe0 | high(pid), low(pid), 0xf0, 0]);
        end += 5;
    }
    // What follows the length: all but three bytes, and the checksum.
    body[2] = u8::try_from(end + 1).unwrap_or(0);
    section(PMT_PID + programme, &body[..end])
}

/// The table of this PID but for its continuity counter, if there is one. An
/// adaptation field before it, as a server adds to signal a discontinuity, only
/// takes the place of stuffing.
pub(super) fn is_whole_table(edit: &Edit, p: &[u8; PACKET_BYTES]) -> bool {
    let field = if p[3] & 0x20 == 0 { 0 } else { 1 + usize::from(p[4]) };
    let Some(payload) = p.get(4 + field..) else { return false };
    let same = |t: &[u8; PACKET_BYTES]| {
        let (table, stuffing) = t[4..].split_at(payload.len());
        p[..3] == t[..3] && p[3] & 0xd0 == t[3] && payload == table && stuffing.iter().all(|b| *b == 0xff)
    };
    // A version says which epoch it is as far as that matters.
    let version = payload.get(6).map_or(0, |b| u64::from(b >> 1 & 31));
    same(pat(edit))
        || same(&pmt(edit, 0, version))
        || (*edit == Edit::TwoPrograms && same(&pmt(edit, 1, version)))
}

const fn high(v: u16) -> u8 {
    (v >> 8) as u8
}

const fn low(v: u16) -> u8 {
    (v & 0xff) as u8
}

/// One packet with one section, whose checksum is added, and stuffing.
const fn section(pid: u16, body: &[u8]) -> [u8; PACKET_BYTES] {
    let mut p = [0xff; PACKET_BYTES];
    p[0] = 0x47;
    p[1] = 0x40 | high(pid);
    p[2] = low(pid);
    p[3] = 0x10;
    p[4] = 0;
    let mut crc = u32::MAX;
    let mut i = 0;
    while i < body.len() {
        p[5 + i] = body[i];
        crc ^= (body[i] as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 == 0 { crc << 1 } else { (crc << 1) ^ 0x04c1_1db7 };
            bit += 1;
        }
        i += 1;
    }
    let sum = crc.to_be_bytes();
    let mut i = 0;
    while i < 4 {
        p[5 + body.len() + i] = sum[i];
        i += 1;
    }
    p
}
