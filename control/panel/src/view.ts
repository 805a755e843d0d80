/** The page's controls and words. */

import type { Player, State } from "./player";
import { progress } from "./server";
import { hlsPath, tsPath, type Via, type Wish } from "./wish";

/** How often the server is asked about a stream that shows no picture. */
const ASK_MS = 2_000;
/** "Go live" makes sense from this far behind. */
const BEHIND_SECONDS = 6;

const WORDS: Readonly<Record<State, string>> = {
    starting: "Starting",
    live: "Playing",
    buffering: "Buffering",
    paused: "Paused",
    reconnecting: "Reconnecting",
    failed: "Not playing",
    ended: "Ended",
};

const TITLES = { failed: "This does not play", ended: "The stream has ended" };
const NAMES: Readonly<Record<Via, string>> = { hls: "HLS", ts: "TS" };

function part<T extends HTMLElement>(id: string): T {
    const found = document.getElementById(id);
    if (found === null) {
        throw new Error(`the page has no #${id}`);
    }
    return found as T;
}

/** Shows what the player does, and has it do what is wanted. */
export class View {
    private readonly main = part("watch");
    private readonly video = part<HTMLVideoElement>("video");
    private readonly line = part("line");
    private readonly latency = part("latency");
    private readonly play = part<HTMLButtonElement>("play");
    private readonly mute = part<HTMLButtonElement>("mute");
    private readonly volume = part<HTMLInputElement>("volume");
    private readonly live = part<HTMLButtonElement>("live");
    private readonly unmute = part<HTMLButtonElement>("unmute");
    private readonly full = part<HTMLButtonElement>("full");
    private readonly problem = part("problem");
    private readonly other = part<HTMLButtonElement>("other");
    private readonly vias = { hls: part<HTMLButtonElement>("via-hls"), ts: part<HTMLButtonElement>("via-ts") };
    private wasMutedByHand = false;
    private told = "";

    constructor(
        private readonly wish: Wish,
        private readonly player: Player,
    ) {
        this.addControls();
        this.addLinks();
        document.addEventListener("keydown", (event) => this.onKey(event));
        this.video.addEventListener("volumechange", () => this.show());
        window.setInterval(() => void this.ask(), ASK_MS);
        this.show();
    }

    /** Brings the page up to date. */
    show(): void {
        const { player, video } = this;
        const { state, why, latency } = player;
        this.main.dataset["state"] = state;
        this.main.dataset["via"] = player.currentVia;
        set(this.line, this.words(state));
        set(this.latency, latency === null ? "" : `${latency.toFixed(1)} s behind`);
        set(this.play, state === "live" || state === "buffering" || state === "starting" ? "Pause" : "Play");
        this.live.disabled = state !== "paused" && (latency === null || latency < BEHIND_SECONDS);
        set(this.mute, video.muted ? "Unmute" : "Mute");
        this.mute.setAttribute("aria-pressed", String(video.muted));
        this.volume.value = String(video.muted ? 0 : video.volume);
        this.unmute.hidden = !video.muted || this.wasMutedByHand;
        for (const via of ["hls", "ts"] as const) {
            this.vias[via].setAttribute("aria-pressed", String(via === player.currentVia));
        }
        const isOver = (state === "failed" || state === "ended") && why !== null;
        if (isOver) {
            set(part("problem-title"), TITLES[state]);
            set(part("problem-message"), sentence(why.message));
            set(part("problem-remedy"), sentence(why.remedy));
            set(this.other, `Play by ${NAMES[otherThan(player.currentVia)]} instead`);
        }
        // Shown last, so that it is read out with its words.
        this.problem.hidden = !isOver;
    }

    private words(state: State): string {
        const { why, nextTry } = this.player;
        if (state === "reconnecting" && why !== null && nextTry !== null) {
            return `${sentence(why.message)} Next try in ${Math.ceil(nextTry)} s.`;
        }
        const isWaiting = state === "starting" || state === "buffering";
        return isWaiting && this.told !== "" ? `${WORDS[state]}: ${this.told}` : WORDS[state];
    }

    private addControls(): void {
        const { player, video } = this;
        this.play.addEventListener("click", () => player.togglePause());
        this.mute.addEventListener("click", () => this.toggleMute());
        this.unmute.addEventListener("click", () => this.toggleMute());
        this.live.addEventListener("click", () => player.goLive());
        this.full.addEventListener("click", () => this.toggleFull());
        video.addEventListener("click", () => player.togglePause());
        this.volume.addEventListener("input", () => this.setVolume(Number(this.volume.value)));
        part("again").addEventListener("click", () => player.begin());
        this.other.addEventListener("click", () => this.choose(otherThan(player.currentVia)));
        for (const via of ["hls", "ts"] as const) {
            this.vias[via].addEventListener("click", () => this.choose(via));
        }
    }

    private addLinks(): void {
        part<HTMLInputElement>("url-ts").value = new URL(tsPath(this.wish), location.href).href;
        part<HTMLInputElement>("url-hls").value = new URL(hlsPath(this.wish), location.href).href;
        for (const button of document.querySelectorAll<HTMLButtonElement>("[data-copy]")) {
            const input = part<HTMLInputElement>(button.dataset["copy"] ?? "");
            button.addEventListener("click", () => void copy(input).then((done) => set(button, done)));
        }
    }

    private onKey(event: KeyboardEvent): void {
        const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
        if (isTyping || event.ctrlKey || event.altKey || event.metaKey) {
            return;
        }
        const act = this.keys()[event.key];
        if (act !== undefined) {
            event.preventDefault();
            act();
        }
    }

    private keys(): Readonly<Record<string, () => void>> {
        const { player, video } = this;
        return {
            k: () => player.togglePause(),
            m: () => this.toggleMute(),
            l: () => player.goLive(),
            v: () => this.choose(otherThan(player.currentVia)),
            f: () => this.toggleFull(),
            ArrowUp: () => this.setVolume(video.volume + 0.1),
            ArrowDown: () => this.setVolume(video.volume - 0.1),
        };
    }

    private choose(via: Via): void {
        const address = new URL(location.href);
        address.searchParams.set("via", via);
        history.replaceState(null, "", address);
        this.player.choose(via);
    }

    private toggleMute(): void {
        this.wasMutedByHand = !this.video.muted;
        this.video.muted = !this.video.muted;
        if (!this.video.muted && this.video.volume === 0) {
            this.video.volume = 1;
        }
    }

    private setVolume(volume: number): void {
        this.video.volume = Math.min(1, Math.max(0, volume));
        this.wasMutedByHand = this.video.volume === 0;
        this.video.muted = this.wasMutedByHand;
    }

    private toggleFull(): void {
        // An iPhone knows full screen for the picture alone.
        const phone = this.video as HTMLVideoElement & { webkitEnterFullscreen?: () => void };
        if (document.fullscreenElement !== null) {
            void document.exitFullscreen();
        } else if (document.fullscreenEnabled) {
            // Refused, all stays as it is.
            this.main.requestFullscreen().catch(() => {});
        } else {
            phone.webkitEnterFullscreen?.();
        }
    }

    private async ask(): Promise<void> {
        const { state, sessionId } = this.player;
        const name = sessionId ?? this.wish.key;
        const isWaiting = state === "starting" || state === "buffering";
        this.told = isWaiting && name !== null ? await progress(name) : "";
        this.show();
    }
}

function otherThan(via: Via): Via {
    return via === "hls" ? "ts" : "hls";
}

/** Written only when it differs: what is written is read out. */
function set(element: HTMLElement, text: string): void {
    if (element.textContent !== text) {
        element.textContent = text;
    }
}

function sentence(text: string): string {
    const upper = text.charAt(0).toUpperCase() + text.slice(1);
    return /[.!?…]$/.test(upper) ? upper : `${upper}.`;
}

/** Copies; without https a browser has no clipboard, and the text is marked to be copied by hand. */
async function copy(input: HTMLInputElement): Promise<string> {
    input.select();
    try {
        await navigator.clipboard.writeText(input.value);
        return "Copied";
    } catch {
        return document.execCommand("copy") ? "Copied" : "Marked";
    }
}
