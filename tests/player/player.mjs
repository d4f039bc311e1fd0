// Plays a playlist to its end with hls.js in headless Chromium and prints one JSON report.
//   node player.mjs --modules NODE_MODULES [--chromium PATH] [--rate 1] PLAYLIST
// Field names and their meaning: PlayerReport in tests/src/analyser/player.rs.
import { createServer } from "node:http";
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, extname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const TYPES = { ".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t", ".html": "text/html", ".js": "text/javascript" };
// Longer than any page needs to load; a recording then gets three times its length plus this.
const SLACK_MS = 30_000;
const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { modules: { type: "string" }, chromium: { type: "string", default: "/usr/bin/chromium" }, rate: { type: "string", default: "1" } },
});
if (positionals.length !== 1 || !values.modules) {
  console.error("usage: player.mjs --modules NODE_MODULES [--chromium PATH] [--rate 1] PLAYLIST");
  process.exit(2);
}
const modules = resolve(values.modules);
const playlist = resolve(positionals[0]);
const { chromium } = createRequire(join(modules, "x.js"))("playwright-core");

// Everything below the playlist's folder, the page and hls.js; ranges are not needed by hls.js.
function serve() {
  const page = join(dirname(fileURLToPath(import.meta.url)), "player.html");
  const fixed = { "/": page, "/hls.js": join(modules, "hls.js/dist/hls.min.js") };
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent(new URL(request.url, "http://x").pathname);
    const file = fixed[path] ?? join(dirname(playlist), path.replace(/^\/media\//, ""));
    const found = (fixed[path] || path.startsWith("/media/")) && !path.includes("..") && (await stat(file).catch(() => null));
    if (!found || !found.isFile()) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream", "content-length": found.size, "cache-control": "no-store" });
    createReadStream(file).pipe(response);
  });
  return new Promise((done) => server.listen(0, "127.0.0.1", () => done(server)));
}

// Runs in the page. A stall: the media time stands still although the player neither ended nor was paused; the time until
// it first plays is the start-up and counted apart, with hls.js' seek past what begins later than the rest. Sampled every 20 ms
// by the page's own clock; what lasts less than 100 ms is not told from the granularity of currentTime.
async function playInPage({ url, rate, slackMs }) {
  const SAMPLE_MS = 20, STALL_MS = 100;
  const video = document.getElementById("v");
  const report = { fatalErrors: [], errors: [], stalls: 0, longestStallMs: 0, duration: 0, playedTo: 0, ended: false, sizes: [], startUpMs: 0, droppedFrames: 0 };
  const size = () => {
    const last = report.sizes.at(-1);
    if (video.videoWidth && (last?.[0] !== video.videoWidth || last?.[1] !== video.videoHeight)) report.sizes.push([video.videoWidth, video.videoHeight]);
  };
  video.addEventListener("resize", size);
  const hls = new Hls({ enableWorker: true, startPosition: 0 });
  let failed = false;
  hls.on(Hls.Events.ERROR, (_, data) => {
    (data.fatal ? report.fatalErrors : report.errors).push(`${data.type}/${data.details}${data.error ? `: ${data.error.message}` : ""}`);
    failed ||= data.fatal;
  });
  video.addEventListener("error", () => {
    report.fatalErrors.push(`media element: ${video.error.code} ${video.error.message}`);
    failed = true;
  });
  const parsed = new Promise((done) => hls.on(Hls.Events.LEVEL_LOADED, (_, data) => done(data.details.totalduration)));
  const start = performance.now();
  hls.loadSource(url);
  hls.attachMedia(video);
  const total = await Promise.race([parsed, new Promise((done) => setTimeout(() => done(0), slackMs))]);
  video.playbackRate = rate;
  video.defaultPlaybackRate = rate;
  video.play().catch((error) => report.errors.push(`play: ${error.message}`));
  const deadline = performance.now() + (3000 * total) / rate + slackMs;
  let playing = false, moved = null, last = 0, stalled = false;
  video.addEventListener("playing", () => ([playing, last] = [true, video.currentTime]), { once: true });
  while (!video.ended && !failed && performance.now() < deadline) {
    await new Promise((done) => setTimeout(done, SAMPLE_MS));
    const now = performance.now(), time = video.currentTime;
    if (!playing) continue;
    if (time !== last || video.paused) {
      if (moved === null && time !== last) report.startUpMs = now - start;
      if (moved !== null || time !== last) moved = now;
      [last, stalled] = [time, false];
    } else if (moved !== null && !video.ended && now - moved >= STALL_MS) {
      if (!stalled) report.stalls += 1;
      stalled = true;
      report.longestStallMs = Math.max(report.longestStallMs, now - moved);
    }
  }
  size();
  const quality = video.getVideoPlaybackQuality?.();
  return { ...report, ended: video.ended, duration: Number.isFinite(video.duration) ? video.duration : 0, playedTo: video.currentTime, droppedFrames: quality?.droppedVideoFrames ?? 0 };
}

const server = await serve();
// playwright-core would add a headless shell's flags of its own; ours are complete for Debian's Chromium.
const browser = await chromium.launch({ executablePath: values.chromium, headless: true, args: FLAGS });
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  page.on("pageerror", (error) => console.error(`page: ${error.message}`));
  const origin = `http://127.0.0.1:${server.address().port}`;
  await page.goto(`${origin}/`);
  const url = `${origin}/media/${encodeURIComponent(basename(playlist))}`;
  console.log(JSON.stringify(await page.evaluate(playInPage, { url, rate: Number(values.rate), slackMs: SLACK_MS })));
} finally {
  await browser.close();
  server.close();
}
