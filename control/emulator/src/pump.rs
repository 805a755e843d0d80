//! What a stream sends next: pace, faults and framing, without any I/O.

use std::time::Duration;

use crate::{
    Behaviour,
    behaviour::Framing,
    delivery::{Cut, Delivery, End, Pace},
    life::Weather,
    play::reached,
    rng::Rng,
    source::{self, Source},
};

/// Payload of one write.
const PIECE: u64 = 64 * 1024;
/// Between two looks at a stream that is silent.
const TICK: Duration = Duration::from_millis(100);
/// Bytes of a packet that a cut inside it still sends.
const CUT_IN_PACKET: u64 = 100;
/// Room that is kept for what is left over, in bytes.
const MAX_SPARE: usize = 4096;
const ODD_SIZES: [u64; 8] = [1, 7, 187, 189, 1315, 1317, 16_384, 0];

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write what is in the buffer, which carries so many bytes of payload.
    Write { payload: u64 },
    /// Write nothing for `time`.
    Wait { time: Duration, stalled: bool },
    /// End the stream.
    End(End),
}

pub(crate) struct Pump {
    source: Source,
    delivery: Delivery,
    framing: Framing,
    /// The engine is behind the broadcast by this.
    engine_lag: Duration,
    /// The reader is; more, when it asked for what was on the air before.
    lag: Duration,
    burst: Duration,
    rng: Rng,
    /// The next packet of the programme.
    place: u64,
    /// The first one.
    first: u64,
    /// What has been on the air when the reader came, and its place.
    edge_time: Duration,
    first_edge: u64,
    /// Made and not sent yet: the rest of a packet, mostly.
    carry: Vec<u8>,
    /// Bytes of body sent so far.
    produced: u64,
    /// All that was due has been sent: a tick has to pass before more is, or a
    /// stream would write packet by packet as they come on the air.
    is_caught_up: bool,
    /// When the stall began.
    stall_began: Option<Duration>,
    /// When the next silence begins and ends.
    gap: Option<(Duration, Duration)>,
    pub(crate) is_stalled: bool,
}

impl Pump {
    pub(crate) fn new(
        source: Source,
        behaviour: &Behaviour,
        lag: Duration,
        burst: Duration,
        seed: u64,
    ) -> Self {
        let edge_time = source::now().saturating_sub(lag);
        let place = source.reader_start(source.place_at(edge_time.saturating_sub(burst)));
        let first_edge = source.place_at(edge_time).max(place);
        let mut pump = Self {
            delivery: behaviour.delivery,
            framing: behaviour.framing,
            engine_lag: lag,
            lag,
            burst,
            rng: Rng::new(seed),
            place,
            first: place,
            edge_time,
            first_edge,
            carry: Vec::new(),
            produced: 0,
            is_caught_up: false,
            stall_began: None,
            gap: None,
            is_stalled: false,
            source,
        };
        pump.skip(behaviour.damage.skip);
        pump
    }

    /// The bytes `from..to` of the file that begins at `place`, at line speed.
    pub(crate) fn of_file(source: Source, behaviour: &Behaviour, place: u64, from: u32, to: u32) -> Self {
        let mut pump = Self::new(source, behaviour, Duration::ZERO, Duration::ZERO, 0);
        pump.place = place + u64::from(from) / 188;
        pump.delivery.pace = Pace::Factor(None);
        pump.delivery.cut = Some(Cut { at: crate::At::Bytes(to - from), end: End::Fin });
        pump.skip((from % 188) as u8);
        pump
    }

    /// Leaves out the first `bytes` of the next packet.
    fn skip(&mut self, bytes: u8) {
        if bytes > 0 {
            self.source.emit(self.place, self.first, &mut self.carry);
            self.place += 1;
            self.carry.drain(..usize::from(bytes).min(self.carry.len()));
        }
    }

    /// Goes on in another way. Bytes and times count from now on, the next step
    /// being at zero.
    pub(crate) fn take_up(&mut self, delivery: Delivery) {
        self.delivery = delivery;
        self.first_edge = self.place;
        self.edge_time = source::now().saturating_sub(self.lag);
        self.produced = 0;
        self.is_caught_up = false;
        self.stall_began = None;
        self.gap = None;
    }

    /// Goes on with what was on the air at `position`, `elapsed` after the head.
    pub(crate) fn seek(&mut self, position: Duration, elapsed: Duration) {
        let now = source::now();
        // A burst of what follows comes at line speed, as at the beginning.
        self.lag = self.engine_lag.max(now.saturating_sub(position + self.burst));
        self.leap_to(self.source.place_at(position));
        self.delivery.quiet = Duration::ZERO;
        self.first_edge = self.place;
        self.edge_time = now.saturating_sub(self.lag).saturating_sub(elapsed);
        self.is_caught_up = false;
    }

    /// Goes on at `place` once the packet begun is whole.
    fn leap_to(&mut self, place: u64) {
        self.carry.truncate(self.carry.len() % 188);
        self.place = place;
    }

    /// The next step, `elapsed` after the head was sent.
    pub(crate) fn step(&mut self, elapsed: Duration, weather: Weather, out: &mut Vec<u8>) -> Step {
        // A whole chunk is written at once.
        let piece = match self.framing {
            Framing::Chunked { size, .. } => PIECE.max(u64::from(size)),
            _ => PIECE,
        };
        let mut most = piece;
        let mut is_exact = false;
        if let Some(cut) = self.delivery.cut {
            match self.left_before(cut, elapsed) {
                0 => return Step::End(cut.end),
                left => {
                    is_exact = left <= most;
                    most = most.min(left);
                }
            }
        }
        if let Some((at, lasting)) = self.delivery.stall {
            let (is_reached, left) = reached(at, elapsed, self.produced);
            if is_reached {
                let began = *self.stall_began.get_or_insert(elapsed);
                if lasting.is_none_or(|l| elapsed < began + l) {
                    return Step::Wait { time: TICK, stalled: true };
                }
            } else {
                is_exact |= left <= most;
                most = most.min(left);
            }
        }
        if weather.stalled.is_some() {
            return Step::Wait { time: TICK, stalled: true };
        }
        if let Some(left) = self.silence(elapsed, weather.rate) {
            return Step::Wait { time: left.min(TICK), stalled: true };
        }
        if std::mem::take(&mut self.is_caught_up) {
            return Step::Wait { time: self.tick(weather.tick), stalled: false };
        }
        let edge = self.edge(elapsed, weather.rate);
        let due = length(&self.carry).saturating_add(edge.saturating_sub(self.place).saturating_mul(188));
        if PIECE < piece && !is_exact && due < piece {
            return Step::Wait { time: self.tick(weather.tick), stalled: false };
        }
        if self.delivery.odd_writes {
            let size = ODD_SIZES[usize::try_from(self.rng.below(8)).unwrap_or(0)];
            most = most.min(if size == 0 { 1 + self.rng.below(4096) } else { size });
            is_exact = true;
        }
        if let Some((bytes, apart)) = self.delivery.trickle {
            let steps = elapsed.as_millis() / apart.as_millis().max(1);
            let allowed = u64::try_from(steps).unwrap_or(u64::MAX >> 32).saturating_mul(bytes.into());
            most = most.min(allowed.saturating_sub(self.produced));
            is_exact = true;
        }
        let is_silent = self.make(most, edge, out);
        let made = length(out);
        let is_trickle = self.delivery.trickle.is_some();
        self.is_caught_up = is_trickle || (self.place >= edge && made <= most);
        let payload = if is_exact || made <= 188 || most <= made {
            made.min(most)
        } else {
            // Writes have nothing to do with packets.
            made - self.rng.below(188)
        };
        self.carry.extend(out.drain(usize::try_from(payload).unwrap_or(usize::MAX)..));
        if payload == 0 {
            self.is_caught_up = false;
            return Step::Wait { time: self.tick(weather.tick), stalled: is_silent };
        }
        self.produced += payload;
        self.frame(out);
        Step::Write { payload }
    }

    /// Fills `out` up to `most` bytes with what is left over and packets before
    /// `edge`; true when the source is silent at the edge.
    fn make(&mut self, most: u64, edge: u64, out: &mut Vec<u8>) -> bool {
        out.append(&mut self.carry);
        self.carry.shrink_to(MAX_SPARE);
        while length(out) < most && self.place < edge {
            if let Some(after) = self.source.silent_until(self.place) {
                if edge < after {
                    return true;
                }
                self.place = after;
                continue;
            }
            self.source.emit(self.place, self.first, out);
            self.place += 1;
        }
        false
    }

    /// The place up to which packets are due, of which `rate` thousandths come;
    /// the highest where nothing holds a stream back.
    fn edge(&self, elapsed: Duration, rate: u64) -> u64 {
        let edge = match self.delivery.pace {
            _ if self.delivery.trickle.is_some() => u64::MAX,
            _ if elapsed < self.delivery.quiet => self.first_edge,
            Pace::Live => self.source.place_at(source::now().saturating_sub(self.lag)),
            pace => match pace.programme_time(elapsed) {
                Some(time) => self.source.place_at(self.edge_time + time),
                None => u64::MAX,
            },
        };
        match (rate, edge) {
            (1000, _) | (_, u64::MAX) => edge,
            _ => self.first_edge + edge.saturating_sub(self.first_edge) * rate / 1000,
        }
    }

    /// Between the writes of a stream that has caught up; `usual` where no scenario
    /// says otherwise.
    fn tick(&mut self, usual: Duration) -> Duration {
        match (self.delivery.trickle, self.delivery.jitter) {
            (Some((_, apart)), _) => apart.max(Duration::from_millis(1)),
            (None, Some(most)) => self.rng.up_to(most).max(Duration::from_millis(1)),
            (None, None) => usual,
        }
    }

    /// What is left of a silence, if there is one now.
    fn silence(&mut self, elapsed: Duration, rate: u64) -> Option<Duration> {
        let (first, lasting, range) = match (self.delivery.gaps, self.delivery.leap) {
            (Some(gaps), _) => (gaps.every, gaps.lasting, (1, 5)),
            (None, Some(leap)) => (leap.after, leap.lasting, (30, 80)),
            (None, None) => return None,
        };
        let rng = &mut self.rng;
        let mut length = || {
            let (least, most) = range;
            let random = Duration::from_secs(least) + rng.up_to(Duration::from_secs(most - least));
            lasting.unwrap_or(random)
        };
        let (begins, ends) = *self.gap.get_or_insert_with(|| (first, first + length()));
        if elapsed < begins {
            return None;
        }
        if elapsed < ends {
            return Some(ends - elapsed);
        }
        if let Some(gaps) = self.delivery.gaps {
            let next = elapsed + gaps.every;
            self.gap = Some((next, next + length()));
        } else {
            self.delivery.leap = None;
            let edge = self.edge(elapsed, rate).max(self.place);
            self.leap_to(edge);
        }
        None
    }

    /// Bytes that may still go before the end.
    fn left_before(&self, cut: Cut, elapsed: Duration) -> u64 {
        let (is_reached, left) = reached(cut.at, elapsed, self.produced);
        if cut.end != End::InPacket {
            return if is_reached { 0 } else { left };
        }
        if !is_reached {
            return left;
        }
        let sent_of_packet = (188 - length(&self.carry) % 188) % 188;
        (188 + CUT_IN_PACKET - sent_of_packet) % 188
    }

    /// Puts the payload in `out` into its frame.
    fn frame(&self, out: &mut Vec<u8>) {
        let Framing::Chunked { size, adorned } = self.framing else { return };
        let payload = std::mem::take(out);
        for chunk in payload.chunks(usize::try_from(size).unwrap_or(usize::MAX)) {
            let extension = if adorned { ";name=\"a;b\";flag" } else { "" };
            out.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            out.extend_from_slice(chunk);
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Gaps};

    const FAIR: Weather = Weather { stalled: None, tick: TICK, rate: 1000 };
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_stream_that_goes_on_in_another_way_counts_from_then_on() {
        let source = Source::new(Content::Signed { bitrate_bps: 4_000_000 }, "", &Behaviour::default(), 0);
        let gaps = Some(Gaps { every: MINUTE, lasting: Some(MINUTE) });
        let silenced = Delivery { gaps, ..Delivery::default() };
        let slow = Delivery { pace: Pace::Factor(Some(500)), ..Delivery::default() };
        for (name, delivery, is_stalled) in [("silences", silenced, true), ("half the pace", slow, false)] {
            let behaviour = Behaviour { delivery, ..Behaviour::default() };
            let mut pump = Pump::new(source, &behaviour, Duration::ZERO, Duration::ZERO, 1);
            let mut out = Vec::new();
            // A minute after the head, with nothing sent since.
            pump.edge_time = pump.edge_time.saturating_sub(2 * MINUTE);
            pump.place = source.place_at(pump.edge_time + MINUTE);
            let step = pump.step(MINUTE, FAIR, &mut out);
            assert!(matches!(step, Step::Wait { stalled, .. } if stalled == is_stalled), "{name}: {step:?}");
            // The next silence is four minutes after the head.
            pump.step(3 * MINUTE, FAIR, &mut out);
            pump.take_up(delivery);
            for (elapsed, is_silent) in [(Duration::ZERO, false), (MINUTE, is_stalled)] {
                out.clear();
                let step = pump.step(elapsed, FAIR, &mut out);
                assert_eq!(matches!(step, Step::Write { .. }), !is_silent, "{name}, {elapsed:?}: {step:?}");
            }
        }
    }

    #[test]
    fn a_stream_that_has_caught_up_writes_once_in_a_tick() {
        let content = Content::Signed { bitrate_bps: 1_000_000_000 };
        let source = Source::new(content, "", &Behaviour::default(), 0);
        let mut pump = Pump::new(source, &Behaviour::default(), Duration::ZERO, Duration::ZERO, 1);
        let mut out = Vec::new();
        let mut last = Step::Wait { time: TICK, stalled: false };
        for _ in 0..1000 {
            // More packets have come on the air at every step: 1.5 µs each.
            let edge = source.place_at(source::now());
            while source.place_at(source::now()) < edge + 4 {}
            out.clear();
            let step = pump.step(Duration::ZERO, FAIR, &mut out);
            // A piece that is full does not catch up.
            if matches!(last, Step::Write { payload } if payload < PIECE) {
                assert!(matches!(step, Step::Wait { .. }), "{last:?}, then {step:?}");
            }
            last = step;
        }
    }
}
