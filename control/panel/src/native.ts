/** HLS by the browser itself, where it has no media source extensions: older iPhones. */

import { parseRefusal, UNREACHABLE } from "./refusal";
import type { Listener, Way } from "./way";

/** Whether the browser plays HLS by itself. */
export function canNative(video: HTMLVideoElement): boolean {
    return video.canPlayType("application/vnd.apple.mpegurl") !== "";
}

/** Leaves a playlist to the browser. */
export class NativeWay implements Way {
    readonly via = "hls";
    readonly engine = "native";
    private readonly over = new AbortController();

    constructor(
        private readonly url: string,
        private readonly video: HTMLVideoElement,
        private readonly listener: Listener,
    ) {}

    start(): void {
        const { signal } = this.over;
        this.video.addEventListener("error", () => void this.explain(), { signal });
        this.video.addEventListener("ended", () => this.listener.ended(null), { signal });
        this.video.src = this.url;
    }

    resume(): boolean {
        return false;
    }

    latency(): number | null {
        const end = this.end();
        return end === null ? null : Math.max(0, end - this.video.currentTime);
    }

    shownAt(): null {
        return null;
    }

    goLive(): void {
        this.video.currentTime = this.end() ?? this.video.currentTime;
    }

    received(): null {
        return null;
    }

    stop(): void {
        this.over.abort();
        this.video.removeAttribute("src");
        this.video.load();
    }

    private end(): number | null {
        const ranges = this.video.seekable;
        return ranges.length === 0 ? null : ranges.end(ranges.length - 1);
    }

    /** The element says only that it failed; the server says why. */
    private async explain(): Promise<void> {
        const error = this.video.error;
        try {
            const answer = await fetch(this.url, { signal: this.over.signal });
            if (!answer.ok) {
                this.listener.refused(parseRefusal(answer.status, await answer.text()));
                return;
            }
        } catch {
            if (!this.over.signal.aborted) {
                this.listener.refused(UNREACHABLE);
            }
            return;
        }
        const detail = error?.message || `error ${error?.code ?? 0}`;
        this.listener.fatal(detail);
        this.listener.undecodable(detail);
    }
}
