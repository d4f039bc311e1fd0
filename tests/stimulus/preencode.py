#!/usr/bin/env python3
"""Writes the picture and sound of BLOCK_CODE.md as PREFIX.h264 and PREFIX.ogg, for tests/tools/load to send without encoding.

H.264 baseline in Annex B, an access unit delimiter before each picture, an IDR every 2 s and no other, one slice a picture; Opus stereo
at 64 kbit/s in 20 ms packets. `sending time` in the code is media time. With --kbps above what flat areas need, the participant's colour
gets a moving grain of mean 0, so that packets are as large and as many as a camera's; readers of the code average it away.
"""
import argparse
import subprocess

import numpy as np

from block_code import AUDIO_CHUNK, CODE_ROWS, FLASH_ROW, SAMPLE_RATE, Picture, Sound

KEY_FRAME_SECONDS = 2
OPUS_BITRATE = 64_000
GRAIN = 24  # highest deviation of the luma
GRAIN_SHIFT = 6  # pixels a frame: motion that an encoder finds, but pays for


class Grain:
    """Rows of the participant's colour that differ from picture to picture."""

    def __init__(self, picture):
        self.rows = slice(int(picture.y[CODE_ROWS]), int(picture.y[FLASH_ROW]))
        self.width = picture.width
        rng = np.random.default_rng(picture.participant)
        height = self.rows.stop - self.rows.start
        noise = rng.integers(-GRAIN, GRAIN + 1, (height // 2, self.width), dtype=np.int16)
        noise = np.repeat(np.repeat(noise, 2, axis=0), 2, axis=1)
        noise -= np.int16(round(noise.mean()))
        level = picture.dark.reshape(-1)[self.rows.start * self.width]
        # Twice as wide, so that it goes round.
        self.texture = np.tile((noise + level).astype(np.uint8), 2)

    def apply(self, frame, n):
        at = n * GRAIN_SHIFT % self.width
        luma = frame[: self.rows.stop * self.width].reshape(-1, self.width)
        luma[self.rows] = self.texture[:, at : at + self.width]


def encoder(arguments, output):
    return subprocess.Popen(["ffmpeg", "-v", "error", "-y", *arguments, output], stdin=subprocess.PIPE)


def finish(process):
    process.stdin.close()
    if process.wait() != 0:
        raise SystemExit("ffmpeg failed")


def video(args):
    width, height = args.size
    picture = Picture(width, height, args.fps, args.participant)
    grain = Grain(picture) if args.kbps else None
    rate = ["-b:v", f"{args.kbps}k", "-maxrate", f"{args.kbps}k", "-bufsize", f"{args.kbps}k"] if args.kbps else ["-crf", "26"]
    key = KEY_FRAME_SECONDS * args.fps
    process = encoder([
        "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}", "-r", str(args.fps), "-i", "-",
        "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "baseline", *rate,
        "-x264-params", f"keyint={key}:min-keyint={key}:scenecut=0:bframes=0:aud=1:slices=1:sliced-threads=0",
        "-f", "h264"], args.prefix + ".h264")
    for n in range(args.seconds * args.fps):
        frame = picture.draw(n, n * 1000 // args.fps)
        if grain:
            grain.apply(frame, n)
        process.stdin.write(frame.data)
    finish(process)


def audio(args):
    sound = Sound(args.participant)
    process = encoder([
        "-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1", "-i", "-", "-ac", "2",
        "-c:a", "libopus", "-b:a", str(OPUS_BITRATE), "-vbr", "constrained", "-frame_duration", "20", "-f", "ogg"], args.prefix + ".ogg")
    for first in range(0, args.seconds * SAMPLE_RATE, AUDIO_CHUNK):
        process.stdin.write(sound.chunk(first).tobytes())
    finish(process)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("prefix")
    p.add_argument("--participant", type=int, default=0, help="id in the block code, 0-255")
    p.add_argument("--size", default="1280x720", type=lambda s: tuple(map(int, s.split("x"))))
    p.add_argument("--fps", type=int, default=30)
    p.add_argument("--seconds", type=int, default=20, help="an even number, so that it can be repeated from its end")
    p.add_argument("--kbps", type=int, help="video bit rate; without it the flat picture needs little")
    args = p.parse_args()
    video(args)
    audio(args)


if __name__ == "__main__":
    main()
