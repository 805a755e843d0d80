/**
 * Leaves out what has lost a packet on the way through the swarm, with all that
 * may be made from it: at half a picture a browser's decoder gives up, as it
 * does at one made from what it does not have.
 */

const PACKET = 188;

/** How many media segments and parts may be asked for again and come out the same. */
const REMEMBERED = 64;

/** How many losses are remembered, for what else was lost there. */
const LOSSES = 8;

/** Packets of one PID are missing between two places in the stream. */
interface Loss {
    pid: number;
    /** At least so many. */
    missing: number;
    after: number;
    before: number;
}

/** A PES packet, or the end of one that began earlier. */
interface Unit {
    /** A decoder may begin with it. */
    isJoin: boolean;
    /** Its packets, as places in the stream. */
    places: number[];
}

/** What is known of a stream up to one place in it. */
class Known {
    constructor(
        /** Packets so far. */
        public place = 0,
        /** The newest continuity counter of each PID, and where it was. */
        readonly counters = new Map<number, { counter: number; place: number }>(),
        /** PIDs that have lost something, and of which nothing is wanted until they may begin anew. */
        readonly damaged = new Set<number>(),
        /** In the newest media segment: parts of the one before may never have been asked for. */
        public losses: Loss[] = [],
        /** Where that begins. */
        public from = 0,
    ) {}

    copy(): Known {
        const { place, counters, damaged, losses, from } = this;
        return new Known(place, new Map(counters), new Set(damaged), [...losses], from);
    }
}

/** Looks through the media segments or parts of one stream. */
export class Sieve {
    private known = new Known();
    /** What was known before each of the newest ones. */
    private readonly before = new Map<string, Known>();
    private last = { sequence: -1, part: -1 };
    /** PIDs with PES packets. */
    private readonly streams = new Set<number>();
    /** Those of them that mark where a decoder may begin. */
    private readonly marked = new Set<number>();

    /** A part, or a whole segment as its part 0, as far as a decoder can use it. */
    part(sequence: number, part: number, bytes: Uint8Array): Uint8Array<ArrayBuffer> {
        const { last } = this;
        const follows = sequence === last.sequence ? part === last.part + 1 : sequence === last.sequence + 1;
        const name = `${sequence}.${part}`;
        const known = this.before.get(name) ?? (follows ? this.known : new Known());
        this.before.delete(name);
        this.before.set(name, known);
        for (const oldest of [...this.before.keys()].slice(0, -REMEMBERED)) {
            this.before.delete(oldest);
        }
        this.known = known.copy();
        if (sequence !== last.sequence || part === 0) {
            this.known.losses = [];
            this.known.from = known.place;
        }
        this.last = { sequence, part };
        return this.pass(bytes);
    }

    /** Of whole packets those that a decoder can use, as far as can be told from these. */
    private pass(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
        const { known } = this;
        const begins = known.place;
        const packets: (Uint8Array | null)[] = [];
        const units = new Map<number, Unit[]>();
        const leaveOut = (unit: Unit | undefined) =>
            unit?.places.forEach((place) => (packets[place - begins] = null));
        for (let at = 0; at + PACKET <= bytes.length; at += PACKET) {
            const packet = bytes.subarray(at, at + PACKET);
            const pid = (((packet[1] ?? 0) & 0x1f) << 8) | (packet[2] ?? 0);
            const theirs = units.get(pid) ?? [];
            units.set(pid, theirs);
            const loss = this.lossBefore(pid, packet);
            if (loss !== null && this.streams.has(pid)) {
                known.damaged.add(pid);
                leaveOut(theirs[theirs.length - 1]);
            }
            if (beginsUnit(packet)) {
                theirs.push({ isJoin: isJoin(packet), places: [] });
                this.begins(pid, isJoin(packet));
            } else if (theirs.length === 0) {
                theirs.push({ isJoin: false, places: [] });
            }
            theirs[theirs.length - 1]?.places.push(known.place);
            packets.push(known.damaged.has(pid) ? null : packet);
            known.place += 1;
            // The server's own tables, before a segment, have counters of their own.
            if (loss !== null && loss.after >= known.from && this.streams.has(pid)) {
                this.suspect(loss, units).forEach(leaveOut);
            }
        }
        return joined(packets.filter((packet) => packet !== null));
    }

    /**
     * What else has lost packets there: where several in a row are lost, sixteen
     * of one PID, or twice as many, leave its counters even. So where two of other
     * streams are missing, a picture is not trusted. Returns what is not wanted any more.
     */
    private suspect(loss: Loss, units: Map<number, Unit[]>): Unit[] {
        const { known } = this;
        known.losses = [...known.losses.slice(1 - LOSSES), loss];
        const there = known.losses.filter((one) => one.after < loss.before && loss.after < one.before);
        if (there.reduce((sum, one) => sum + one.missing, 0) < 2) {
            return [];
        }
        const after = Math.max(...there.map((one) => one.after));
        const before = Math.min(...there.map((one) => one.before));
        const unwanted: Unit[] = [];
        for (const pid of this.marked) {
            const theirs = units.get(pid) ?? [];
            const first = theirs.findIndex((unit) => (unit.places[unit.places.length - 1] ?? 0) > after);
            if (there.some((one) => one.pid === pid) || first < 0) {
                continue;
            }
            const isClean = (unit: Unit) => unit.isJoin && (unit.places[0] ?? 0) >= before;
            const next = theirs.findIndex((unit, i) => i >= first && isClean(unit));
            if (next < 0) {
                known.damaged.add(pid);
            }
            unwanted.push(...theirs.slice(first, next < 0 ? theirs.length : next));
        }
        return unwanted;
    }

    /** A PES packet begins. */
    private begins(pid: number, isJoin: boolean): void {
        this.streams.add(pid);
        if (isJoin) {
            this.marked.add(pid);
        }
        if (isJoin || !this.marked.has(pid)) {
            this.known.damaged.delete(pid);
        }
    }

    /** What is missing before a packet; one that is itself broken is missing. */
    private lossBefore(pid: number, packet: Uint8Array): Loss | null {
        const [, high = 0, , flags = 0, length = 0, adaptation = 0] = packet;
        const isSignalled = (flags & 0x20) !== 0 && length > 0 && (adaptation & 0x80) !== 0;
        if ((flags & 0x10) === 0) {
            return null;
        }
        const counter = flags & 15;
        const { place, counters } = this.known;
        const last = counters.get(pid);
        counters.set(pid, { counter, place });
        const isBroken = (high & 0x80) !== 0;
        // One may come twice.
        const follows = last === undefined || counter === last.counter || counter === ((last.counter + 1) & 15);
        if (!isBroken && (isSignalled || follows)) {
            return null;
        }
        const missing = last === undefined || isBroken ? 1 : (counter - last.counter - 1) & 15;
        return { pid, missing, after: last?.place ?? place, before: place };
    }
}

/** Whether a PES packet begins: ISO/IEC 13818-1 §2.4.3.6. */
function beginsUnit(packet: Uint8Array): boolean {
    const [, high = 0, , flags = 0, length = 0] = packet;
    const start = (flags & 0x20) === 0 ? 4 : 5 + length;
    const hasPayload = (high & 0x40) !== 0 && (flags & 0x10) !== 0;
    return hasPayload && packet[start] === 0 && packet[start + 1] === 0 && packet[start + 2] === 1;
}

/** Whether a packet says that a decoder may begin with it. */
function isJoin(packet: Uint8Array): boolean {
    const [, , , flags = 0, length = 0, adaptation = 0] = packet;
    return (flags & 0x20) !== 0 && length > 0 && (adaptation & 0x40) !== 0;
}

function joined(packets: Uint8Array[]): Uint8Array<ArrayBuffer> {
    const whole = new Uint8Array(packets.length * PACKET);
    packets.forEach((packet, i) => whole.set(packet, i * PACKET));
    return whole;
}
