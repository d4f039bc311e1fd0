#!/usr/bin/python3
"""One recording by GStreamer: webrtcbin answers an offer POSTed to it, H.264 is passed through, Opus becomes AAC, splitmuxsink writes MPEG-TS.

Usage: gstreamer_recorder.py PORT FOLDER. Debian 12 has no element that serves WHIP, hence the few lines of HTTP. Ends on SIGTERM, with
the last segment closed.
"""
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstWebRTC", "1.0")
gi.require_version("GstSdp", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

SEGMENT = 15 * Gst.SECOND
# alignment=au: without it splitmuxsink cuts in the middle of a group of pictures.
VIDEO = "rtph264depay ! h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au ! queue"
AUDIO = "rtpopusdepay ! opusdec ! audioconvert ! audioresample ! avenc_aac bitrate=64000 ! aacparse ! queue"


class Recorder:
    def __init__(self, folder):
        Gst.init(None)
        self.pipeline = Gst.Pipeline.new(None)
        self.peer = Gst.ElementFactory.make("webrtcbin", None)
        self.peer.set_property("bundle-policy", "max-bundle")
        self.sink = Gst.ElementFactory.make("splitmuxsink", None)
        self.sink.set_property("muxer-factory", "mpegtsmux")
        self.sink.set_property("max-size-time", SEGMENT)
        self.sink.set_property("location", folder + "/%05d.ts")
        self.pipeline.add(self.peer)
        self.pipeline.add(self.sink)
        # Asked for before the pipeline runs, so that the first file waits for both.
        self.pads = {"video": self.sink.request_pad_simple("video"), "audio": self.sink.request_pad_simple("audio_0")}
        self.peer.connect("pad-added", self.stream)
        self.gathered = threading.Event()
        self.peer.connect("notify::ice-gathering-state", self.gathering)
        self.pipeline.set_state(Gst.State.PLAYING)

    def gathering(self, peer, _):
        if peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            self.gathered.set()

    def stream(self, _, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        kind = pad.get_current_caps().get_structure(0).get_string("media")
        chain = Gst.parse_bin_from_description(VIDEO if kind == "video" else AUDIO, True)
        self.pipeline.add(chain)
        chain.sync_state_with_parent()
        chain.get_static_pad("src").link(self.pads[kind])
        pad.link(chain.get_static_pad("sink"))

    def ask(self, name, *arguments):
        promise = Gst.Promise.new()
        self.peer.emit(name, *arguments, promise)
        promise.wait()
        return promise.get_reply()

    def answer(self, offer):
        _, message = GstSdp.SDPMessage.new_from_text(offer)
        kind = GstWebRTC.WebRTCSDPType
        self.ask("set-remote-description", GstWebRTC.WebRTCSessionDescription.new(kind.OFFER, message))
        reply = self.ask("create-answer", None)
        answer = reply.get_value("answer")
        self.ask("set-local-description", answer)
        if not self.gathered.wait(10):
            raise RuntimeError("no candidates in time")
        return self.peer.get_property("local-description").sdp.as_text()

    def close(self):
        bus = self.pipeline.get_bus()
        self.pipeline.send_event(Gst.Event.new_eos())
        bus.timed_pop_filtered(5 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
        self.pipeline.set_state(Gst.State.NULL)


def main():
    port, folder = int(sys.argv[1]), sys.argv[2]
    recorder = Recorder(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            answer = recorder.answer(self.rfile.read(int(self.headers["Content-Length"])).decode()).encode()
            self.send_response(201)
            self.send_header("Content-Type", "application/sdp")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    server = HTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    loop = GLib.MainLoop()
    for number in (signal.SIGTERM, signal.SIGINT):
        GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, loop.quit)
    print("listening", flush=True)
    loop.run()
    recorder.close()


if __name__ == "__main__":
    main()
