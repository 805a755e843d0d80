/** What the server's API tells of the stream. */

/** How a session ended. */
export interface SessionEnd {
    readonly cause: string;
    readonly detail: string | null;
}

/** A session's end is told to the API within a second or two. */
const TRIES = 6;
const PAUSE_MS = 500;

/** How a session ended: this one, or else the newest of `key`; `null` where the server does not answer. */
export async function sessionEnd(session: string | null, key: string | null): Promise<SessionEnd | null> {
    const unknown = { cause: "closed", detail: "the server closed this connection" };
    if (session === null && key === null) {
        return unknown;
    }
    for (let i = 0; i < TRIES; i += 1) {
        const told = session === null ? await newest(key ?? "") : await ask(`/api/v1/sessions/${session}`);
        if (told === null) {
            return null;
        }
        if (typeof told["cause"] === "string") {
            const detail = told["detail"];
            return { cause: told["cause"], detail: typeof detail === "string" ? detail : null };
        }
        await new Promise((resolve) => window.setTimeout(resolve, PAUSE_MS));
    }
    return unknown;
}

async function newest(key: string): Promise<Record<string, unknown> | null> {
    const told = await ask(`/api/v1/sessions?limit=1&key=${encodeURIComponent(key)}`);
    const list: unknown = told?.["sessions"];
    return told === null || !Array.isArray(list) ? null : (list[0] ?? {});
}

/** What is known of a stream that has yet to show a picture, in words; empty where nothing is. */
export async function progress(name: string): Promise<string> {
    const told = await ask(`/api/v1/streams/${encodeURIComponent(name)}`);
    if (told === null) {
        return "";
    }
    const number = (key: string): number | null => {
        const value = told[key];
        return typeof value === "number" ? value : null;
    };
    const parts: string[] = [];
    if (told["state"] === "queued") {
        parts.push("waits for a free engine");
    } else if (told["state"] === "failing_over") {
        parts.push("moves to another engine");
    }
    const peers = number("peers");
    if (peers !== null) {
        parts.push(peers === 1 ? "1 peer" : `${peers} peers`);
    }
    const speed = number("speed_down_kib");
    if (speed !== null) {
        parts.push(`${speed} KiB/s`);
    }
    return parts.join(", ");
}

async function ask(path: string): Promise<Record<string, unknown> | null> {
    try {
        const answer = await fetch(path);
        const told: unknown = answer.ok ? await answer.json() : null;
        return typeof told === "object" ? (told as Record<string, unknown> | null) : null;
    } catch {
        return null;
    }
}
