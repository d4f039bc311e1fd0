#!/usr/bin/env python3
"""What composing costs beside FFmpeg, on the same cameras: CPU seconds per second of media, medians of interleaved repetitions.

a: FFmpeg decodes every camera, and encodes the finished canvas (decoding it is taken off).
b: FFmpeg's filter graph does the whole: decode, scale, xstack, encode.
Ours: recorder/examples/compose_cost.rs, without receiving and without sound. x264 is the same in all: veryfast, zerolatency, one thread, 2 Mbit/s.
"""
import json, os, resource, statistics, subprocess, sys, tempfile

CASES = [(1, "640x360@15"), (4, "640x360@15"), (9, "640x360@15"), (16, "640x360@15"), (4, "1280x720@30")]
SECONDS = int(os.environ.get("SECONDS_EACH", "20"))
REPETITIONS = int(os.environ.get("REPETITIONS", "5"))
SIDES = {1: 1, 4: 2, 9: 3, 16: 4}
ENCODER = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-threads", "1", "-b:v", "2000k", "-maxrate", "2000k", "-bufsize", "2000k",
           "-g", "180", "-bf", "0", "-f", "null", "-"]


def cpu(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / SECONDS, done.stdout


def ffmpeg(*arguments):
    return cpu(["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", *arguments])[0]


def inputs(folder, people, rate):
    return [word for n in range(people) for word in ("-threads", "1", "-r", rate, "-i", f"{folder}/camera-{n}.h264")]


def graph(people):
    side = SIDES[people]
    width, height = 1280 // side // 2 * 2, 720 // side // 2 * 2
    tiles = "".join(f"[{n}:v]fps=30,scale={width}:{height}:flags=area[t{n}];" for n in range(people))
    if people == 1:
        return tiles.replace("[t0];", "[out]").replace("flags=area", "flags=bicubic")
    places = "|".join(f"{n % side * width}_{n // side * height}" for n in range(people))
    return tiles + "".join(f"[t{n}]" for n in range(people)) + f"xstack=inputs={people}:layout={places}[out]"


def measure(example, folder, people, camera):
    rate = camera.split("@")[1]
    ours = json.loads(cpu([example, folder, str(people), camera, str(SECONDS)])[1])["cpu_per_second"]
    sources = inputs(folder, people, rate)
    decode = ffmpeg(*sources, *[word for n in range(people) for word in ("-map", f"{n}:v")], "-f", "null", "-")
    canvas = ["-threads", "1", "-r", "30", "-i", f"{folder}/composite.h264"]
    encode = ffmpeg(*canvas, *ENCODER) - ffmpeg(*canvas, "-f", "null", "-")
    whole = ffmpeg(*sources, "-filter_complex_threads", "1", "-filter_complex", graph(people), "-map", "[out]", *ENCODER)
    return ours, decode + encode, whole


def main():
    example = sys.argv[1]
    print("| cameras | ours | a: decode and encode | b: filter graph | ours / a | ours / b |")
    print("|---|---|---|---|---|---|")
    runs = {case: [] for case in CASES}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(REPETITIONS):
            for case in CASES:
                runs[case].append(measure(example, folder, *case))
    for (people, camera), results in runs.items():
        ours, bare, whole = (statistics.median(column) for column in zip(*results))
        to_bare, to_whole = (statistics.median(r[0] / r[n] for r in results) for n in (1, 2))
        print(f"| {people} x {camera} | {ours:.3f} | {bare:.3f} | {whole:.3f} | {to_bare:.2f} | {to_whole:.2f} |")


main()
