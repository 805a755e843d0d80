// Builds the pages into built/, which is committed: whoever builds the server
// needs no node. The same sources give the same bytes on every machine.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import { build } from "esbuild";

/** What the bundle holds of others, and whose text of the licence comes with it. */
const BUNDLED = [
    ["hls.js", "its light build"],
    ["eventemitter3", "within hls.js"],
    ["url-toolkit", "within hls.js"],
    ["mpegts.js", "whole"],
    ["es6-promise", "within mpegts.js"],
    ["events", "within mpegts.js"],
];

const read = (path) => readFileSync(new URL(path, import.meta.url));
const write = (path, bytes) => writeFileSync(new URL(path, import.meta.url), bytes);

async function bundle(entry) {
    const result = await build({
        absWorkingDir: new URL(".", import.meta.url).pathname,
        entryPoints: [entry],
        bundle: true,
        minify: true,
        format: "iife",
        target: "es2020",
        charset: "utf8",
        legalComments: "none",
        write: false,
    });
    return Buffer.from(result.outputFiles[0].contents);
}

function notices() {
    const parts = BUNDLED.map(([name, how]) => {
        const { version, license } = JSON.parse(read(`node_modules/${name}/package.json`));
        const file = ["LICENSE", "LICENSE.md", "LICENSE-APACHE-2.0.txt"].find((file) =>
            existsSync(new URL(`node_modules/${name}/${file}`, import.meta.url)),
        );
        if (!file) throw new Error(`${name} comes without the text of its licence`);
        const text = read(`node_modules/${name}/${file}`).toString().replaceAll("\r\n", "\n").trim();
        return `${name} ${version} (${how}): ${license}\n\n${text}\n`;
    });
    const head = "The pages of Millrace hold software of others, under these licences.\n";
    return Buffer.from([head, ...parts].join(`\n${"-".repeat(78)}\n\n`));
}

/** Packed anew only when it has to be: another zlib packs in other bytes. */
function packed(path, bytes) {
    if (existsSync(new URL(path, import.meta.url))) {
        const before = read(path);
        if (gunzipSync(before).equals(bytes)) return before;
    }
    return gzipSync(bytes, { level: 9 });
}

const assets = {
    "icon.svg": read("src/icon.svg"),
    "notices.txt": notices(),
    "watch.css": await bundle("src/watch.css"),
    "watch.js": await bundle("src/watch.ts"),
};
const hash = createHash("sha256");
for (const [name, bytes] of Object.entries(assets)) {
    hash.update(`${name} ${bytes.length}\n`).update(bytes);
}
const version = hash.digest("hex").slice(0, 16);

mkdirSync(new URL("built", import.meta.url), { recursive: true });
for (const [name, bytes] of Object.entries(assets)) write(`built/${name}`, bytes);
write("built/watch.js.gz", packed("built/watch.js.gz", assets["watch.js"]));
write("built/version", version);
for (const page of ["watch.html", "refused.html"]) {
    write(`built/${page}`, read(`src/${page}`).toString().replaceAll("{{assets}}", `/panel/${version}`));
}
