/** HLS by hls.js. */

import Hls, { type ErrorData, type FragmentLoaderContext, type HlsConfig, type Loader } from "hls.js/light";
import { parseRefusal, UNREACHABLE, type Refusal } from "./refusal";
import { Sieve } from "./sieve";
import type { Listener, Way } from "./way";

/** A stream may take this long to begin, and its first playlist is answered then. */
const START_MS = 120_000;
/** Media errors are mended this often within [`MENDING_MS`]. */
const MENDINGS = 3;
const MENDING_MS = 60_000;
/** A decoder that gives up again within so many seconds of media gives up at the same thing. */
const SAME_PLACE = 2;

const CONFIG: Partial<HlsConfig> = {
    lowLatencyMode: true,
    // Slightly faster while further behind than the server says is enough.
    maxLiveSyncPlaybackRate: 1.1,
    backBufferLength: 30,
    // The page's policy allows no worker made of a string.
    enableWorker: false,
    manifestLoadPolicy: {
        default: {
            maxTimeToFirstByteMs: START_MS,
            maxLoadTimeMs: START_MS,
            timeoutRetry: null,
            errorRetry: null,
        },
    },
    // While an engine is replaced a playlist may be late; one that is refused has ended.
    playlistLoadPolicy: {
        default: {
            maxTimeToFirstByteMs: 20_000,
            maxLoadTimeMs: 30_000,
            timeoutRetry: { maxNumRetry: 2, retryDelayMs: 0, maxRetryDelayMs: 0 },
            errorRetry: null,
        },
    },
};

/** Whether hls.js works in this browser. */
export function canHls(): boolean {
    return Hls.isSupported();
}

/** Plays a playlist. */
export class HlsWay implements Way {
    readonly via = "hls";
    readonly engine = "hls.js";
    private readonly hls = new Hls({ ...CONFIG, fLoader: loaderFor(new Sieve()) });
    private mendings: number[] = [];
    /** Where in the stream the last one was. */
    private mendedAt: number | null = null;
    private hasManifest = false;
    /** Unlike what the element says, true also after its decoder has given up. */
    private isToPlay = false;
    /** Something of the playlist was refused: what there is of it is all that there will be. */
    private isRefused = false;
    private bytes = 0;
    private session: string | null = null;
    private readonly over = new AbortController();

    constructor(
        private readonly url: string,
        private readonly video: HTMLVideoElement,
        private readonly listener: Listener,
    ) {}

    start(): void {
        this.hls.on(Hls.Events.MANIFEST_PARSED, () => (this.hasManifest = true));
        this.hls.on(Hls.Events.MANIFEST_LOADED, (_, data) => {
            const details: unknown = data.networkDetails;
            const id = details instanceof XMLHttpRequest ? details.getResponseHeader("Millrace-Session") : null;
            if (id !== null) {
                this.listener.session(id);
                this.session = id;
            }
        });
        this.hls.on(Hls.Events.FRAG_LOADED, (_, data) => (this.bytes += data.frag.stats.loaded));
        this.hls.on(Hls.Events.ERROR, (_, data) => this.onError(data));
        this.hls.on(Hls.Events.MEDIA_ATTACHED, () => this.onAttached());
        const { signal } = this.over;
        this.video.addEventListener("play", () => (this.isToPlay = true), { signal });
        this.video.addEventListener("pause", () => (this.isToPlay &&= this.video.error !== null), { signal });
        this.video.addEventListener("ended", () => this.listener.ended(this.session), { signal });
        this.hls.loadSource(this.url);
        this.hls.attachMedia(this.video);
    }

    resume(): boolean {
        if (!this.hasManifest || this.isRefused) {
            return false;
        }
        this.hls.startLoad();
        return true;
    }

    latency(): number | null {
        return this.hls.liveSyncPosition === null ? null : this.hls.latency;
    }

    shownAt(): Date | null {
        return this.hls.playingDate;
    }

    goLive(): void {
        if (this.hls.liveSyncPosition !== null) {
            this.video.currentTime = this.hls.liveSyncPosition;
        }
    }

    received(): number {
        return this.bytes;
    }

    stop(): void {
        this.over.abort();
        this.hls.destroy();
    }

    private onError(data: ErrorData): void {
        if (!data.fatal) {
            this.listener.recovered(data.details);
            return;
        }
        if (data.type === Hls.ErrorTypes.MEDIA_ERROR) {
            this.listener.fatal(`${data.details}: ${data.error.message}`);
            if (this.mayMend()) {
                this.mend();
            } else {
                this.listener.undecodable(data.details);
            }
            return;
        }
        const refusal = refusalIn(data);
        if (this.hasManifest && refusal.status !== 0) {
            this.isRefused = true;
            this.listener.ended(this.session);
            return;
        }
        // Being refused before it begins is an answer, and not an accident.
        if (this.hasManifest || refusal.status === 0) {
            this.listener.fatal(data.details);
        }
        if (data.type === Hls.ErrorTypes.NETWORK_ERROR) {
            this.listener.refused(refusal);
        } else {
            this.listener.undecodable(data.details);
        }
    }

    /** Attaching anew, as after a decoder has given up, pauses the element. */
    private onAttached(): void {
        if (this.isToPlay) {
            // Whether it plays again is seen at the element.
            this.video.play().catch(() => {});
        }
    }

    /** Begins anew with the decoder, where it was; the second time at the same place, past what it gives up at. */
    private mend(): void {
        const at = this.video.currentTime;
        const isSame = this.mendedAt !== null && Math.abs(at - this.mendedAt) < SAME_PLACE;
        const live = this.hls.liveSyncPosition;
        this.mendedAt = at;
        this.hls.recoverMediaError();
        // What is fatal has ended the loading.
        this.hls.startLoad(isSame && live !== null ? live : -1);
    }

    private mayMend(): boolean {
        const now = performance.now();
        this.mendings = this.mendings.filter((then) => now - then < MENDING_MS);
        this.mendings.push(now);
        return this.mendings.length <= MENDINGS;
    }
}

/** What hls.js reads segments and parts with. */
function loaderFor(sieve: Sieve): NonNullable<HlsConfig["fLoader"]> {
    const Base = Hls.DefaultConfig.loader as new (config: HlsConfig) => Loader<FragmentLoaderContext>;
    const sift = ({ frag, part }: FragmentLoaderContext, bytes: Uint8Array) =>
        sieve.part(Number(frag.sn), part?.index ?? 0, bytes).buffer;
    return class extends Base {
        override load(...[context, config, callbacks]: Parameters<Loader<FragmentLoaderContext>["load"]>): void {
            super.load(context, config, {
                ...callbacks,
                onSuccess(response, ...rest) {
                    const { data } = response;
                    const sifted = data instanceof ArrayBuffer ? sift(context, new Uint8Array(data)) : data;
                    callbacks.onSuccess({ ...response, ...(sifted && { data: sifted }) }, ...rest);
                },
            });
        }
    };
}

function refusalIn(data: ErrorData): Refusal {
    const status = data.response?.code ?? 0;
    if (status === 0) {
        return UNREACHABLE;
    }
    const details: unknown = data.networkDetails;
    const isText = details instanceof XMLHttpRequest && ["", "text"].includes(details.responseType);
    return parseRefusal(status, isText ? details.responseText : "");
}
