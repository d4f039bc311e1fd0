#!/usr/bin/env python3
"""A participant that publishes the block-coded picture and the beeping tone of BLOCK_CODE.md to a LiveKit room.

Needs PyPI `livekit` (real libwebrtc) and `numpy`. Prints one JSON object a line on stdout:
  {"event":"connected"}, {"event":"published","kind","sid"}, {"event":"started","t0_unix_ms"} (media time 0 on the wall clock),
  {"event":"frames_sent", per kind: what the outbound RTP stream says}, {"event":"done"}.
Commands on stdin: `mute v|a`, `unmute v|a`, `unpublish v|a`, `publish v|a`, `quit`.
"""
import argparse
import asyncio
import base64
import hmac
import json
import sys
import threading
import time

import numpy as np

SAMPLE_RATE = 48_000
AUDIO_CHUNK = 480  # 10 ms: the only size an unbuffered source of libwebrtc takes
WHITE, BLACK, NEUTRAL = 235, 16, 128
COLUMNS, ROWS, CODE_ROWS, FLASH_ROW = 16, 18, 7, 16
SYNC = 0xACE1
FLASH_MS = 100
IDENTITIES = 18  # distinct colours, tones and beeps
TONE_LEVEL, BEEP_LEVEL = 0.1, 0.25
LUMA = (60, 105, 150)
CHROMA = ((168, 128), (148, 163), (108, 163), (88, 128), (108, 93), (148, 93))


def crc16(data):
    crc = 0xFFFF
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def payload(participant, frame, sent_ms):
    body = bytes([participant]) + frame.to_bytes(4, "big") + (sent_ms % (1 << 40)).to_bytes(5, "big")
    return body + crc16(body).to_bytes(2, "big")


class Picture:
    """I420 frames of one participant; only the code rows are written per frame."""

    def __init__(self, width, height, fps, participant):
        assert width % 2 == 0 and height % 2 == 0 and width >= 96 and height >= 54, "even size of at least 96x54"
        self.width, self.height, self.fps, self.participant = width, height, fps, participant
        self.x = np.array([2 * (c * width // 32) for c in range(COLUMNS)] + [width])
        self.y = np.array([2 * (r * height // 36) for r in range(ROWS)] + [height])
        self.dark, self.lit = self._background(BLACK), self._background(WHITE)

    def _background(self, flash_luma):
        w, h = self.width, self.height
        top, flash = self.y[CODE_ROWS], self.y[FLASH_ROW]
        k = self.participant % IDENTITIES
        (u, v) = CHROMA[k % 6]
        luma = np.full((h, w), LUMA[k // 6], np.uint8)
        luma[flash:] = flash_luma
        planes = [luma]
        for value in (u, v):
            plane = np.full((h // 2, w // 2), value, np.uint8)
            plane[: top // 2] = NEUTRAL
            plane[flash // 2 :] = NEUTRAL
            planes.append(plane)
        return np.concatenate([p.ravel() for p in planes])

    def flashes(self, n):
        return (n * 1000) % (self.fps * 1000) < FLASH_MS * self.fps

    def draw(self, n, sent_ms):
        """The frame as a contiguous uint8 array; valid until the next call."""
        frame = self.lit if self.flashes(n) else self.dark
        code = SYNC.to_bytes(2, "big") + payload(self.participant, n, sent_ms)
        bits = np.unpackbits(np.frombuffer(code, np.uint8)).reshape(CODE_ROWS, COLUMNS)
        levels = np.where(bits, WHITE, BLACK).astype(np.uint8)
        row = np.repeat(levels, np.diff(self.x), axis=1)
        code_height = int(self.y[CODE_ROWS])
        rows = np.repeat(row, np.diff(self.y[: CODE_ROWS + 1]), axis=0)
        frame[: code_height * self.width] = rows.ravel()
        return frame


class Sound:
    """One second of tone and beep; whole cycles per second, so it repeats."""

    def __init__(self, participant):
        k = participant % IDENTITIES
        i = np.arange(SAMPLE_RATE)
        second = TONE_LEVEL * np.sin(2 * np.pi * (400 + 150 * k) * i / SAMPLE_RATE)
        beep = BEEP_LEVEL * np.sin(2 * np.pi * (4000 + 200 * k) * i / SAMPLE_RATE)
        second[: SAMPLE_RATE // 10] += beep[: SAMPLE_RATE // 10]
        self.second = np.round(second * 32767).astype(np.int16)

    def chunk(self, first):
        at = first % SAMPLE_RATE
        return self.second[at : at + AUDIO_CHUNK]


def write_raw(args):
    """Offline: the same pictures and sound as files for FFmpeg, to test the drawing without a server."""
    width, height = args.size
    picture, sound = Picture(width, height, args.fps, args.participant), Sound(args.participant)
    with open(args.raw + ".yuv", "wb") as out:
        for n in range(int(args.seconds * args.fps)):
            out.write(picture.draw(n, n * 1000 // args.fps).tobytes())
    with open(args.raw + ".s16", "wb") as out:
        for first in range(0, int(args.seconds * SAMPLE_RATE), AUDIO_CHUNK):
            out.write(sound.chunk(first).tobytes())


def say(event, **fields):
    print(json.dumps({"event": event, "at": round(time.time(), 3), **fields}), flush=True)


class Publisher:
    def __init__(self, args, rtc):
        self.args, self.rtc = args, rtc
        width, height = args.size
        self.picture, self.sound = Picture(width, height, args.fps, args.participant), Sound(args.participant)
        self.video_source = rtc.VideoSource(width, height)
        # No queue inside the SDK: a sample's capture time is then the moment it is handed over, on the same clock as the frames.
        self.audio_source = rtc.AudioSource(SAMPLE_RATE, 1, queue_size_ms=0)
        self.tracks = {}
        self.captured = {"v": 0, "a": 0}
        self.stop = asyncio.Event()
        self.room = rtc.Room()

    async def publish(self, kind):
        rtc, args = self.rtc, self.args
        if kind == "v":
            track = rtc.LocalVideoTrack.create_video_track("camera", self.video_source)
            options = rtc.TrackPublishOptions(
                source=rtc.TrackSource.SOURCE_CAMERA, video_codec=getattr(rtc.VideoCodec, args.codec), simulcast=args.simulcast)
            options.video_encoding.max_framerate = args.fps
            options.video_encoding.max_bitrate = args.bitrate
        else:
            track = rtc.LocalAudioTrack.create_audio_track("microphone", self.audio_source)
            options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, red=not args.no_red, dtx=False)
        publication = await self.room.local_participant.publish_track(track, options)
        self.tracks[kind] = (track, publication)
        say("published", kind=kind, sid=publication.sid)

    async def pace(self, media_time):
        """Waits until this media time; false when the publisher stops first."""
        wait = self.t0 + media_time - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        return not self.stop.is_set() and media_time < self.args.seconds

    async def video(self):
        rtc, fps = self.rtc, self.args.fps
        width, height = self.args.size
        n = 0
        if self.args.video_after > 0:
            n = int(np.ceil(self.args.video_after * fps))
            await self.pace(n / fps)
            await self.publish("v")
            n = max(n, int((time.monotonic() - self.t0) * fps) + 1)
        while await self.pace(n / fps):
            data = self.picture.draw(n, int(time.time() * 1000))
            frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, data.data)
            self.video_source.capture_frame(frame, timestamp_us=int((self.t0 + n / fps) * 1_000_000))
            self.captured["v"] += 1
            n += 1

    async def audio(self):
        frame = self.rtc.AudioFrame.create(SAMPLE_RATE, 1, AUDIO_CHUNK)
        samples = np.frombuffer(frame.data, dtype=np.int16)
        first = 0
        while await self.pace(first / SAMPLE_RATE):
            samples[:] = self.sound.chunk(first)
            await self.audio_source.capture_frame(frame)
            self.captured["a"] += 1
            first += AUDIO_CHUNK

    async def commands(self):
        loop, lines = asyncio.get_running_loop(), asyncio.Queue()

        def read():  # a thread, since a loop cannot watch every kind of stdin (/dev/null)
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)

        threading.Thread(target=read, daemon=True).start()
        while True:
            words = (await lines.get()).split()
            try:
                match words:
                    case ["mute", kind]:
                        self.tracks[kind][0].mute()
                    case ["unmute", kind]:
                        self.tracks[kind][0].unmute()
                    case ["unpublish", kind]:
                        await self.room.local_participant.unpublish_track(self.tracks.pop(kind)[1].sid)
                    case ["publish", kind]:
                        await self.publish(kind)
                    case ["quit"]:
                        self.stop.set()
                    case _:
                        raise ValueError("unknown command")
                say("command", words=words)
            except Exception as error:  # the run goes on; the test sees the line
                say("command_failed", words=words, error=repr(error))

    async def report(self):
        fields = {}
        for kind, (track, _) in self.tracks.items():
            outbound = {"captured": self.captured[kind]}
            for stat in await track.get_stats():
                if stat.WhichOneof("stats") == "outbound_rtp":
                    s = stat.outbound_rtp
                    outbound["packetsSent"] = outbound.get("packetsSent", 0) + s.sent.packets_sent
                    outbound["bytesSent"] = outbound.get("bytesSent", 0) + s.sent.bytes_sent
                    if kind == "v":
                        outbound["framesSent"] = outbound.get("framesSent", 0) + s.outbound.frames_sent
                        outbound["keyFramesEncoded"] = outbound.get("keyFramesEncoded", 0) + s.outbound.key_frames_encoded
                        outbound["encoder"] = s.outbound.encoder_implementation
            fields[{"v": "video", "a": "audio"}[kind]] = outbound
        say("frames_sent", **fields)

    async def run(self):
        args = self.args
        self.room.on("disconnected", lambda reason: (say("disconnected", reason=str(reason)), self.stop.set()))
        await self.room.connect(args.url, args.token, self.rtc.RoomOptions(auto_subscribe=False))
        say("connected")
        if "v" in args.kinds and args.video_after == 0:
            await self.publish("v")
        if "a" in args.kinds:
            await self.publish("a")
        self.t0 = time.monotonic() + 0.05
        say("started", t0_unix_ms=int((time.time() + 0.05) * 1000))
        commands = asyncio.create_task(self.commands())
        media = [asyncio.create_task(job()) for kind, job in (("v", self.video), ("a", self.audio)) if kind in args.kinds]
        await asyncio.gather(*media)
        # The encoder's queue and the pacer hold at most a few frames; they are on the wire after this.
        await asyncio.sleep(args.linger)
        await self.report()
        commands.cancel()
        await self.room.disconnect()
        say("done", captured=self.captured)


def join_token(args):
    """A LiveKit access token: a JWT signed with HS256."""
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    now = int(time.time())
    claims = {"iss": args.api_key, "sub": args.identity, "nbf": now - 10, "exp": now + 6 * 3600, "video": {"roomJoin": True, "room": args.room}}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.digest(args.api_secret.encode(), signed, "sha256"))).decode()


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", default="ws://127.0.0.1:7880")
    p.add_argument("--api-key")
    p.add_argument("--api-secret")
    p.add_argument("--token", help="instead of key and secret")
    p.add_argument("--room", default="room")
    p.add_argument("--identity", default="publisher")
    p.add_argument("--participant", type=int, default=0, help="id in the block code, 0-255")
    p.add_argument("--size", default="640x360", type=lambda s: tuple(map(int, s.split("x"))))
    p.add_argument("--fps", type=int, default=15)
    p.add_argument("--codec", default="H264", choices=["H264", "VP8", "VP9", "AV1"])
    p.add_argument("--bitrate", type=int, default=800_000)
    p.add_argument("--seconds", type=float, default=20)
    p.add_argument("--kinds", default="av", choices=["av", "a", "v"])
    p.add_argument("--video-after", type=float, default=0, help="the camera is published this many seconds after the sound began")
    p.add_argument("--linger", type=float, default=0.5, help="seconds between the last frame and leaving")
    p.add_argument("--simulcast", action="store_true")
    p.add_argument("--no-red", action="store_true")
    p.add_argument("--raw", metavar="PREFIX", help="write PREFIX.yuv and PREFIX.s16 instead of joining a room")
    return p.parse_args()


async def publish(args, rtc):
    # The SDK binds its objects to the loop that runs when they are made.
    await Publisher(args, rtc).run()


def main():
    args = parse()
    if args.raw:
        return write_raw(args)
    from livekit import rtc

    args.token = args.token or join_token(args)
    asyncio.run(publish(args, rtc))


if __name__ == "__main__":
    main()
