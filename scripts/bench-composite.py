#!/usr/bin/env python3
"""What composing costs, beside FFmpeg and GStreamer doing the same: CPU seconds per second of media, one thread for each stage.

Usage: scripts/bench-composite.py [REPETITIONS [SECONDS]]      5 repetitions of 10 s take some 8 minutes

ours       decode, scale, paint, encode: recorder/examples/compose_cost.rs, the thread's own CPU time
bare       FFmpeg decodes every camera to nothing, and encodes the finished canvas: what no composer can do without
graph      FFmpeg doing the whole in one filter graph: fps, scale, xstack, x264 with the same settings
gstreamer  GStreamer's compositor between avdec_h264 and x264enc with the same settings

Cameras are the same files for all, made by ours; what is sound costs nothing here. The four take turns, so that a change of the machine's speed meets
all of them; what is told are medians, and the median of the ratios within a turn. Results: target/bench/composite.jsonl.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target/bench/composite"
EXAMPLE = ROOT / "target/release/examples/compose_cost"
# People, width, height, pictures per second.
ROOMS = [(1, 640, 360, 15), (4, 640, 360, 15), (9, 640, 360, 15), (17, 640, 360, 15), (4, 1280, 720, 30)]
CANVAS = (1280, 720, 30, 2000)
# A filter graph that waits for a picture that never comes keeps all others: it ends instead of filling the machine.
MEMORY = 6 << 30
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-threads", "1", "-x264-params", "sliced-threads=0:scenecut=0:keyint=180:min-keyint=180",
        "-b:v", "2000k", "-maxrate", "2000k", "-bufsize", "2000k", "-f", "null", "-"]


def cpu(command):
    """CPU seconds of a command, user and system."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def ffmpeg(*args):
    return cpu(["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *args])


def ours(room, seconds):
    people, width, height, rate = room
    told = subprocess.run([EXAMPLE, FOLDER, str(people), f"{width}x{height}@{rate}", str(seconds)], check=True, capture_output=True, text=True)
    return json.loads(told.stdout)["cpu_per_second"]


def package(room):
    """Raw H.264 has no times of its own that a demuxer would believe: a container does."""
    people, _, _, rate = room
    cameras = []
    for n in range(people):
        camera = FOLDER / f"camera-{n}.mp4"
        ffmpeg("-i", FOLDER / f"camera-{n}.h264", "-c", "copy", "-bsf:v", f"setts=time_base=1/90000:ts=N*{90000 // rate}", camera)
        cameras.append(camera)
    return cameras


def canvas_pictures():
    """The finished canvas, decoded: it is encoded again, which costs what the encoding alone costs."""
    raw = FOLDER / "canvas.yuv"
    ffmpeg("-i", FOLDER / "composite.h264", "-fps_mode", "passthrough", "-f", "rawvideo", raw)
    return raw


def bare(cameras, raw, seconds):
    width, height, rate, _ = CANVAS
    inputs = [word for camera in cameras for word in ("-threads", "1", "-i", camera)]
    decoding = ffmpeg(*inputs, *(word for n in range(len(cameras)) for word in ("-map", f"{n}:v", "-fps_mode", "passthrough", "-f", "null", "-")))
    encoding = ffmpeg("-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-framerate", str(rate), "-i", raw, *X264)
    return (decoding + encoding) / seconds


def tiles(people):
    """Best Fit, as ours has it, for the numbers of people that are measured: x, y, width and height of each."""
    width, height = CANVAS[:2]
    if people == 17:
        # A fifth of the canvas each, 4 x 4 between margins and the last one alone below (docs/images/layout-bestfit.svg).
        w, h = width // 5, height // 5
        return [(width // 10 + n % 4 * w, n // 4 * h, w, h) for n in range(16)] + [(width * 4 // 10, 4 * h, w, h)]
    side = {1: 1, 4: 2, 9: 3}[people]
    edges = lambda length: [round(n * length / side / 2) * 2 for n in range(side + 1)]
    xs, ys = edges(width), edges(height)
    return [(xs[c], ys[r], xs[c + 1] - xs[c], ys[r + 1] - ys[r]) for r in range(side) for c in range(side)]


def graph(cameras, seconds):
    rate = CANVAS[2]
    places = tiles(len(cameras))
    inputs = [word for camera in cameras for word in ("-threads", "1", "-i", camera)]
    scaled = [f"[{n}:v]fps={rate},scale={w}:{h}:flags=bicubic[t{n}]" for n, (_, _, w, h) in enumerate(places)]
    if len(cameras) == 1:
        whole = scaled[0].replace("[t0]", "[out]")
    else:
        layout = "|".join(f"{x}_{y}" for x, y, _, _ in places)
        # xstack ends where its tiles do.
        whole_width = max(x + w for x, _, w, _ in places)
        pad = f",pad={CANVAS[0]}:{CANVAS[1]}" if whole_width < CANVAS[0] else ""
        names = "".join(f"[t{n}]" for n in range(len(cameras)))
        whole = ";".join(scaled + [f"{names}xstack=inputs={len(cameras)}:layout={layout}:fill=black{pad}[out]"])
    return ffmpeg("-filter_complex_threads", "1", *inputs, "-filter_complex", whole, "-map", "[out]", *X264) / seconds


def gstreamer(cameras, seconds):
    canvas_width, canvas_height, rate, kbps = CANVAS
    pads = [f"sink_{n}::{key}={value}" for n, place in enumerate(tiles(len(cameras)))
            for key, value in zip(("xpos", "ypos", "width", "height"), place)]
    inputs = [word for n, camera in enumerate(cameras)
              for word in ("filesrc", f"location={camera}", "!", "qtdemux", "!", "h264parse", "!", "avdec_h264", "max-threads=1", "!", "queue", "!", f"c.sink_{n}")]
    encoder = ["x264enc", "speed-preset=veryfast", "tune=zerolatency", "threads=1", "sliced-threads=false", f"bitrate={kbps}", "key-int-max=180",
               "option-string=scenecut=0", "vbv-buf-capacity=1000"]
    caps = f"video/x-raw,format=I420,width={canvas_width},height={canvas_height},framerate={rate}/1"
    return cpu(["gst-launch-1.0", "-q", "compositor", "name=c", "background=black", *pads, "!", caps, "!", *encoder, "!", "fakesink", "sync=false", *inputs]) / seconds


def main():
    repetitions, seconds = (int(word) for word in (sys.argv[1:] + ["5", "10"][len(sys.argv) - 1:]))
    FOLDER.mkdir(parents=True, exist_ok=True)
    runs = []
    for room in ROOMS:
        for turn in range(repetitions):
            run = {"people": room[0], "camera": f"{room[1]}x{room[2]}@{room[3]}", "ours": ours(room, seconds)}
            if turn == 0:
                cameras, raw = package(room), canvas_pictures()
            run |= {"bare": bare(cameras, raw, seconds), "graph": graph(cameras, seconds), "gstreamer": gstreamer(cameras, seconds)}
            runs.append(run)
            print(json.dumps(run), file=sys.stderr, flush=True)
        for leftover in FOLDER.iterdir():
            os.remove(leftover)
    (FOLDER.parent / "composite.jsonl").write_text("".join(json.dumps(run) + "\n" for run in runs))
    print("| people | camera | ours | bare | graph | GStreamer | ours / bare | ours / graph | ours / GStreamer |\n|---|---|---|---|---|---|---|---|---|")
    for people, width, height, rate in ROOMS:
        camera = f"{width}x{height}@{rate}"
        of = [run for run in runs if (run["people"], run["camera"]) == (people, camera)]
        median = lambda value: statistics.median(map(value, of))
        cells = [median(lambda run: run[who]) for who in ("ours", "bare", "graph", "gstreamer")]
        ratios = [median(lambda run: run["ours"] / run[peer]) for peer in ("bare", "graph", "gstreamer")]
        print(f"| {people} | {camera} | " + " | ".join(f"{cell:.3f}" for cell in cells + ratios) + " |")


main()
