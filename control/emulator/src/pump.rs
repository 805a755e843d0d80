//! What a stream sends next: pace, faults and framing, without any I/O.

use std::time::Duration;

use crate::{
    Behaviour,
    behaviour::{Cut, Delivery, Framing},
    life::Weather,
    play::reached,
    rng::Rng,
    source::{self, Source},
};

/// Payload of one write.
const PIECE: u64 = 64 * 1024;
/// Between the writes of a stream that has caught up.
const TICK: Duration = Duration::from_millis(100);
/// Packets between insertions of garbage.
const GARBAGE_EVERY: u64 = 500 * 188;
/// Bytes of a packet that a cut inside it still sends.
const CUT_IN_PACKET: u64 = 100;
const ODD_SIZES: [u64; 8] = [1, 7, 187, 189, 1315, 1317, 16_384, 0];

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write what is in the buffer, which carries so many bytes of payload.
    Write { payload: u64 },
    /// Write nothing for `time`.
    Wait { time: Duration, stalled: bool },
    /// Close the connection.
    End { reset: bool },
}

pub(crate) struct Pump {
    source: Source,
    delivery: Delivery,
    framing: Framing,
    garbage: u32,
    lag: Duration,
    rng: Rng,
    /// Next byte of the programme.
    cursor: u64,
    /// Edge of the programme when the reader came.
    first_edge: u64,
    /// Where garbage comes next.
    garbage_at: u64,
    /// Bytes of body produced so far, the cursor's way and garbage.
    produced: u64,
    began: u64,
    /// All that was due has been sent: a tick has to pass before more is, or a
    /// stream would write packet by packet as they come on the air.
    is_caught_up: bool,
    /// When the stall began.
    stall_began: Option<Duration>,
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
        let edge = source::now().saturating_sub(lag);
        let packet = source.position_at(edge.saturating_sub(burst)) / 188;
        let cursor = packet * 188 + u64::from(behaviour.damage.skip);
        Self {
            source,
            delivery: behaviour.delivery,
            framing: behaviour.framing,
            garbage: behaviour.damage.garbage,
            lag,
            rng: Rng::new(seed),
            cursor,
            first_edge: source.position_at(edge).max(cursor),
            garbage_at: packet * 188 + GARBAGE_EVERY,
            produced: 0,
            began: cursor,
            is_caught_up: false,
            stall_began: None,
            is_stalled: false,
        }
    }

    /// Goes on in another way. Bytes and times count from now on, the next step
    /// being at zero.
    pub(crate) fn take_up(&mut self, delivery: Delivery) {
        self.delivery = delivery;
        self.first_edge = self.cursor;
        self.began = self.cursor;
        self.produced = 0;
        self.is_caught_up = false;
        self.stall_began = None;
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
        let mut tick = weather.tick;
        if let Some(cut) = self.delivery.cut {
            match self.cut(cut, elapsed) {
                0 => return Step::End { reset: cut.reset },
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
        let edge = match self.delivery.trickle {
            Some((bytes, apart)) => {
                tick = apart.max(Duration::from_millis(1));
                let steps = elapsed.as_millis() / tick.as_millis();
                self.began + u64::try_from(steps).unwrap_or(u64::MAX >> 32) * u64::from(bytes)
            }
            None if elapsed < self.delivery.quiet => self.first_edge,
            None => self.source.position_at(source::now().saturating_sub(self.lag)),
        };
        let edge = match weather.rate {
            1000 => edge,
            rate => self.first_edge + edge.saturating_sub(self.first_edge) * rate / 1000,
        };
        let due = edge.saturating_sub(self.cursor);
        if std::mem::take(&mut self.is_caught_up) {
            return Step::Wait { time: tick, stalled: false };
        }
        if PIECE < piece && !is_exact && due < piece {
            return Step::Wait { time: tick, stalled: false };
        }
        most = most.min(due);
        self.is_caught_up = most == due;
        if self.delivery.odd_writes {
            let size = ODD_SIZES[usize::try_from(self.rng.below(8)).unwrap_or(0)];
            most = most.min(if size == 0 { 1 + self.rng.below(4096) } else { size });
            self.is_caught_up &= most == due;
        } else if !is_exact && most == due && self.delivery.trickle.is_none() && most > 188 {
            // Writes have nothing to do with packets.
            most -= self.rng.below(188);
        }
        if self.garbage > 0 {
            most = most.min(self.garbage_at - self.cursor);
            self.is_caught_up &= most == due;
        }
        if most == 0 {
            self.is_caught_up = false;
            return Step::Wait { time: tick, stalled: false };
        }
        self.produce(most, out);
        Step::Write { payload: most }
    }

    /// Bytes that may still go before the end.
    fn cut(&self, cut: Cut, elapsed: Duration) -> u64 {
        let (is_reached, left) = reached(cut.at, elapsed, self.produced);
        if !cut.in_packet {
            return if is_reached { 0 } else { left };
        }
        let beyond = (self.cursor + 188 - CUT_IN_PACKET) % 188;
        if is_reached { if beyond == 0 { 0 } else { 188 - beyond } } else { left }
    }

    fn produce(&mut self, payload: u64, out: &mut Vec<u8>) {
        let (from, to) = (self.cursor, self.cursor + payload);
        self.cursor = to;
        self.produced += payload;
        match self.framing {
            Framing::Close | Framing::Length(_) => self.source.read(from, to, out),
            Framing::Chunked { size, adorned } => {
                let size = u64::from(size);
                let mut at = from;
                while at < to {
                    let end = to.min(at + size);
                    let extension = if adorned { ";name=\"a;b\";flag" } else { "" };
                    out.extend_from_slice(format!("{:x}{extension}\r\n", end - at).as_bytes());
                    self.source.read(at, end, out);
                    out.extend_from_slice(b"\r\n");
                    at = end;
                }
            }
        }
        if self.garbage > 0 && self.cursor == self.garbage_at {
            self.garbage_at += GARBAGE_EVERY;
            self.produced += u64::from(self.garbage);
            for _ in 0..self.garbage {
                let random = self.rng.next();
                // Every eighth looks like the beginning of a packet.
                let byte = if random & 0x700 == 0 { 0x47 } else { (random & 0xff) as u8 };
                out.push(byte);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Content;

    #[test]
    fn a_stream_that_has_caught_up_writes_once_in_a_tick() {
        let source = Source::new(Content::Signed { bitrate_bps: 1_000_000_000 }, "");
        let mut pump = Pump::new(source, &Behaviour::default(), Duration::ZERO, Duration::ZERO, 1);
        let weather = Weather { stalled: None, tick: TICK, rate: 1000 };
        let mut out = Vec::new();
        let mut last = Step::Wait { time: TICK, stalled: false };
        for _ in 0..1000 {
            // More packets have come on the air at every step: 1.5 µs each.
            let edge = source.position_at(source::now());
            while source.position_at(source::now()) < edge + 4 * 188 {}
            out.clear();
            let step = pump.step(Duration::ZERO, weather, &mut out);
            // A piece that is full does not catch up.
            if matches!(last, Step::Write { payload } if payload < PIECE) {
                assert!(matches!(step, Step::Wait { .. }), "{last:?}, then {step:?}");
            }
            last = step;
        }
    }
}
