/** A way to get a stream into the video element. */

import type { Refusal } from "./refusal";
import type { Via } from "./wish";

/** What a way tells the player. It tells of one trouble, and then is resumed, stopped or left. */
export interface Listener {
    /** The server refused, or does not answer. */
    refused(refusal: Refusal): void;
    /** What comes cannot be played. */
    undecodable(detail: string): void;
    /** The stream came to its end; `session` is the server's name for it, where that was told. */
    ended(session: string | null): void;
    /** The library calls an error fatal. */
    fatal(detail: string): void;
    /** The library got over an error by itself, or was helped to. */
    recovered(detail: string): void;
    /** The server has named its session. */
    session(id: string): void;
}

/** A way in use. */
export interface Way {
    readonly via: Via;
    /** What plays it. */
    readonly engine: "hls.js" | "mpegts.js" | "native";
    /** Begins to read, and attaches itself to the video element. */
    start(): void;
    /** Reads on after a trouble, keeping what is buffered; false where only a new start helps. */
    resume(): boolean;
    /** Seconds behind the newest that could be shown. */
    latency(): number | null;
    /** When what is shown came to the server, by its clock; null where that is not told. */
    shownAt(): Date | null;
    /** Jumps to the newest. */
    goLive(): void;
    /** Bytes of the stream read so far; null where that cannot be known. */
    received(): number | null;
    /** Lets go of the connection and of the video element. */
    stop(): void;
}

/** The end of what is buffered around the play position, or behind it. */
export function bufferedEnd(video: HTMLVideoElement): number | null {
    const ranges = video.buffered;
    return ranges.length === 0 ? null : ranges.end(ranges.length - 1);
}
