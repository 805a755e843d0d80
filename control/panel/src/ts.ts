/** The transport stream by mpegts.js. */

import mpegts from "mpegts.js";
import { Mender } from "./mend";
import { parseRefusal, UNREACHABLE } from "./refusal";
import { bufferedEnd, type Listener, type Way } from "./way";

/** How far behind the newest byte "live" is: what a late byte may take. */
const LIVE_SECONDS = 1.5;

/** Whether mpegts.js works in this browser. */
export function canTs(): boolean {
    return mpegts.getFeatureList().mseLivePlayback;
}

mpegts.LoggingControl.applyConfig({ enableAll: false });

/** Plays an endless transport stream. */
export class TsWay implements Way {
    readonly via = "ts";
    readonly engine = "mpegts.js";
    private player: ReturnType<typeof mpegts.createPlayer> | null = null;
    private readonly over = new AbortController();
    private bytes = 0;

    constructor(
        private readonly url: string,
        private readonly video: HTMLVideoElement,
        private readonly listener: Listener,
    ) {}

    start(): void {
        const source = { type: "mse", isLive: true, url: this.url };
        this.player = mpegts.createPlayer(source, {
            // A worker made of a string is not what the page's policy allows.
            enableWorker: false,
            // Bytes come at an even pace already.
            enableStashBuffer: false,
            lazyLoad: false,
            autoCleanupSourceBuffer: true,
            autoCleanupMaxBackwardDuration: 60,
            autoCleanupMinBackwardDuration: 30,
            customLoader: loaderFor(this.listener, this.over.signal, (length) => (this.bytes += length)),
        });
        this.player.on(mpegts.Events.ERROR, (type: string, detail: string, info: { msg?: string }) => {
            // The loader has told of its own.
            if (type !== mpegts.ErrorTypes.NETWORK_ERROR) {
                // What the element says names the reason; what follows from it does not.
                const words = `${detail}: ${this.video.error?.message || info?.msg || ""}`;
                this.listener.fatal(words);
                this.listener.undecodable(words);
            }
        });
        this.player.attachMediaElement(this.video);
        this.player.load();
    }

    resume(): boolean {
        return false;
    }

    latency(): number | null {
        const end = bufferedEnd(this.video);
        return end === null ? null : Math.max(0, end - this.video.currentTime);
    }

    shownAt(): null {
        return null;
    }

    goLive(): void {
        const end = bufferedEnd(this.video);
        if (end !== null) {
            this.video.currentTime = Math.max(this.video.currentTime, end - LIVE_SECONDS);
        }
    }

    received(): number {
        return this.bytes;
    }

    stop(): void {
        this.over.abort();
        this.player?.destroy();
        this.player = null;
    }
}

/**
 * What mpegts.js reads with: its own loader hides the body of a refusal and
 * the headers of an answer, and those hold the words and the session.
 */
function loaderFor(listener: Listener, over: AbortSignal, count: (length: number) => void) {
    const { kConnecting, kBuffering, kError, kComplete } = mpegts.LoaderStatus;
    return class extends mpegts.BaseLoader {
        private readonly reading = new AbortController();

        constructor() {
            super("millrace");
            over.addEventListener("abort", () => this.abort());
        }

        override open(source: { url: string }): void {
            this._status = kConnecting;
            void this.read(source.url);
        }

        override abort(): void {
            this.reading.abort();
            this._status = kComplete;
        }

        override destroy(): void {
            this.abort();
            super.destroy();
        }

        private async read(url: string): Promise<void> {
            const { signal } = this.reading;
            let session: string | null = null;
            try {
                const answer = await fetch(url, { signal, cache: "no-store" });
                if (!answer.ok || answer.body === null) {
                    const refusal = parseRefusal(answer.status, await answer.text());
                    this._status = kError;
                    listener.refused(refusal);
                    return;
                }
                session = answer.headers.get("Millrace-Session");
                if (session !== null) {
                    listener.session(session);
                }
                await this.pass(answer.body.getReader());
            } catch {
                // A connection that breaks off is an end like any other, once there was a stream.
                if (!signal.aborted && session === null) {
                    this._status = kError;
                    listener.refused(UNREACHABLE);
                    return;
                }
            }
            if (!signal.aborted) {
                this._status = kComplete;
                // What is buffered is all that there is.
                this.onComplete(0, -1);
                listener.ended(session);
            }
        }

        private async pass(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
            const mender = new Mender();
            let at = 0;
            for (;;) {
                const { done, value } = await reader.read();
                if (this.reading.signal.aborted) {
                    return;
                }
                this._status = kBuffering;
                count(value?.byteLength ?? 0);
                const chunk = (done ? mender.end() : mender.pass(value)).buffer as ArrayBuffer;
                this.hand(chunk, at);
                at += chunk.byteLength;
                if (done) {
                    return;
                }
            }
        }

        /** What mpegts.js throws is about what it was handed. */
        private hand(chunk: ArrayBuffer, at: number): void {
            try {
                this.onDataArrival(chunk, at, at + chunk.byteLength);
            } catch (error) {
                this.abort();
                listener.fatal(String(error));
                listener.undecodable(String(error));
            }
        }
    };
}
