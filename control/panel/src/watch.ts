/** The page `/watch/…`. */

import { canHls } from "./hls";
import { canNative } from "./native";
import { Player } from "./player";
import { View } from "./view";
import { wishOf } from "./wish";

/** What tests and other programs may read, as of now. */
interface Millrace {
    readonly state: string;
    readonly via: string;
    readonly engine: string | null;
    readonly fatalErrors: number;
    readonly recoveries: number;
    readonly lastError: string | null;
    readonly lastFatal: string | null;
    readonly currentTime: number;
    readonly latency: number | null;
    readonly shownAt: string | null;
    readonly session: string | null;
    readonly error: object | null;
}

declare global {
    interface Window {
        millrace: Millrace;
    }
}

const video = document.querySelector("video");
if (video !== null) {
    const wish = wishOf(location.pathname, location.search);
    const usual = canHls() || canNative(video) ? "hls" : "ts";
    let view: View | null = null;
    const player = new Player(wish, video, wish.via ?? usual, wish.via !== null, () => view?.show());
    view = new View(wish, player);
    window.millrace = {
        get state() {
            return player.state;
        },
        get via() {
            return player.currentVia;
        },
        get engine() {
            return player.engine;
        },
        get fatalErrors() {
            return player.fatalErrors;
        },
        get recoveries() {
            return player.recoveries;
        },
        get lastError() {
            return player.lastError;
        },
        get lastFatal() {
            return player.lastFatal;
        },
        get currentTime() {
            return video.currentTime;
        },
        get latency() {
            return player.latency;
        },
        get shownAt() {
            return player.shownAt?.toISOString() ?? null;
        },
        get session() {
            return player.sessionId;
        },
        get error() {
            return player.why;
        },
    };
    player.begin();
}
