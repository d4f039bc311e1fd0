package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/pion/rtp/codecs"
)

const (
	// What fits the usual 1280 of a WebRTC path with SRTP, RTP extensions and UDP around it.
	payloadBytes = 1200

	videoRate      = 90_000
	audioRate      = 48_000
	audioPerSecond = 50
)

// unit is what has one RTP timestamp: an access unit or an Opus packet, cut into RTP payloads once for all senders.
type unit struct {
	payloads [][]byte
	key      bool
}

type track struct {
	kind      string
	units     []unit
	perSecond int
	rate      int
	// RTP time of the first unit; negative when it holds the encoder's run-in.
	first int
}

type media struct {
	video, audio *track
}

// library reads each file once.
type library struct {
	fps    int
	tracks map[string]*track
}

func newLibrary(fps int) *library { return &library{fps: fps, tracks: map[string]*track{}} }

func (l *library) open(prefix, kinds string) (media, error) {
	var m media
	var err error
	if kinds == "av" || kinds == "v" {
		if m.video, err = l.read(prefix+".h264", l.video); err != nil {
			return m, err
		}
	}
	if kinds == "av" || kinds == "a" {
		if m.audio, err = l.read(prefix+".ogg", l.audio); err != nil {
			return m, err
		}
	}
	if m.video == nil && m.audio == nil {
		return m, fmt.Errorf("kinds %q: say av, a or v", kinds)
	}
	return m, nil
}

func (l *library) read(path string, parse func([]byte) (*track, error)) (*track, error) {
	if known := l.tracks[path]; known != nil {
		return known, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	t, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	l.tracks[path] = t
	return t, nil
}

// video splits an Annex B stream at its access unit delimiters, which are not sent.
func (l *library) video(data []byte) (*track, error) {
	delimiter := []byte{0, 0, 0, 1, 9}
	const delimiterBytes = 6 // with primary_pic_type
	t := &track{kind: "video", perSecond: l.fps, rate: videoRate}
	payloader := &codecs.H264Payloader{}
	parts := bytes.Split(data, delimiter)
	for _, part := range parts[1:] {
		if len(part) <= delimiterBytes-len(delimiter) {
			return nil, errors.New("an empty access unit")
		}
		part = part[delimiterBytes-len(delimiter):]
		payloads := payloader.Payload(payloadBytes, part)
		t.units = append(t.units, unit{payloads: payloads, key: bytes.Contains(part, []byte{0, 0, 1, 0x65})})
	}
	if len(t.units) == 0 || !t.units[0].key {
		return nil, errors.New("it does not begin with an access unit delimiter and an IDR picture")
	}
	return t, nil
}

func (l *library) audio(data []byte) (*track, error) {
	packets, err := oggPackets(data)
	if err != nil {
		return nil, err
	}
	// OpusHead, RFC 7845 section 5.1: pre-skip is at byte 10; OpusTags follows.
	if len(packets) < 2 || len(packets[0]) < 19 || !bytes.HasPrefix(packets[0], []byte("OpusHead")) {
		return nil, errors.New("not Ogg Opus")
	}
	preSkip := int(binary.LittleEndian.Uint16(packets[0][10:]))
	// Whole seconds, so that sound and picture are repeated together.
	sound := packets[2:]
	sound = sound[:len(sound)/audioPerSecond*audioPerSecond]
	if len(sound) == 0 {
		return nil, errors.New("less than a second of sound")
	}
	t := &track{kind: "audio", perSecond: audioPerSecond, rate: audioRate, first: -preSkip}
	for _, packet := range sound {
		t.units = append(t.units, unit{payloads: [][]byte{packet}})
	}
	return t, nil
}

// oggPackets takes the packets out of the pages of one logical stream (RFC 3533 section 6).
func oggPackets(data []byte) (packets [][]byte, err error) {
	const head = 27
	var packet []byte
	for len(data) > 0 {
		if len(data) < head || !bytes.HasPrefix(data, []byte("OggS")) || len(data) < head+int(data[26]) {
			return nil, errors.New("not an Ogg page")
		}
		lacing, body := data[head:head+int(data[26])], data[head+int(data[26]):]
		for _, length := range lacing {
			if len(body) < int(length) {
				return nil, errors.New("an Ogg page is cut off")
			}
			packet, body = append(packet, body[:length]...), body[length:]
			if length < 255 {
				packets, packet = append(packets, packet), nil
			}
		}
		data = body
	}
	return packets, nil
}
