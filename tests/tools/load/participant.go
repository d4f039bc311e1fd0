package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/pion/interceptor"
	"github.com/pion/interceptor/pkg/nack"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v4"
)

const connectTimeout = 20 * time.Second

// linger is the time between the last packet and leaving.
const linger = time.Second

type participant struct {
	identity string
	media    media
	options  options
	senders  []*sender
	// Undoes connect, in reverse order.
	closers []func()
}

func (p *participant) close() {
	for i := len(p.closers) - 1; i >= 0; i-- {
		p.closers[i]()
	}
}

func (p *participant) connect(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if p.options.srtp != "" {
		return p.connectSRTP(n)
	}
	pc, err := p.peerConnection()
	if err != nil {
		return err
	}
	connected := make(chan error, 1)
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		switch state {
		case webrtc.PeerConnectionStateConnected:
			offer(connected, nil)
		case webrtc.PeerConnectionStateFailed:
			offer(connected, errors.New("no path for media"))
		}
	})
	switch o := p.options; {
	case o.livekit.url != "":
		err = p.joinLiveKit(ctx, pc)
	case o.whip != "":
		err = p.negotiate(ctx, pc, func(sdp string) (string, error) { return p.whip(ctx, number(o.whip, n), sdp) })
	case o.janus != "":
		err = p.negotiate(ctx, pc, func(sdp string) (string, error) { return p.janus(ctx, sdp) })
	default:
		err = errors.New("say where to: -livekit, -whip, -janus or -srtp")
	}
	if err != nil {
		return err
	}
	select {
	case err := <-connected:
		return err
	case <-ctx.Done():
		return errors.New("media did not connect in time")
	}
}

func offer(to chan error, err error) {
	select {
	case to <- err:
	default:
	}
}

// peerConnection has both tracks added.
func (p *participant) peerConnection() (*webrtc.PeerConnection, error) {
	engine := &webrtc.MediaEngine{}
	feedback := []webrtc.RTCPFeedback{{Type: "nack"}, {Type: "nack", Parameter: "pli"}, {Type: "ccm", Parameter: "fir"}}
	h264 := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeH264, ClockRate: videoRate, RTCPFeedback: feedback,
		SDPFmtpLine: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"}
	opus := webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: audioRate, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1"}
	if err := errors.Join(
		engine.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: h264, PayloadType: 96}, webrtc.RTPCodecTypeVideo),
		engine.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: opus, PayloadType: 111}, webrtc.RTPCodecTypeAudio),
	); err != nil {
		return nil, err
	}
	// Retransmission alone: reports are written here, with the due time of each packet instead of the time it was sent.
	registry := &interceptor.Registry{}
	responder, err := nack.NewResponderInterceptor()
	if err != nil {
		return nil, err
	}
	registry.Add(responder)
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	if ip := p.mediaIP(); ip != nil {
		settings.SetIPFilter(ip.Equal)
	}
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithInterceptorRegistry(registry), webrtc.WithSettingEngine(settings))
	pc, err := api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	p.closers = append(p.closers, func() { _ = pc.Close() })
	if p.media.video != nil {
		err = p.add(pc, p.media.video, h264)
	}
	if p.media.audio != nil {
		err = errors.Join(err, p.add(pc, p.media.audio, opus))
	}
	return pc, err
}

// mediaIP is loopback for a server that is there; nil: any address.
func (p *participant) mediaIP() net.IP {
	if p.options.mediaIP != "" {
		return net.ParseIP(p.options.mediaIP)
	}
	for _, address := range []string{p.options.livekit.url, p.options.whip} {
		if u, err := url.Parse(number(address, 0)); err == nil {
			if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsLoopback() {
				return ip
			}
		}
	}
	return nil
}

// rtcTrack sends a track on a peer connection.
type rtcTrack struct {
	*webrtc.TrackLocalStaticRTP
	pc     *webrtc.PeerConnection
	sender *webrtc.RTPSender
}

func (t *rtcTrack) report(r *rtcp.SenderReport) error {
	r.SSRC = uint32(t.sender.GetParameters().Encodings[0].SSRC)
	return t.pc.WriteRTCP([]rtcp.Packet{r})
}

func (p *participant) add(pc *webrtc.PeerConnection, t *track, codec webrtc.RTPCodecCapability) error {
	local, err := webrtc.NewTrackLocalStaticRTP(codec, t.kind+"-"+p.identity, p.identity)
	if err != nil {
		return err
	}
	rtpSender, err := pc.AddTrack(local)
	if err != nil {
		return err
	}
	s := newSender(t, &rtcTrack{TrackLocalStaticRTP: local, pc: pc, sender: rtpSender})
	p.senders = append(p.senders, s)
	go s.listen(rtpSender)
	return nil
}

// send returns when the context is done, or with the first error.
func (p *participant) send(ctx context.Context, start time.Time) error {
	var running sync.WaitGroup
	errs := make([]error, len(p.senders))
	for i, s := range p.senders {
		running.Go(func() { errs[i] = s.send(ctx, start, p.options) })
	}
	running.Wait()
	return errors.Join(errs...)
}

func (p *participant) counters() map[string]any {
	fields := map[string]any{"identity": p.identity}
	for _, s := range p.senders {
		fields[s.kind] = s.counters()
	}
	return fields
}
