/**
 * Leaves out what has lost a packet on the way through the swarm, with all that
 * may be made from it: at half a picture a browser's decoder gives up, as it
 * does at one made from what it does not have.
 */

const PACKET = 188;

/** How many media segments and parts may be asked for again and come out the same. */
const REMEMBERED = 64;

/** What is known of a stream up to one place in it. */
class Known {
    constructor(
        /** The newest continuity counter of each PID. */
        readonly counters = new Map<number, number>(),
        /** PIDs that have lost something, and of which nothing is wanted until they may begin anew. */
        readonly damaged = new Set<number>(),
    ) {}

    copy(): Known {
        return new Known(new Map(this.counters), new Set(this.damaged));
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
        this.last = { sequence, part };
        return this.pass(bytes);
    }

    /** Of whole packets those that a decoder can use, as far as can be told from these. */
    private pass(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
        const packets: (Uint8Array | null)[] = [];
        /** Where the packets of each PID's newest PES packet are. */
        const open = new Map<number, number[]>();
        for (let at = 0; at + PACKET <= bytes.length; at += PACKET) {
            const packet = bytes.subarray(at, at + PACKET);
            const pid = (((packet[1] ?? 0) & 0x1f) << 8) | (packet[2] ?? 0);
            const isNext = this.isNext(pid, packet);
            const isBeginning = beginsUnit(packet);
            if (!isNext && this.streams.has(pid)) {
                this.known.damaged.add(pid);
                open.get(pid)?.forEach((place) => (packets[place] = null));
            }
            if (isBeginning) {
                open.delete(pid);
                this.begins(pid, isJoin(packet));
            }
            const places = open.get(pid) ?? [];
            places.push(packets.length);
            open.set(pid, places);
            packets.push(this.known.damaged.has(pid) ? null : packet);
        }
        return joined(packets.filter((packet) => packet !== null));
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

    /** Whether nothing is missing before a packet, nor wrong with it. */
    private isNext(pid: number, packet: Uint8Array): boolean {
        const [, high = 0, , flags = 0, length = 0, adaptation = 0] = packet;
        const isSignalled = (flags & 0x20) !== 0 && length > 0 && (adaptation & 0x80) !== 0;
        if ((flags & 0x10) === 0) {
            return true;
        }
        const counter = flags & 15;
        const last = this.known.counters.get(pid) ?? counter;
        this.known.counters.set(pid, counter);
        // One may come twice.
        const follows = counter === last || counter === ((last + 1) & 15);
        return (isSignalled || follows) && (high & 0x80) === 0;
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
