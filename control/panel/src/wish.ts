/** What the page's address asks for. */

/** How the stream comes: as HLS, or as one endless transport stream. */
export type Via = "hls" | "ts";

/** A wanted stream. */
export interface Wish {
    /** The selector and its options, as stream paths take them. */
    readonly query: string;
    /** What `/api/v1/streams` calls it, where that can be told from here. */
    readonly key: string | null;
    /** The way that was asked for. */
    readonly via: Via | null;
}

/** Options that make another stream of the same content. */
const OPTIONS = ["file_indexes", "_idx", "seekback"];

/** Reads an address that the server has found good. */
export function wishOf(path: string, search: string): Wish {
    const asked = new URLSearchParams(search);
    const via = asked.get("via");
    asked.delete("via");
    const id = path.match(/^\/watch\/([^/]+)$/)?.[1];
    if (id !== undefined) {
        // One that differs from the query's is for the stream's path to refuse.
        asked.append("id", decodeURIComponent(id));
    }
    return { query: asked.toString(), key: keyOf(asked), via: via === "hls" || via === "ts" ? via : null };
}

function keyOf(asked: URLSearchParams): string | null {
    if (OPTIONS.some((name) => asked.has(name))) {
        return null;
    }
    const id = asked.get("id") ?? asked.get("content_id");
    if (id !== null) {
        return `id:${id.replace("acestream://", "").toLowerCase()}`;
    }
    const infohash = asked.get("infohash");
    return infohash === null ? null : `infohash:${infohash.toLowerCase()}`;
}

/** Where the transport stream is. */
export function tsPath(wish: Wish): string {
    return `/ace/getstream?${wish.query}`;
}

/** Where the HLS playlist is. */
export function hlsPath(wish: Wish): string {
    return `/ace/manifest.m3u8?${wish.query}`;
}
