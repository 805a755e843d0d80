/**
 * A transport stream mended for players that forgive nothing.
 *
 * Where the server goes on at another engine, or an engine's source starts
 * anew, time stamps jump, and mpegts.js does not know: it drops sound until
 * the old time comes again. So stamps are moved before it sees them, those of
 * all PIDs by the same offset, so that sound and picture stay together.
 *
 * And a picture that breaks off there, or that has lost a packet on the way
 * through the swarm, is left out, with all that may be made from it: at half a
 * picture a browser's decoder gives up for good.
 */

const PACKET = 188;
/** Stamps count 90 kHz in 33 bits. Source: ISO/IEC 13818-1 §2.4.3.7. */
const SECOND = 90_000;
const MODULUS = 2 ** 33;
/** The first stamp becomes this: other PIDs may begin a little earlier. */
const BEGINNING = 10 * SECOND;
/** A step of more is a jump. */
const STEP = 2 * SECOND;
/** So is one of more than this, if it is also so many times the one before: pictures are missing. */
const LEAP = SECOND / 10;
const LEAP_STEPS = 2.5;
/** What was sent before the jump of another PID is no newer than this. */
const LATE = SECOND;
/** A PID may fall back so far to be with one that has jumped. */
const FALL = 10 * SECOND;
/** Taken for the length of a frame where it is not known. */
const FRAME = SECOND / 25;

/** The newest stamp of a PID. */
interface Newest {
    /** As it went out. */
    stamp: number;
    /** From the one before it, where there was one. */
    step: number | null;
    /** The offset it went out with. */
    offset: number;
}

/** Moves the stamps of one stream, which is given in order. */
export class Mender {
    private rest = new Uint8Array(0);
    private offset: number | null = null;
    /** The newest stamp of any PID. */
    private latest = BEGINNING;
    private previous: number | null = null;
    /** The stamp with which the offset was changed. */
    private changedAt = 0;
    private readonly newest = new Map<number, Newest>();
    /** The packets of each PID's PES packet that has yet to end. */
    private readonly open = new Map<number, Uint8Array[]>();
    /** PIDs of which something is missing, and nothing wanted until it may begin anew. */
    private readonly unwanted = new Set<number>();
    /** PIDs that mark where a decoder may begin. */
    private readonly marked = new Set<number>();
    private out: Uint8Array[] = [];
    /** PIDs that have signalled a discontinuity since their last stamp. */
    private readonly broken = new Set<number>();
    /** The newest continuity counter of each PID. */
    private readonly counters = new Map<number, number>();

    /** The PES packets that `bytes` completes, and what is none, with even stamps. */
    pass(bytes: Uint8Array): Uint8Array {
        const all = new Uint8Array(this.rest.length + bytes.length);
        all.set(this.rest);
        all.set(bytes, this.rest.length);
        const whole = all.length - (all.length % PACKET);
        for (let at = 0; at < whole; at += PACKET) {
            this.packet(all.subarray(at, at + PACKET));
        }
        this.rest = all.slice(whole);
        return this.taken();
    }

    /** What is left at the end of the stream. */
    end(): Uint8Array {
        for (const packets of this.open.values()) {
            this.out.push(...packets);
        }
        this.open.clear();
        return this.taken();
    }

    private taken(): Uint8Array {
        const taken = new Uint8Array(this.out.length * PACKET);
        this.out.forEach((packet, i) => taken.set(packet, i * PACKET));
        this.out = [];
        return taken;
    }

    private packet(packet: Uint8Array): void {
        const [sync = 0, high = 0, low = 0, flags = 0, length = 0, adaptation = 0] = packet;
        const hasAdaptation = (flags & 0x20) !== 0;
        const pid = ((high & 0x1f) << 8) | low;
        if (sync === 0x47 && hasAdaptation && length > 0 && (adaptation & 0x80) !== 0) {
            this.broken.add(pid);
            this.counters.delete(pid);
            this.leaveOut(pid);
        } else if (sync === 0x47 && (flags & 0x10) !== 0 && !this.isNext(pid, flags & 15)) {
            this.leaveOut(pid);
        }
        if (sync === 0x47 && hasAdaptation && length > 6 && (adaptation & 0x10) !== 0) {
            // All that mpegts.js reads there is whether it has wrapped.
            writeBase(packet.subarray(6, 11), this.latest);
        }
        const payload = packet.subarray(hasAdaptation ? 5 + length : 4);
        const beginsUnit = sync === 0x47 && (high & 0x40) !== 0 && (flags & 0x10) !== 0;
        if (beginsUnit && payload[0] === 0 && payload[1] === 0 && payload[2] === 1) {
            this.out.push(...(this.open.get(pid) ?? []));
            this.open.delete(pid);
            const isJoin = hasAdaptation && length > 0 && (adaptation & 0x40) !== 0;
            if (this.begins(pid, isJoin)) {
                this.open.set(pid, [packet]);
                this.unit(pid, payload);
            }
        } else if (!this.unwanted.has(pid)) {
            (this.open.get(pid) ?? this.out).push(packet);
        }
    }

    /** Whether nothing is missing before a packet with this counter; one may come twice. */
    private isNext(pid: number, counter: number): boolean {
        const last = this.counters.get(pid);
        this.counters.set(pid, counter);
        return last === undefined || counter === last || counter === ((last + 1) & 15);
    }

    /**
     * Whether a PES packet is wanted: after a loss only one that a decoder may
     * begin with, on PIDs where such are marked.
     */
    private begins(pid: number, isJoin: boolean): boolean {
        if (isJoin) {
            this.marked.add(pid);
        }
        if (isJoin || !this.marked.has(pid)) {
            this.unwanted.delete(pid);
        }
        return !this.unwanted.has(pid);
    }

    /** Leaves out what has come of a PES packet, and what still comes of it; tables are for others to check. */
    private leaveOut(pid: number): void {
        if (this.newest.has(pid)) {
            this.open.delete(pid);
            this.unwanted.add(pid);
        }
    }

    /** The beginning of a PES packet: ISO/IEC 13818-1 §2.4.3.6. */
    private unit(pid: number, pes: Uint8Array): void {
        const which = (pes[7] ?? 0) >> 6;
        if (which < 2 || pes.length < (which === 3 ? 19 : 14)) {
            return;
        }
        const pts = pes.subarray(9, 14);
        const dts = which === 3 ? pes.subarray(14, 19) : pts;
        const offset = this.offsetFor(pid, read(dts));
        write(pts, read(pts) + offset);
        if (which === 3) {
            write(dts, read(dts) + offset);
        }
    }

    private offsetFor(pid: number, stamp: number): number {
        this.offset ??= BEGINNING - stamp;
        const last = this.newest.get(pid);
        const isBroken = this.broken.delete(pid);
        if (last === undefined) {
            return this.went(pid, stamp, this.offset, null);
        }
        const step = difference(stamp + this.offset, last.stamp);
        // Once another PID has jumped, this one lands where it may.
        const mayFall = !isBroken || last.offset !== this.offset;
        const isLeap = last.step !== null && step > LEAP && step > LEAP_STEPS * last.step;
        if (Math.abs(step) <= STEP && !isLeap && (step >= 0 || mayFall)) {
            return this.went(pid, stamp, this.offset, step > 0 ? step : last.step);
        }
        if (last.offset !== this.offset && this.previous !== null) {
            const older = difference(stamp + this.previous, last.stamp);
            const late = difference(stamp + this.previous, this.changedAt);
            if (!isBroken && Math.abs(older) <= STEP && late <= LATE) {
                return this.went(pid, stamp, this.previous, last.step);
            }
            if (step <= STEP && step >= -FALL) {
                return this.went(pid, stamp, this.offset, last.step);
            }
        }
        const goesOnAt = last.stamp + (last.step ?? FRAME);
        this.previous = this.offset;
        this.offset = goesOnAt - stamp;
        this.changedAt = modulo(goesOnAt);
        return this.went(pid, stamp, this.offset, last.step);
    }

    private went(pid: number, stamp: number, offset: number, step: number | null): number {
        this.latest = modulo(stamp + offset);
        this.newest.set(pid, { stamp: this.latest, step, offset });
        return offset;
    }
}

function modulo(stamp: number): number {
    return ((stamp % MODULUS) + MODULUS) % MODULUS;
}

/** From `b` to `a` by the shorter way around. */
function difference(a: number, b: number): number {
    const ahead = modulo(a - b);
    return ahead > MODULUS / 2 ? ahead - MODULUS : ahead;
}

/** 33 bits among marker bits, in five bytes. */
function read(field: Uint8Array): number {
    const [a = 0, b = 0, c = 0, d = 0, e = 0] = field;
    return ((a >> 1) & 7) * 2 ** 30 + (b << 22) + ((c >> 1) << 15) + (d << 7) + (e >> 1);
}

/** The 33 bits of a PCR's base; the extension stays. */
function writeBase(field: Uint8Array, base: number): void {
    const high = Math.floor(base / 2);
    field[0] = high >>> 24;
    field[1] = (high >>> 16) & 0xff;
    field[2] = (high >>> 8) & 0xff;
    field[3] = high & 0xff;
    field[4] = ((field[4] ?? 0) & 0x7f) | ((base % 2) << 7);
}

function write(field: Uint8Array, value: number): void {
    const stamp = modulo(value);
    const low = stamp % 2 ** 30;
    const high = Math.floor(stamp / 2 ** 30);
    field[0] = ((field[0] ?? 0) & 0xf1) | (high << 1);
    field[1] = low >> 22;
    field[2] = ((low >> 14) & 0xfe) | 1;
    field[3] = (low >> 7) & 0xff;
    field[4] = ((low << 1) & 0xfe) | 1;
}
