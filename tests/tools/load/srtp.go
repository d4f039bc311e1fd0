package main

import (
	"fmt"
	"net"
	"strconv"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"
	"github.com/pion/srtp/v3"
)

// srtpKey is no secret: it is the one of whatever measures what receiving costs at least. Key, then salt.
var srtpKey = []byte("load-publisher16load-publish")

// srtpSink sends encrypted packets of one track to a UDP port, without ICE and DTLS.
type srtpSink struct {
	socket      net.Conn
	context     *srtp.Context
	ssrc        uint32
	payloadType uint8
	buffer      []byte
}

// connectSRTP: video is SSRC 1 and audio SSRC 2, on the same port, as bundled tracks are.
func (p *participant) connectSRTP(n int) error {
	host, port, err := net.SplitHostPort(p.options.srtp)
	if err != nil {
		return err
	}
	first, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	socket, err := net.Dial("udp", net.JoinHostPort(host, fmt.Sprint(first+n)))
	if err != nil {
		return err
	}
	p.closers = append(p.closers, func() { _ = socket.Close() })
	for i, t := range []*track{p.media.video, p.media.audio} {
		if t == nil {
			continue
		}
		context, err := srtp.CreateContext(srtpKey[:16], srtpKey[16:], srtp.ProtectionProfileAeadAes128Gcm)
		if err != nil {
			return err
		}
		p.senders = append(p.senders, newSender(t, &srtpSink{socket: socket, context: context, ssrc: uint32(i + 1), payloadType: uint8(96 + i)}))
	}
	return nil
}

func (s *srtpSink) WriteRTP(packet *rtp.Packet) error {
	packet.SSRC, packet.PayloadType = s.ssrc, s.payloadType
	clear, err := packet.Marshal()
	if err != nil {
		return err
	}
	s.buffer, err = s.context.EncryptRTP(s.buffer[:0], clear, nil)
	if err != nil {
		return err
	}
	// Nobody listening yet is no error of ours.
	_, _ = s.socket.Write(s.buffer)
	return nil
}

func (s *srtpSink) report(*rtcp.SenderReport) error { return nil }
