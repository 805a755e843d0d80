/** Why something does not play, in words that help. */

/** A refusal: the server's own, or one in its shape. */
export interface Refusal {
    /** HTTP status; 0 where there was no answer. */
    readonly status: number;
    /** For programs. */
    readonly code: string;
    /** What happened. */
    readonly message: string;
    /** What helps. */
    readonly remedy: string;
    /** From the closed list of causes, where a stream was the matter. */
    readonly cause: string | null;
    /** Seconds until it may be different. */
    readonly retryAfter: number | null;
}

/** Nothing answers. */
export const UNREACHABLE: Refusal = {
    status: 0,
    code: "unreachable",
    message: "The server does not answer.",
    remedy: "Check that it runs and that this device is on its network.",
    cause: null,
    retryAfter: null,
};

/** The browser cannot play what comes. */
export function undecodable(detail: string): Refusal {
    return {
        status: 0,
        code: "undecodable",
        message: `This browser cannot play what the stream holds (${detail}).`,
        remedy: "Play it the other way, or open its address in VLC or mpv: see below.",
        cause: null,
        retryAfter: null,
    };
}

/** Bytes come, and no picture. */
export const STUCK: Refusal = {
    status: 0,
    code: "stuck",
    message: "The stream comes, but no picture can be made of it.",
    remedy: "Play it the other way, or open its address in VLC or mpv: see below.",
    cause: null,
    retryAfter: null,
};

/** No way to play is known to this browser. */
export const NO_PLAYER: Refusal = {
    status: 0,
    code: "no_player",
    message: "This browser can play neither HLS nor a transport stream.",
    remedy: "Use a newer browser, or open the address in VLC or mpv: see below.",
    cause: null,
    retryAfter: null,
};

/** The refusal in an answer's body; one in our own words where it holds none. */
export function parseRefusal(status: number, body: string): Refusal {
    const told = errorOf(body);
    const text = (name: string): string | null => {
        const value = told[name];
        return typeof value === "string" ? value : null;
    };
    const seconds = told["retry_after_seconds"];
    return {
        status,
        code: text("code") ?? "unknown",
        message: text("message") ?? `The server answers with status ${status} and gives no reason.`,
        remedy: text("remedy") ?? "Try again; if a proxy stands in between, see its log.",
        cause: text("cause"),
        retryAfter: typeof seconds === "number" ? seconds : null,
    };
}

function errorOf(body: string): Record<string, unknown> {
    try {
        const error: unknown = JSON.parse(body)?.error;
        return typeof error === "object" && error !== null ? (error as Record<string, unknown>) : {};
    } catch {
        return {};
    }
}

/** Whether another try may help without anybody doing anything. */
export function mayPass(refusal: Refusal): boolean {
    return refusal.status === 0 || refusal.status === 429 || refusal.status >= 500;
}

/** How streams end that nobody should start again unasked. */
const FINAL: Readonly<Record<string, string>> = {
    content_ended: "The broadcast is over. Look for the next one under another id.",
    content_restricted: "This content needs an option that the engines lack.",
    content_unavailable: "Check the id, or try again later.",
    content_blocked: "This content has failed too often of late. Wait a while.",
    stopped: "Somebody stopped it by the API. Play again to start it anew.",
};

/** The end of a stream that has played, where it is a final one. */
export function finalEnd(cause: string, detail: string | null): Refusal | null {
    const remedy = FINAL[cause];
    if (remedy === undefined) {
        return null;
    }
    return { status: 200, code: cause, message: detail ?? cause, remedy, cause, retryAfter: null };
}
