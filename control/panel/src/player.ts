/**
 * The life of what the page plays.
 *
 *     starting ─▶ live ◀─▶ buffering, paused
 *        │  ▲      │
 *        ▼  │      ▼
 *     reconnecting (bounded) ─▶ failed, ended ─▶ starting, on request
 *
 * A way reads and decodes; when it is in trouble, here is decided whether it
 * is resumed, started anew, replaced by the other way, or given up in words.
 */

import { HlsWay, canHls } from "./hls";
import { NativeWay, canNative } from "./native";
import {
    NO_PLAYER,
    STUCK,
    UNREACHABLE,
    finalEnd,
    mayPass,
    undecodable,
    type Refusal,
} from "./refusal";
import { TsWay, canTs } from "./ts";
import { sessionEnd } from "./server";
import type { Listener, Way } from "./way";
import { hlsPath, tsPath, type Via, type Wish } from "./wish";

/** Where the page is; also `data-state` of its main element. */
export type State = "starting" | "live" | "buffering" | "paused" | "reconnecting" | "failed" | "ended";

/** What is not the video element's to tell. */
type Phase =
    | { readonly name: "running" }
    | { readonly name: "waiting"; readonly until: number; readonly why: Refusal; readonly timer: number }
    | { readonly name: "over"; readonly state: "failed" | "ended"; readonly why: Refusal };

/** Pauses before a new try, in milliseconds; after the last one it is given up. */
const PAUSES_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000];
/** So many seconds of picture, and earlier troubles are forgotten. */
const STEADY_SECONDS = 20;
/** Paused for this long, the stream is let go: a viewer that does not watch costs an engine. */
const PARK_MS = 30_000;
/** How often the picture is looked at. */
const LOOK_MS = 500;
/** Standing still for this long with something buffered behind a gap, the gap is jumped. */
const GAP_MS = 1_000;
/** Standing still for this long, although this much has come, or nothing at all, it is started anew. */
const STUCK_MS = 10_000;
const STUCK_BYTES = 256 << 10;
const SILENT_MS = 30_000;
/** A way that the browser could not decode is given up after so many tries, if there is another. */
const DECODE_TRIES = 2;

/** Plays one wish in one video element. */
export class Player implements Listener {
    /** Errors that a library called fatal, since the page was opened. */
    fatalErrors = 0;
    /** Errors that were got over. */
    recoveries = 0;
    /** The last error that a library told of. */
    lastError: string | null = null;
    lastFatal: string | null = null;
    /** The server's name for what plays. */
    sessionId: string | null = null;

    private way: Way | null = null;
    private phase: Phase = { name: "running" };
    private tries = 0;
    private decodeTries = 0;
    private hadPicture = false;
    private isWaiting = false;
    private isParked = false;
    private parking = 0;
    /** How it has ended, while the rest of it is shown. */
    private lastWords: Refusal | null = null;
    private still = { at: 0, since: 0, bytes: 0 };
    private steadyFrom = 0;

    /** `via` is the way to begin with; with `isFixed` no other is tried unasked. */
    constructor(
        private readonly wish: Wish,
        private readonly video: HTMLVideoElement,
        private via: Via,
        private isFixed: boolean,
        private readonly changed: () => void,
    ) {
        const on = (name: string, then: () => void) => video.addEventListener(name, then);
        on("waiting", () => this.note(() => (this.isWaiting = true)));
        on("playing", () => this.note(() => (this.isWaiting = false)));
        on("timeupdate", () => this.onTime());
        on("pause", () => this.note(() => this.onPause()));
        on("ended", () => this.conclude());
        on("play", () => this.note(() => this.onPlay()));
        window.setInterval(() => this.look(), LOOK_MS);
    }

    get state(): State {
        if (this.phase.name === "over") {
            return this.phase.state;
        }
        if (this.phase.name === "waiting") {
            return "reconnecting";
        }
        if (this.isParked || (this.video.paused && this.video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA)) {
            return "paused";
        }
        if (!this.hadPicture) {
            return "starting";
        }
        return this.isWaiting ? "buffering" : "live";
    }

    /** Why it does not play, where that is known. */
    get why(): Refusal | null {
        return this.phase.name === "running" ? null : this.phase.why;
    }

    /** Seconds until the next try. */
    get nextTry(): number | null {
        return this.phase.name === "waiting" ? Math.max(0, this.phase.until - performance.now()) / 1000 : null;
    }

    get currentVia(): Via {
        return this.via;
    }

    get engine(): Way["engine"] | null {
        return this.way?.engine ?? null;
    }

    get latency(): number | null {
        return this.hadPicture ? (this.way?.latency() ?? null) : null;
    }

    get shownAt(): Date | null {
        return this.hadPicture ? (this.way?.shownAt() ?? null) : null;
    }

    /** Starts at the live edge, by `via` where it is given, and forgets earlier troubles. */
    begin(via: Via = this.via): void {
        this.tries = 0;
        this.decodeTries = 0;
        this.open(via);
    }

    /** The same by a way that somebody chose: no other is tried unasked. */
    choose(via: Via): void {
        this.isFixed = true;
        this.begin(via);
    }

    togglePause(): void {
        if (this.phase.name !== "running") {
            this.begin();
        } else if (this.video.paused || this.isParked) {
            this.play();
        } else {
            this.video.pause();
        }
    }

    goLive(): void {
        this.way?.goLive();
        this.play();
    }

    refused(refusal: Refusal): void {
        if (mayPass(refusal)) {
            this.retry(refusal);
        } else {
            this.finish("failed", refusal);
        }
    }

    undecodable(detail: string): void {
        this.decodeTries += 1;
        const other: Via = this.via === "hls" ? "ts" : "hls";
        if (this.decodeTries < DECODE_TRIES) {
            this.retry(undecodable(detail));
        } else if (other === "ts" && !this.isFixed && canTs()) {
            this.decodeTries = 0;
            this.open("ts");
        } else {
            this.finish("failed", undecodable(detail));
        }
    }

    ended(session: string | null): void {
        const way = this.way;
        void sessionEnd(session, this.wish.key).then((end) => {
            if (this.way !== way || this.phase.name !== "running") {
                return;
            }
            const final = end === null ? null : finalEnd(end.cause, end.detail);
            if (final === null) {
                this.retry(end === null ? UNREACHABLE : lost(end.detail ?? end.cause));
            } else if (this.video.ended || this.video.buffered.length === 0) {
                this.finish("ended", final);
            } else {
                this.lastWords = final;
            }
        });
    }

    fatal(detail: string): void {
        this.fatalErrors += 1;
        this.lastFatal = detail;
        this.lastError = detail;
    }

    recovered(detail: string): void {
        this.recoveries += 1;
        this.lastError = detail;
    }

    session(id: string): void {
        this.note(() => (this.sessionId = id));
    }

    private note(what: () => void): void {
        what();
        this.changed();
    }

    private play(): void {
        // What "play" means while nothing is read is told by the event.
        this.video.play().catch((error: unknown) => {
            const isRefused = error instanceof DOMException && error.name === "NotAllowedError";
            if (isRefused && !this.video.muted) {
                // Without a click a browser plays silent pictures only.
                this.video.muted = true;
                this.play();
            }
            this.changed();
        });
    }

    private open(via: Via): void {
        this.release();
        this.via = via;
        this.phase = { name: "running" };
        this.hadPicture = false;
        this.isWaiting = false;
        this.sessionId = null;
        const way = this.make(via);
        if (way === null) {
            this.finish("failed", NO_PLAYER);
            return;
        }
        this.way = way;
        way.start();
        this.stir();
        this.play();
        this.changed();
    }

    /** The listener is this player only for as long as the way is in use. */
    private make(via: Via): Way | null {
        let way: Way | null = null;
        const whileUsed =
            <A extends unknown[]>(what: (...args: A) => void) =>
            (...args: A) => {
                if (this.way === way) {
                    what.apply(this, args);
                }
            };
        const whileRunning = <A extends unknown[]>(what: (...args: A) => void) =>
            whileUsed((...args: A) => {
                if (this.phase.name === "running") {
                    what.apply(this, args);
                }
            });
        const listener: Listener = {
            refused: whileRunning(this.refused),
            undecodable: whileRunning(this.undecodable),
            ended: whileRunning(this.ended),
            // One trouble has many echoes.
            fatal: whileRunning(this.fatal),
            recovered: whileUsed(this.recovered),
            session: whileUsed(this.session),
        };
        if (via === "ts") {
            // A status, and no empty picture, while the stream has yet to start.
            way = canTs() ? new TsWay(`${tsPath(this.wish)}&wait=status`, this.video, listener) : null;
        } else if (canHls()) {
            way = new HlsWay(hlsPath(this.wish), this.video, listener);
        } else if (canNative(this.video)) {
            way = new NativeWay(hlsPath(this.wish), this.video, listener);
        }
        return way;
    }

    private release(): void {
        if (this.phase.name === "waiting") {
            window.clearTimeout(this.phase.timer);
        }
        window.clearTimeout(this.parking);
        this.isParked = false;
        this.lastWords = null;
        const way = this.way;
        this.way = null;
        way?.stop();
    }

    private retry(why: Refusal): void {
        const pause = PAUSES_MS[this.tries];
        if (pause === undefined) {
            this.finish("failed", why);
            return;
        }
        this.tries += 1;
        const wait = Math.max(pause, (why.retryAfter ?? 0) * 1000);
        const timer = window.setTimeout(() => this.again(), wait);
        this.phase = { name: "waiting", until: performance.now() + wait, why, timer };
        this.changed();
    }

    private again(): void {
        if (this.way?.resume()) {
            this.phase = { name: "running" };
            this.stir();
            this.changed();
        } else {
            this.open(this.via);
        }
    }

    private finish(state: "failed" | "ended", why: Refusal): void {
        this.release();
        this.phase = { name: "over", state, why };
        this.changed();
    }

    private conclude(): void {
        if (this.lastWords !== null) {
            this.finish("ended", this.lastWords);
        }
    }

    private onPause(): void {
        window.clearTimeout(this.parking);
        if (this.way !== null) {
            this.parking = window.setTimeout(() => this.park(), PARK_MS);
        }
    }

    private park(): void {
        this.release();
        this.isParked = true;
        this.changed();
    }

    private onPlay(): void {
        window.clearTimeout(this.parking);
        if (this.isParked) {
            this.begin();
        }
    }

    private onTime(): void {
        const { currentTime, readyState } = this.video;
        if (this.way === null || readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
            return;
        }
        if (!this.hadPicture && currentTime > 0) {
            this.hadPicture = true;
            this.steadyFrom = currentTime;
        }
        if (this.hadPicture && Math.abs(currentTime - this.steadyFrom) > STEADY_SECONDS) {
            this.steadyFrom = currentTime;
            this.tries = 0;
            this.decodeTries = 0;
        }
        this.changed();
    }

    /** From now on it is watched whether the picture moves. */
    private stir(): void {
        this.still = {
            at: this.video.currentTime,
            since: performance.now(),
            bytes: this.way?.received() ?? 0,
        };
    }

    private look(): void {
        const isMoving = this.video.currentTime !== this.still.at;
        if (isMoving || this.video.paused || this.way === null || this.phase.name !== "running") {
            this.stir();
        } else if (this.way.via === "ts" || this.lastWords !== null) {
            // hls.js has a watch of its own, for as long as something comes.
            this.onStill(performance.now() - this.still.since);
        } else if (this.hadPicture && performance.now() - this.still.since >= STUCK_MS) {
            // Now and then it sticks at a place all the same.
            this.recovered("stuck");
            this.way.resume();
            this.way.goLive();
            this.stir();
        }
        this.changed();
    }

    private onStill(forMs: number): void {
        const gapEnd = this.gapEnd();
        const came = (this.way?.received() ?? 0) - this.still.bytes;
        if (forMs >= (this.hadPicture ? GAP_MS : STUCK_MS) && this.lastWords !== null) {
            this.conclude();
        } else if (forMs >= GAP_MS && gapEnd !== null) {
            this.recovered("gap jumped");
            this.video.currentTime = gapEnd;
        } else if (forMs >= (this.hadPicture ? STUCK_MS : 2 * STUCK_MS) && came > STUCK_BYTES) {
            this.recovered("stuck");
            this.retry(STUCK);
        } else if (this.hadPicture && forMs >= SILENT_MS && came === 0) {
            this.recovered("silent");
            this.retry(UNREACHABLE);
        }
    }

    /** Where the picture goes on, if only a gap is in between. */
    private gapEnd(): number | null {
        const { buffered, currentTime } = this.video;
        for (let i = 0; i < buffered.length; i += 1) {
            if (buffered.start(i) > currentTime + 0.01) {
                return buffered.start(i) + 0.01;
            }
            if (buffered.end(i) > currentTime + 0.25) {
                return null;
            }
        }
        return null;
    }
}

function lost(detail: string): Refusal {
    return {
        status: 0,
        code: "lost",
        message: `The stream broke off: ${detail}.`,
        remedy: "It is asked for again.",
        cause: null,
        retryAfter: null,
    };
}
