#!/usr/bin/env python3
"""A participant that publishes the block-coded picture and the beeping tone of BLOCK_CODE.md to a LiveKit room.

Needs PyPI `livekit` (real libwebrtc) and `numpy`. Kinds of media: v camera, a microphone, s screen share, t its sound.

Commands, on stdin or by --script "SECONDS COMMAND; SECONDS COMMAND; …" (media time, 0 = `started`):
  mute K, unmute K, unpublish K, publish K [CODEC] [simulcast], size K WxH, rotate K DEGREES, leave, join (again, with what was
  published), quit.

Prints one JSON object a line on stdout:
  connected; started {t0_unix_ms: media time 0 on the wall clock}; published {kind, sid}; command {words} when one is done, or
  command_failed {words, error}; disconnected {reason} when the server ended it; done;
  frames_sent {publications: [{kind, sid, codec, captured: [[first, last], …] numbers of the frames (10 ms chunks of sound) that
  were captured, framesSent, packetsSent, retransmittedPacketsSent, bytesSent, keyFramesEncoded, encoder, layers: [the same of each
  simulcast layer]}]}: what the outbound RTP streams say, in the order of publication; framesSent is that of the largest layer.
"""
import argparse
import asyncio
import base64
import contextlib
import hmac
import json
import math
import os
import sys
import threading
import time

from block_code import AUDIO_CHUNK, SAMPLE_RATE, Picture, Sound, write_raw

SOURCES = {"v": "SOURCE_CAMERA", "a": "SOURCE_MICROPHONE", "s": "SOURCE_SCREENSHARE", "t": "SOURCE_SCREENSHARE_AUDIO"}
NAMES = {"v": "camera", "a": "microphone", "s": "screen", "t": "screen-sound"}

# Of music. Below some 64 kbit/s Opus may take what is sent for speech, whose coder makes 5,600 Hz of a beep of 5,000 Hz (seen in 1 % of runs,
# by libwebrtc's own receiver as well).
SOUND_BITRATE = 96_000


def say(event, **fields):
    print(json.dumps({"event": event, "at": round(time.time(), 3), **fields}), flush=True)


class Outlet:
    """One publication: its source, its track, the task that feeds it, and what was captured."""

    def __init__(self, publisher, kind, codec, simulcast):
        self.publisher, self.rtc, self.args = publisher, publisher.rtc, publisher.args
        self.kind, self.codec, self.simulcast = kind, codec, simulcast
        self.captured = []
        self.rotation = 0
        self.muted = False
        self.size_wanted = publisher.sizes.get(kind)
        self.stats = None

    @property
    def participant(self):
        return self.args.screen_participant if self.kind in "st" else self.args.participant

    async def publish(self):
        rtc, name = self.rtc, NAMES[self.kind]
        options = rtc.TrackPublishOptions(source=getattr(rtc.TrackSource, SOURCES[self.kind]))
        if self.kind in "vs":
            self.source = rtc.VideoSource(*self.size_wanted, is_screencast=self.kind == "s")
            self.track = rtc.LocalVideoTrack.create_video_track(name, self.source)
            options.video_codec = getattr(rtc.VideoCodec, self.codec)
            options.simulcast = self.simulcast
            options.video_encoding.max_framerate = self.fps
            options.video_encoding.max_bitrate = self.args.bitrate
        else:
            # No queue inside the SDK: a sample's capture time is then the moment it is handed over, on the same clock as the frames.
            self.source = rtc.AudioSource(SAMPLE_RATE, 1, queue_size_ms=0)
            self.track = rtc.LocalAudioTrack.create_audio_track(name, self.source)
            options.red, options.dtx = not self.args.no_red, False
            options.audio_encoding.max_bitrate = SOUND_BITRATE
        self.publication = await self.publisher.room.local_participant.publish_track(self.track, options)
        self.feeding = asyncio.create_task(self.feed())
        say("published", kind=self.kind, sid=self.publication.sid)

    @property
    def fps(self):
        return self.args.screen_fps if self.kind == "s" else self.args.fps

    def count(self, n):
        if self.captured and self.captured[-1][1] == n - 1:
            self.captured[-1][1] = n
        else:
            self.captured.append([n, n])

    async def feed(self):
        await self.publisher.begun.wait()
        await (self.video() if self.kind in "vs" else self.audio())

    async def video(self):
        rtc, fps, pace = self.rtc, self.fps, self.publisher.pace
        picture = None
        n = max(0, math.ceil(self.publisher.media_time() * fps))
        while await pace(n / fps):
            if self.muted:
                n += 1
                continue
            if picture is None or (picture.width, picture.height) != self.size_wanted:
                picture = Picture(*self.size_wanted, fps, self.participant)
            data = picture.draw(n, int(time.time() * 1000))
            frame = rtc.VideoFrame(picture.width, picture.height, rtc.VideoBufferType.I420, data.data)
            captured_us = int((self.publisher.t0 + n / fps) * 1_000_000)
            # The protocol numbers the four rotations in steps of 90 degrees.
            self.source.capture_frame(frame, timestamp_us=captured_us, rotation=self.rotation // 90)
            self.count(n)
            n += 1

    async def audio(self):
        import numpy as np

        sound, frame = Sound(self.participant), self.rtc.AudioFrame.create(SAMPLE_RATE, 1, AUDIO_CHUNK)
        samples = np.frombuffer(frame.data, dtype=np.int16)
        begins = max(self.args.sound_after, self.publisher.media_time())
        chunk = math.ceil(begins * SAMPLE_RATE / AUDIO_CHUNK)
        while await self.publisher.pace(chunk * AUDIO_CHUNK / SAMPLE_RATE):
            samples[:] = sound.chunk(chunk * AUDIO_CHUNK)
            await self.source.capture_frame(frame)
            self.count(chunk)
            chunk += 1

    async def read_stats(self):
        """What its RTP streams have sent; the last word on it."""
        layers = []
        for stat in await self.track.get_stats():
            if stat.WhichOneof("stats") != "outbound_rtp":
                continue
            sent, out = stat.outbound_rtp.sent, stat.outbound_rtp.outbound
            layers.append({
                "rid": out.rid, "width": out.frame_width, "height": out.frame_height, "framesSent": out.frames_sent,
                "packetsSent": sent.packets_sent, "retransmittedPacketsSent": out.retransmitted_packets_sent, "bytesSent": sent.bytes_sent,
                "keyFramesEncoded": out.key_frames_encoded, "encoder": out.encoder_implementation,
            })
        largest = max(layers, key=lambda layer: layer["width"], default={})
        total = {key: sum(layer[key] for layer in layers) for key in ("packetsSent", "retransmittedPacketsSent", "bytesSent")}
        self.stats = {
            "kind": self.kind, "sid": self.publication.sid, "codec": self.codec if self.kind in "vs" else "opus", "captured": self.captured,
            **{key: largest.get(key) for key in ("framesSent", "keyFramesEncoded", "encoder", "width", "height")}, **total, "layers": layers,
        }

    async def close(self, unpublish):
        self.feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.feeding
        # The encoder's queue and the pacer hold at most a few frames; they are on the wire after this.
        await asyncio.sleep(self.args.linger)
        await self.read_stats()
        if unpublish:
            await self.publisher.room.local_participant.unpublish_track(self.publication.sid)


class Publisher:
    def __init__(self, args, rtc):
        self.args, self.rtc = args, rtc
        self.sizes = {"v": args.size, "s": args.screen_size}
        self.outlets, self.ended = {}, []
        self.stop = asyncio.Event()
        self.leaving = False
        self.t0, self.begun = None, asyncio.Event()

    def media_time(self):
        return time.monotonic() - self.t0

    async def pace(self, media_time):
        """Waits until this media time; false when the publisher stops first."""
        wait = self.t0 + media_time - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)
        return not self.stop.is_set() and media_time < self.args.seconds

    async def connect(self):
        self.room = self.rtc.Room()
        self.leaving = False
        self.room.on("disconnected", self.disconnected)
        options = self.rtc.RoomOptions(auto_subscribe=False)
        if self.args.e2ee:
            key = self.rtc.KeyProviderOptions(shared_key=self.args.e2ee.encode())
            options.encryption = self.rtc.E2EEOptions(key_provider_options=key)
        await self.room.connect(self.args.url, self.args.token, options)
        say("connected")

    def disconnected(self, reason):
        if not self.leaving:
            say("disconnected", reason=str(reason))
            self.stop.set()

    async def publish(self, kind, codec=None, simulcast=None):
        if kind in self.outlets:
            raise ValueError("already published")
        default = self.args.screen_codec if kind == "s" else self.args.codec
        layered = self.args.simulcast and kind == "v" if simulcast is None else simulcast
        outlet = Outlet(self, kind, codec or default, layered)
        await outlet.publish()
        self.outlets[kind] = outlet

    async def close(self, kinds, unpublish):
        outlets = [self.outlets.pop(kind) for kind in kinds]
        await asyncio.gather(*(outlet.close(unpublish) for outlet in outlets))
        self.ended += [outlet.stats for outlet in outlets]

    async def leave(self):
        self.published_before = {kind: (outlet.codec, outlet.simulcast) for kind, outlet in self.outlets.items()}
        await self.close(list(self.outlets), unpublish=False)
        self.leaving = True
        await self.room.disconnect()

    async def join(self):
        await self.connect()
        for kind, how in self.published_before.items():
            await self.publish(kind, *how)

    def resize(self, kind, size):
        self.sizes[kind] = size_of(size)
        if kind in self.outlets:
            self.outlets[kind].size_wanted = self.sizes[kind]

    async def obey(self, line):
        words = line.split()
        try:
            match words:
                case ["mute", kind]:
                    # libwebrtc sends what a disabled camera captures as black pictures, and the SFU forwards them until it knows:
                    # such a one looks like the recorder's own filler. Clients that mute stop the device.
                    self.outlets[kind].muted = True
                    self.outlets[kind].track.mute()
                case ["unmute", kind]:
                    self.outlets[kind].track.unmute()
                    self.outlets[kind].muted = False
                case ["unpublish", kind]:
                    await self.close([kind], unpublish=True)
                case ["publish", kind, *options]:
                    codec = next((word for word in options if word != "simulcast"), None)
                    await self.publish(kind, codec, True if "simulcast" in options else None)
                case ["size", kind, size]:
                    self.resize(kind, size)
                case ["rotate", kind, degrees]:
                    self.outlets[kind].rotation = int(degrees)
                case ["leave"]:
                    await self.leave()
                case ["join"]:
                    await self.join()
                case ["quit"]:
                    self.stop.set()
                case _:
                    raise ValueError("unknown command")
            say("command", words=words)
        except Exception as error:  # the run goes on; the test sees the line
            say("command_failed", words=words, error=repr(error))

    async def commands(self):
        loop, lines = asyncio.get_running_loop(), asyncio.Queue()

        def read():  # a thread, since a loop cannot watch every kind of stdin (/dev/null)
            for line in sys.stdin:
                loop.call_soon_threadsafe(lines.put_nowait, line)

        threading.Thread(target=read, daemon=True).start()
        while True:
            await self.obey(await lines.get())

    async def script(self):
        for seconds, command in self.args.script:
            if not await self.pace(seconds):
                return
            await self.obey(command)

    async def until_the_end(self):
        wait = self.t0 + self.args.seconds - time.monotonic()
        try:
            await asyncio.wait_for(self.stop.wait(), max(0, wait))
        except asyncio.TimeoutError:
            self.stop.set()

    async def run(self):
        await self.connect()
        # Pictures before sound: negotiating both takes longer than the first frame.
        for kind in sorted(self.args.kinds, key="vsat".index):
            if kind != "v" or self.args.video_after == 0:
                await self.publish(kind)
        self.t0 = time.monotonic() + 0.05
        self.begun.set()
        say("started", t0_unix_ms=int((time.time() + 0.05) * 1000))
        orders = [asyncio.create_task(self.commands()), asyncio.create_task(self.script())]
        await self.until_the_end()
        for order in orders:
            order.cancel()
        if self.outlets:
            await self.close(list(self.outlets), unpublish=False)
        say("frames_sent", publications=self.ended)
        self.leaving = True
        await self.room.disconnect()
        say("done")


def join_token(args):
    """A LiveKit access token: a JWT signed with HS256."""
    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    now = int(time.time())
    claims = {"iss": args.api_key, "sub": args.identity, "nbf": now - 10, "exp": now + 6 * 3600, "video": {"roomJoin": True, "room": args.room}}
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.digest(args.api_secret.encode(), signed, "sha256"))).decode()


def size_of(text):
    width, height = map(int, text.split("x"))
    return width, height


def kinds_of(text):
    if set(text) - set(SOURCES):
        raise ValueError(text)
    return text


def script_of(text):
    steps = (step.split(maxsplit=1) for step in text.split(";") if step.strip())
    return [(float(seconds), command) for seconds, command in steps]


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", default="ws://127.0.0.1:7880")
    p.add_argument("--api-key")
    p.add_argument("--api-secret")
    p.add_argument("--token", help="instead of key and secret")
    p.add_argument("--room", default="room")
    p.add_argument("--identity", default="publisher")
    p.add_argument("--participant", type=int, default=0, help="id in the block code, 0-255")
    p.add_argument("--size", default="640x360", type=size_of)
    p.add_argument("--fps", type=int, default=15)
    codecs = ["H264", "VP8", "VP9", "AV1"]
    p.add_argument("--codec", default="H264", choices=codecs)
    p.add_argument("--bitrate", type=int, default=800_000)
    p.add_argument("--seconds", type=float, default=20)
    p.add_argument("--kinds", default="av", type=kinds_of, help="any of v, a, s, t, published at the start; empty: nothing")
    p.add_argument("--video-after", type=float, default=0, help="the camera is published this many seconds after the sound began")
    p.add_argument("--sound-after", type=float, default=0, help="sound is captured from here on, published at once")
    p.add_argument("--screen-participant", type=int, default=17, help="id in the block code of the shared screen and its sound")
    p.add_argument("--screen-size", default="1280x720", type=size_of)
    p.add_argument("--screen-fps", type=int, default=5)
    p.add_argument("--screen-codec", default="H264", choices=codecs)
    p.add_argument("--script", default=[], type=script_of, help='"SECONDS COMMAND; …"')
    p.add_argument("--linger", type=float, default=0.5, help="seconds between the last frame and leaving")
    p.add_argument("--simulcast", action="store_true", help="the camera in several sizes")
    p.add_argument("--no-red", action="store_true")
    p.add_argument("--e2ee", metavar="KEY", help="encrypt end to end with this shared key")
    p.add_argument("--raw", metavar="PREFIX", help="write PREFIX.yuv and PREFIX.s16 instead of joining a room")
    return p.parse_args()


async def publish(args, rtc):
    if args.video_after > 0 and "v" in args.kinds:
        args.script = sorted([*args.script, (args.video_after, "publish v")])
    # The SDK binds its objects to the loop that runs when they are made.
    await Publisher(args, rtc).run()


def main():
    args = parse()
    if args.raw:
        return write_raw(args.raw, args.size, args.fps, args.participant, args.seconds)
    from livekit import rtc

    args.token = args.token or join_token(args)
    asyncio.run(publish(args, rtc))
    # The SDK's native threads may abort while the interpreter is taken down under them; everything is said and left by now.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
