package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// As libwebrtc does; RFC 3550 section 6.2 would have it less often.
const reportEvery = time.Second

// sink is where the packets of a track and its reports go.
type sink interface {
	WriteRTP(*rtp.Packet) error
	report(*rtcp.SenderReport) error
}

// sender is one track of one participant on its way out.
type sender struct {
	*track
	to       sink
	base     uint32
	sequence uint16

	// Since the start: access units or Opus packets, RTP packets, their payload, IDR pictures; and what came back.
	sentUnits, packets, octets, keys, keyRequests, nacks atomic.Uint64
}

func newSender(t *track, to sink) *sender {
	var random [6]byte
	_, _ = rand.Read(random[:])
	return &sender{track: t, to: to, base: binary.BigEndian.Uint32(random[:]), sequence: binary.BigEndian.Uint16(random[4:])}
}

// listen counts what the receiver asks for; the interceptor answers requests for retransmission.
func (s *sender) listen(from *webrtc.RTPSender) {
	for {
		packets, _, err := from.ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			switch packet.(type) {
			case *rtcp.PictureLossIndication, *rtcp.FullIntraRequest:
				s.keyRequests.Add(1)
			case *rtcp.TransportLayerNack:
				s.nacks.Add(1)
			}
		}
	}
}

// send gives unit n out at start + n / perSecond until the context is done. When it is late it hurries, and skips nothing.
func (s *sender) send(ctx context.Context, start time.Time, o options) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	reportAt := start.Add(reportEvery / 2)
	next, answered := 0, uint64(0)
	for n := 0; ; n++ {
		timer.Reset(time.Until(start.Add(time.Duration(n) * time.Second / time.Duration(s.perSecond))))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if asked := s.keyRequests.Load(); o.jump && asked > answered {
			answered, next = asked, s.nextKey(next)
		}
		if err := s.sendUnit(s.units[next], s.base+uint32(s.first+n*(s.rate/s.perSecond))); err != nil {
			return err
		}
		next = (next + 1) % len(s.units)
		if now := time.Now(); !o.noReports && now.After(reportAt) {
			reportAt = now.Add(reportEvery)
			if err := s.to.report(s.senderReport(now, now.Sub(start))); err != nil {
				return err
			}
		}
	}
}

// nextKey is the first IDR at or after a unit, round the file's end; the unit itself when there is none.
func (s *sender) nextKey(from int) int {
	for i := range s.units {
		if at := (from + i) % len(s.units); s.units[at].key {
			return at
		}
	}
	return from
}

func (s *sender) sendUnit(u unit, timestamp uint32) error {
	for i, payload := range u.payloads {
		last := i == len(u.payloads)-1
		header := rtp.Header{Version: 2, Marker: last && s.kind == "video", SequenceNumber: s.sequence, Timestamp: timestamp}
		if err := s.to.WriteRTP(&rtp.Packet{Header: header, Payload: payload}); err != nil {
			return err
		}
		s.sequence++
		s.packets.Add(1)
		s.octets.Add(uint64(len(payload)))
	}
	s.sentUnits.Add(1)
	if u.key {
		s.keys.Add(1)
	}
	return nil
}

// senderReport maps this moment to the RTP time that is due at it: exact, since media time runs on the machine's clock.
func (s *sender) senderReport(now time.Time, elapsed time.Duration) *rtcp.SenderReport {
	return &rtcp.SenderReport{
		NTPTime:     ntp(now),
		RTPTime:     s.base + uint32(int64(elapsed)/1000*int64(s.rate)/1_000_000),
		PacketCount: uint32(s.packets.Load()),
		OctetCount:  uint32(s.octets.Load()),
	}
}

// ntp is RFC 3550 section 4's 64 bits: seconds since 1900, and their fraction.
func ntp(t time.Time) uint64 {
	const from1900To1970 = 2_208_988_800
	fraction := uint64(t.Nanosecond()) << 32 / 1_000_000_000
	return uint64(t.Unix()+from1900To1970)<<32 | fraction
}

func (s *sender) counters() map[string]uint64 {
	return map[string]uint64{
		"units": s.sentUnits.Load(), "packets": s.packets.Load(), "bytes": s.octets.Load(), "keyFrames": s.keys.Load(),
		"keyFrameRequests": s.keyRequests.Load(), "nacks": s.nacks.Load(),
	}
}
