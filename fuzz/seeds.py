#!/usr/bin/env python3
"""Makes seeds for the corpora from real streams: FFmpeg's encoders and RTP, LiveKit's protocol, this repository's examples.

Usage: target/venv/bin/python fuzz/seeds.py OUT     (OUT/<target>/<seed>; then scripts/fuzz.sh --minimise)
"""

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path

from livekit.protocol import models, rtc

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(sys.argv[1])
CODECS = ["h264", "vp8", "vp9", "av1"]
SMALL = ["-f", "lavfi", "-i", "testsrc=size=128x96:rate=15", "-t", "1", "-g", "8", "-pix_fmt", "yuv420p"]


def put(target, name, data):
    folder = OUT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def ffmpeg(*arguments):
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60).stdout


def captured(*arguments):
    """RTP and RTCP packets that FFmpeg sends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        media.bind(("127.0.0.1", 0))
        control.bind(("127.0.0.1", 0))
        url = f"rtp://127.0.0.1:{media.getsockname()[1]}?rtcpport={control.getsockname()[1]}&pkt_size=700"
        for each in (media, control):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
            each.setblocking(False)
        ffmpeg(*arguments, "-f", "rtp", "-strict", "experimental", url)
        return drained(media), drained(control)


def drained(receiver):
    packets = []
    while True:
        try:
            packets.append(receiver.recv(4096))
        except BlockingIOError:
            return packets


def pieces(packets):
    return b"".join(struct.pack("<H", len(packet)) + packet for packet in packets)


def payload(packet):
    """(timestamp, marker, payload); FFmpeg sends neither CSRC nor extension."""
    return struct.unpack(">I", packet[4:8])[0], packet[1] >> 7, packet[12:]


def line(codec, packets):
    """Packets as target depacketizers takes them."""
    out, last = bytes([CODECS.index(codec)]), None
    for timestamp, marker, data in packets:
        step = 0 if last in (None, timestamp) else 1
        last = timestamp
        out += struct.pack("<BH", marker | step << 2, len(data)) + data
    return out


def leb128(value):
    out = b""
    while True:
        value, low = value >> 7, value & 127
        out += bytes([low | (128 if value else 0)])
        if not value:
            return out


def obus(unit):
    """The OBUs of a temporal unit without their sizes, delimiters left out."""
    out, at = [], 0
    while at < len(unit):
        head = 2 if unit[at] & 4 else 1
        size, shift, length = 0, 0, at + head
        while True:
            size |= (unit[length] & 127) << shift
            shift, length = shift + 7, length + 1
            if not unit[length - 1] & 128:
                break
        if unit[at] >> 3 & 15 != 2:
            out.append(bytes([unit[at] & ~2]) + unit[at + 1 : at + head] + unit[length : length + size])
        at = length + size
    return out


def av1():
    """FFmpeg 5 has no RTP for AV1: temporal units, one packet each, every OBU behind its length."""
    ivf = ffmpeg(*SMALL, "-c:v", "libaom-av1", "-cpu-used", "8", "-b:v", "60k", "-f", "ivf", "-")
    at, timestamp, packets = 32, 0, []
    while at < len(ivf):
        size = struct.unpack("<I", ivf[at : at + 4])[0]
        elements = obus(ivf[at + 12 : at + 12 + size])
        first = 0x08 if elements and elements[0][0] >> 3 & 15 == 1 else 0
        packets.append((timestamp, 1, bytes([first]) + b"".join(leb128(len(e)) + e for e in elements)))
        at, timestamp = at + 12 + size, timestamp + 6000
    return packets


def media():
    x264 = ["-c:v", "libx264", "-profile:v", "baseline", "-preset", "ultrafast", "-b:v", "60k"]
    encoders = {"h264": x264, "vp8": ["-c:v", "libvpx", "-b:v", "60k"], "vp9": ["-c:v", "libvpx-vp9", "-b:v", "60k"]}
    for codec, arguments in encoders.items():
        packets, control = captured(*SMALL, *arguments)
        put("depacketizers", codec, line(codec, [payload(packet) for packet in packets][:24]))
        put("rtp", codec, pieces(packets[:8]))
        for number, packet in enumerate(control):
            put("rtcp", f"{codec}-{number}", packet)
    put("depacketizers", "av1", line("av1", av1()[:16]))
    high = ffmpeg(*SMALL, "-c:v", "libx264", "-preset", "ultrafast", "-profile:v", "high", "-x264-params", "scaling-list=jvt", "-f", "h264", "-")
    nals = [nal for nal in high.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if nal]
    put("depacketizers", "h264-high", line("h264", [(0, 0, nal) for nal in nals[:4]] + [(0, 1, nals[4][:1200])]))
    sound, control = captured("-f", "lavfi", "-i", "sine=440", "-t", "1", "-c:a", "libopus", "-b:a", "24k")
    put("rtp", "opus", pieces(opus_and_rtx(sound)))
    for number, packet in enumerate(control):
        put("rtcp", f"opus-{number}", packet + livekits_description())
    stream = ffmpeg(*SMALL[:4], "-f", "lavfi", "-i", "sine=440", *x264, "-c:a", "aac", "-pix_fmt", "yuv420p", "-t", "1", "-f", "mpegts", "-")
    put("ts_tail", "whole", stream[: 188 * 40])
    put("ts_tail", "cut", stream[: 188 * 60 - 100])


def opus_and_rtx(sound):
    """The stream that target rtp asks again for (SSRC 10), its repetition (11), RED, an orientation."""
    out = []
    for number, packet in enumerate(sound[:24]):
        head, body = bytearray(packet[:12]), packet[12:]
        head[8:12] = struct.pack(">I", 10)
        if number % 5 == 1:
            continue
        if number % 5 == 2:
            repeated = struct.pack(">H", struct.unpack(">H", packet[2:4])[0] - 1)
            out.append(bytes(head[:8]) + struct.pack(">I", 11) + repeated + body)
        if number % 3 == 0:
            earlier = sound[number - 1][12:] if number else b""
            head[1] = head[1] & 128 | 63
            block = struct.pack(">I", 0x80 << 24 | 111 << 24 | 960 << 10 | len(earlier) & 1023) if earlier else b""
            body = block + bytes([111]) + earlier + body
        if number % 4 == 0:
            head[0] |= 16
            body = bytes([0xBE, 0xDE, 0, 1, 0x40, number // 4 & 3, 0, 0]) + body
        out.append(bytes(head) + body)
    return out


def livekits_description():
    """SDES with CNAME and MID (RFC 8843), as LiveKit puts it behind its reports."""
    return bytes([0x81, 202, 0, 4, 0, 0, 0, 7, 1, 2, 97, 98, 15, 1, 48, 0, 0, 0, 0, 0])


def signalling():
    def track(sid, kind, source, mime, muted=False):
        return models.TrackInfo(sid=sid, type=kind, source=source, mime_type=mime, muted=muted)

    def person(identity, sid, version, tracks, state=models.ParticipantInfo.ACTIVE):
        return models.ParticipantInfo(identity=identity, sid=sid, version=version, state=state, tracks=tracks)

    camera = track("TR_VC1", models.VIDEO, models.CAMERA, "video/H264")
    sound = track("TR_AM1", models.AUDIO, models.MICROPHONE, "audio/red")
    muted = track("TR_VC1", models.VIDEO, models.CAMERA, "video/H264", muted=True)
    gone = models.ParticipantInfo.DISCONNECTED
    egress = models.ParticipantInfo(identity="EG_1", sid="PA_E", kind=models.ParticipantInfo.EGRESS)
    lists = [
        [person("ann", "PA_1", 1, [camera, sound]), egress],
        [person("ann", "PA_1", 2, [muted, sound]), person("bob", "PA_2", 1, [])],
        [person("ann", "PA_3", 1, [camera]), person("ann", "PA_1", 9, [], gone)],
        [person("bob", "PA_2", 2, [track("TR_S", models.VIDEO, models.SCREEN_SHARE, "video/VP8")]), person("ann", "PA_3", 4, [], gone)],
    ]
    join = rtc.SignalResponse(join=rtc.JoinResponse(other_participants=lists[0]))
    updates = [rtc.SignalResponse(update=rtc.ParticipantUpdate(participants=people)) for people in lists]
    leave = rtc.SignalResponse(leave=rtc.LeaveRequest(reason=models.ROOM_DELETED, action=rtc.LeaveRequest.DISCONNECT))
    offer = rtc.SignalResponse(offer=rtc.SessionDescription(type="offer", sdp=OFFER))
    put("signalling", "stay", pieces([m.SerializeToString() for m in [join, offer, *updates[1:], leave]]))
    put("signalling", "rejoin", pieces([m.SerializeToString() for m in [updates[3], join, updates[2], join, updates[1], updates[0]]]))


OFFER = (
    "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111 63\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:63 red/48000/2\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=extmap:4/recvonly urn:3gpp:video-orientation\r\na=rtpmap:96 VP8/90000\r\n"
    "a=candidate:1 1 udp 2130706431 192.0.2.7 7882 typ host\r\na=candidate:2 1 tcp 1 192.0.2.7 7881 typ host tcptype passive\r\n"
)


def texts():
    seeds = [
        OFFER,
        OFFER,
        "eyJhbGciOiJIUzI1NiJ9.eyJleHAiOjEwMjE2MDAsImlzcyI6ImtleSJ9.c2ln",
        "invalid token: eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJr.c2lnbmF0dXJl, error: token is expired (exp) at wss://sfu.example.com:443/rtc",
        "wss://[::1]:443/a/b?x=1",
        "2025-12-31T23:59:59.123456Z",
    ]
    for kind, text in enumerate(seeds):
        put("texts", str(kind), bytes([kind]) + text.encode())
    put("texts", "compact", b"\x0520251231235959123")


def documents():
    for example in sorted((ROOT / "examples").glob("*.yaml")):
        text = "\n".join(line for line in example.read_text().splitlines() if not line.lstrip().startswith("#"))
        put("documents", example.stem, text.encode())
    put("documents", "secret", b"kind: Secret\nmetadata: {name: a}\nstringData: {u: me}\ndata: {k: c2VjcmV0}\n---\nkind: Recording\n")
    put("job", "golden", (ROOT / "crds/tests/golden/job-v1.json").read_bytes())
    gap = {"startTime": "2026-01-31T12:00:00.123Z", "durationSeconds": 4.5, "reason": "PacketLoss"}
    outcome = {"code": "NoUsers", "number": 434, "component": "Recorder", "message": "nobody", "remedy": "", "media": True}
    report = {"version": 7, "state": "Finished", "gaps": {"count": 1, "seconds": 4.5, "last": gap}, "outcome": outcome}
    report |= {"counters": {"recordedFiles": 3}, "degraded": [{"code": "CodecNotSupported", "message": "VP8"}]}
    put("report", "last", json.dumps(report).encode())


def manifests():
    playlist = "0f8c_demo__uid_s_a__uid_e_av"
    entry = {"playlist": f"{playlist}.m3u8", "n": 0, "name": f"{playlist}_20251231235959123.ts", "start90k": 0, "duration90k": 540000}
    entry |= {"utc": "2025-12-31T23:59:59.123Z", "bytes": 1, "sha256": "00", "discontinuity": False, "independent": True, "epoch": 1}
    track = {"identity": "a", "source": "Camera", "codec": "H264", "start90k": 0, "packets": 9, "lost": 1, "receivedUnits": 3}
    track |= {"writtenUnits": 3, "muted90k": [[1, 2], [3, None]], "recorded": True}
    record = {"name": f"{playlist}.m3u8", "identity": "a", "hasVideo": True, "hasAudio": True, "stored": True, "ended": False}
    record |= {"nextN": 2, "continuityCounters": [[256, 3], [257, 4]]}
    head = {"format": "recording-operator.io/manifest/v1", "recordingID": "0f8c", "channel": "demo", "epoch": 1}
    head |= {"epochTime": "2025-12-31T23:59:59.123456Z", "chunks": [], "tail": [entry | {"n": 1, "start90k": 540000, "at": "Primary"}]}
    head |= {"participants": [{"identity": "a", "stays90k": [[0, None]]}], "tracks": [track], "playlists": [record]}
    head["gaps"] = [{"start90k": 5, "duration90k": 6, "reason": "PacketLoss", "open": False}]
    compact = {"separators": (",", ":")}
    put("manifest", "whole", (json.dumps(head, **compact) + "\n\n" + json.dumps(entry | {"at": "Lost"}, **compact)).encode())


media()
signalling()
texts()
documents()
manifests()
