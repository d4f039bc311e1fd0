#!/usr/bin/env python3
"""What composing a LiveKit room costs, beside FFmpeg and GStreamer doing the same from files: CPU seconds per second of media.

Usage: scripts/bench-composite.py [REPETITIONS [SECONDS]]      5 repetitions of 8 s take some 25 minutes

ours       our recorder in mode Composite, less the same recorder that receives the room and drops everything (recorder/examples/receive.rs)
bare       FFmpeg decodes every camera and every voice to nothing, and encodes the finished canvas and sound: what no composer can do without
graph      FFmpeg doing the whole in one filter graph: fps, scale, xstack, x264 veryfast without delay at the same rate; amix, AAC
gstreamer  GStreamer's compositor between avdec_h264 and x264enc with those settings; audiomixer, AAC

Everybody sends, and the peers read, the same file, as fast as a camera does: from a file at full speed FFmpeg
takes a tenth to a fifth less. Fed so, `bare` has costs of its own (pacing, reading the raw canvas): below it is no wonder. All take turns, so that a change of the machine's speed meets all of them; what is told are medians, and
the median of the ratios within a turn. Results: target/bench/composite.jsonl. On a machine that others measure on too, BENCH_LOCK names a file to lock.
"""

import contextlib
import fcntl
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target/bench/composite"
BENCH = ROOT / "target/release/recording-bench"
# People, width, height, pictures per second, kbit/s.
ROOMS = [(1, 640, 360, 15, 500), (4, 640, 360, 15, 500), (9, 640, 360, 15, 500), (17, 640, 360, 15, 500), (4, 1280, 720, 30, 1800)]
CANVAS = (1280, 720, 30)
# A filter graph that waits for a picture that never comes keeps all others: it ends instead of filling the machine.
MEMORY = 6 << 30
# A run in which media did not arrive measures nothing.
TRIES = 3
X264 = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-threads", "1", "-x264-params", "sliced-threads=0:scenecut=0:keyint=180:min-keyint=180",
        "-b:v", "2000k", "-maxrate", "2000k", "-bufsize", "2000k"]
AAC = ["-c:a", "aac", "-b:a", "128k", "-ar", "48000"]
NOWHERE = ["-f", "null", "-"]


@contextlib.contextmanager
def alone():
    with open(os.environ.get("BENCH_LOCK", os.devnull), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def cpu(command):
    """CPU seconds of a command, user and system."""
    with alone():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                       preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def ffmpeg(*args):
    return cpu(["ffmpeg", "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *args])


def bench(command, room, *args):
    _, width, height, rate, kbps = room
    camera = ["--width", str(width), "--height", str(height), "--fps", str(rate), "--kbps", str(kbps)]
    for _ in range(TRIES):
        with alone():
            told = subprocess.run([BENCH, "--runs", FOLDER.parent / "composite-runs.jsonl", *command, *camera, *args], stdout=subprocess.PIPE, text=True)
        if told.returncode == 0:
            return told.stdout.splitlines()[-1]
    raise SystemExit(f"{command} of {room} is no measurement")


def received(subject, room, seconds):
    """CPU seconds per second, of everybody together."""
    told = json.loads(bench(["run", subject], room, "--participants", str(room[0]), "--seconds", str(seconds)))
    return told["cpuPerMediaSecond"] * room[0]


def package(room, seconds):
    """Raw H.264 has no times of its own that a demuxer would believe: a container does."""
    people, _, _, rate, _ = room
    prefix = bench(["prepare"], room)
    first = FOLDER / "camera-0.mp4"
    ffmpeg("-i", f"{prefix}.h264", "-i", f"{prefix}.ogg", "-c", "copy", "-bsf:v", f"setts=time_base=1/90000:ts=N*{90000 // rate}", "-t", str(seconds), first)
    cameras = [FOLDER / f"camera-{n}.mp4" for n in range(people)]
    for camera in cameras[1:]:
        shutil.copy(first, camera)
    return cameras


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


def inputs_of(cameras, paced=True):
    pace = ["-re"] if paced else []
    return [word for camera in cameras for word in (*pace, "-threads", "1", "-i", camera)]


def filter_graph(people):
    rate = CANVAS[2]
    places = tiles(people)
    scaled = [f"[{n}:v]fps={rate},scale={w}:{h}:flags=bicubic[t{n}]" for n, (_, _, w, h) in enumerate(places)]
    voices = "".join(f"[{n}:a]" for n in range(people))
    sound = f"{voices}amix=inputs={people}:normalize=0[sound]"
    if people == 1:
        return ";".join([scaled[0].replace("[t0]", "[out]"), sound])
    layout = "|".join(f"{x}_{y}" for x, y, _, _ in places)
    # xstack ends where its tiles do.
    whole_width = max(x + w for x, _, w, _ in places)
    pad = f",pad={CANVAS[0]}:{CANVAS[1]}" if whole_width < CANVAS[0] else ""
    names = "".join(f"[t{n}]" for n in range(people))
    return ";".join(scaled + [f"{names}xstack=inputs={people}:layout={layout}:fill=black{pad}[out]", sound])


def finished(cameras):
    """Canvas and sound as they are before they are encoded."""
    raw, sound = FOLDER / "canvas.yuv", FOLDER / "sound.wav"
    ffmpeg(*inputs_of(cameras, paced=False), "-filter_complex", filter_graph(len(cameras)), "-map", "[out]", "-f", "rawvideo", raw, "-map", "[sound]", sound)
    return raw, sound


def bare(cameras, raw, sound, seconds):
    width, height, rate = CANVAS
    people = len(cameras)
    streams = [word for n in range(people) for kind in "va" for word in ("-map", f"{n}:{kind}", "-fps_mode", "passthrough", *NOWHERE)]
    picture = ["-re", "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-framerate", str(rate), "-i", raw]
    encoding = ["-map", f"{people}:v", "-map", f"{people + 1}:a", *X264, *AAC, *NOWHERE]
    return ffmpeg(*inputs_of(cameras), *picture, "-re", "-i", sound, *streams, *encoding) / seconds


def graph(cameras, seconds):
    whole = ["-filter_complex_threads", "1", *inputs_of(cameras), "-filter_complex", filter_graph(len(cameras))]
    return ffmpeg(*whole, "-map", "[out]", "-map", "[sound]", *X264, *AAC, *NOWHERE) / seconds


def gstreamer(cameras, seconds):
    canvas_width, canvas_height, rate = CANVAS
    pads = [f"sink_{n}::{key}={value}" for n, place in enumerate(tiles(len(cameras)))
            for key, value in zip(("xpos", "ypos", "width", "height"), place)]
    inputs = [word for n, camera in enumerate(cameras) for word in (
        "filesrc", f"location={camera}", "!", "qtdemux", f"name=d{n}",
        f"d{n}.video_0", "!", "queue", "!", "h264parse", "!", "avdec_h264", "max-threads=1", "!", "queue", "!", f"c.sink_{n}",
        f"d{n}.audio_0", "!", "queue", "!", "opusdec", "!", "audioconvert", "!", "audioresample", "!", "queue", "!", f"m.sink_{n}")]
    encoder = ["x264enc", "speed-preset=veryfast", "tune=zerolatency", "threads=1", "sliced-threads=false", "bitrate=2000", "key-int-max=180",
               "option-string=scenecut=0", "vbv-buf-capacity=1000"]
    caps = f"video/x-raw,format=I420,width={canvas_width},height={canvas_height},framerate={rate}/1"
    picture = ["compositor", "name=c", "background=black", *pads, "!", caps, "!", *encoder, "!", "fakesink", "sync=true"]
    sound = ["audiomixer", "name=m", "!", "audio/x-raw,rate=48000,channels=2", "!", "audioconvert", "!", "avenc_aac", "bitrate=128000", "!", "fakesink", "sync=true"]
    return cpu(["gst-launch-1.0", "-q", *picture, *sound, *inputs]) / seconds


def measure(room, turns, seconds):
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    cameras = package(room, seconds)
    raw, sound = finished(cameras)
    for _ in range(turns):
        recorder, receiving = received("composite", room, seconds), received("receiving", room, seconds)
        run = {"people": room[0], "camera": f"{room[1]}x{room[2]}@{room[3]}", "recorder": recorder, "receiving": receiving, "ours": recorder - receiving}
        run |= {"bare": bare(cameras, raw, sound, seconds), "graph": graph(cameras, seconds), "gstreamer": gstreamer(cameras, seconds)}
        print(json.dumps(run), file=sys.stderr, flush=True)
        yield run
    shutil.rmtree(FOLDER)


def main():
    turns, seconds = (int(word) for word in (sys.argv[1:] + ["5", "8"][len(sys.argv) - 1:]))
    runs = []
    # Half an hour of measures is not lost with the last of them.
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with open(FOLDER.parent / "composite.jsonl", "w") as results:
        for room in ROOMS:
            for run in measure(room, turns, seconds):
                runs.append(run)
                print(json.dumps(run), file=results, flush=True)
    print("| people | camera | ours | bare | graph | GStreamer | ours / bare | ours / graph | ours / GStreamer |\n|---|---|---|---|---|---|---|---|---|")
    for people, width, height, rate, _ in ROOMS:
        camera = f"{width}x{height}@{rate}"
        of = [run for run in runs if (run["people"], run["camera"]) == (people, camera)]
        median = lambda value: statistics.median(map(value, of))
        cells = [median(lambda run: run[who]) for who in ("ours", "bare", "graph", "gstreamer")]
        ratios = [median(lambda run: run["ours"] / run[peer]) for peer in ("bare", "graph", "gstreamer")]
        print(f"| {people} | {camera} | " + " | ".join(f"{cell:.3f}" for cell in cells + ratios) + " |")


main()
