package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/livekit/protocol/auth"
	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/proto"
)

type livekitOptions struct {
	url, room, apiKey, apiSecret string
}

// What LiveKit is told of the picture, when nothing else is known; it decides about layers, of which there is one.
const width, height = 1280, 720

// signalling is one participant's WebSocket. It may not subscribe: then the server opens no connection of its own to it.
type signalling struct {
	socket *websocket.Conn
	write  sync.Mutex
	pc     *webrtc.PeerConnection
	// Candidates that came before the answer.
	early []webrtc.ICECandidateInit
	// Closed when the socket is.
	over chan struct{}
}

// The server closes the socket of whoever has left.
const leaveTimeout = 2 * time.Second

// joinLiveKit publishes camera and microphone. The WebSocket is served until the participant is closed.
func (p *participant) joinLiveKit(ctx context.Context, pc *webrtc.PeerConnection) error {
	s, err := p.dialLiveKit(ctx)
	if err != nil {
		return err
	}
	s.pc = pc
	p.closers = append(p.closers, s.leave)
	answered := make(chan error, 1)
	joined := make(chan time.Duration, 1)
	go func() {
		defer close(s.over)
		offer(answered, s.serve(joined, answered))
	}()
	var pingEvery time.Duration
	select {
	case pingEvery = <-joined:
	case err := <-answered:
		return fmt.Errorf("LiveKit: %w", err)
	case <-ctx.Done():
		return fmt.Errorf("LiveKit does not greet")
	}
	go s.ping(pingEvery)
	for _, t := range p.senders {
		if err := s.send(addTrack(t)); err != nil {
			return err
		}
	}
	return p.negotiate(ctx, pc, func(sdp string) (string, error) {
		if err := s.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Offer{Offer: &livekit.SessionDescription{Type: "offer", Sdp: sdp}}}); err != nil {
			return "", err
		}
		select {
		case err := <-answered:
			return "", err
		case <-ctx.Done():
			return "", fmt.Errorf("LiveKit does not answer")
		}
	})
}

func (p *participant) dialLiveKit(ctx context.Context) (*signalling, error) {
	o := p.options.livekit
	no := false
	grant := &auth.VideoGrant{RoomJoin: true, Room: o.room, CanSubscribe: &no}
	token, err := auth.NewAccessToken(o.apiKey, o.apiSecret).SetIdentity(p.identity).SetVideoGrant(grant).SetValidFor(6 * time.Hour).ToJWT()
	if err != nil {
		return nil, err
	}
	address := strings.TrimSuffix(o.url, "/") + "/rtc?" + url.Values{
		"access_token": {token}, "protocol": {"16"}, "auto_subscribe": {"0"}, "sdk": {"go"},
	}.Encode()
	socket, response, err := websocket.DefaultDialer.DialContext(ctx, address, nil)
	if response != nil && response.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("LiveKit refuses: %s", response.Status)
	}
	if err != nil {
		return nil, err
	}
	return &signalling{socket: socket, over: make(chan struct{})}, nil
}

func addTrack(s *sender) *livekit.SignalRequest {
	local := s.to.(*rtcTrack)
	request := &livekit.AddTrackRequest{Cid: local.ID(), Name: s.kind, Type: livekit.TrackType_AUDIO, Source: livekit.TrackSource_MICROPHONE}
	if s.kind == "video" {
		layer := &livekit.VideoLayer{Quality: livekit.VideoQuality_HIGH, Width: width, Height: height, Bitrate: 2_000_000}
		request.Type, request.Source = livekit.TrackType_VIDEO, livekit.TrackSource_CAMERA
		request.Width, request.Height, request.Layers = width, height, []*livekit.VideoLayer{layer}
	} else {
		request.DisableRed = true
	}
	return &livekit.SignalRequest{Message: &livekit.SignalRequest_AddTrack{AddTrack: request}}
}

func (s *signalling) send(request *livekit.SignalRequest) error {
	data, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	s.write.Lock()
	defer s.write.Unlock()
	return s.socket.WriteMessage(websocket.BinaryMessage, data)
}

func (s *signalling) ping(every time.Duration) {
	for range time.Tick(every) {
		now := time.Now().UnixMilli()
		if s.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_PingReq{PingReq: &livekit.Ping{Timestamp: now}}}) != nil {
			return
		}
	}
}

// leave is heard: who closes a socket in which something waits to be read resets it, and the word that was sent last may be lost with that.
// Somebody who is gone without a word is in the room for 20 seconds more.
func (s *signalling) leave() {
	_ = s.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Leave{Leave: &livekit.LeaveRequest{Reason: livekit.DisconnectReason_CLIENT_INITIATED}}})
	select {
	case <-s.over:
	case <-time.After(leaveTimeout):
	}
	_ = s.socket.Close()
}

// serve runs until the WebSocket is closed or the server says leave. joined gets the interval of pings, answered nil.
func (s *signalling) serve(joined chan<- time.Duration, answered chan error) error {
	for {
		_, data, err := s.socket.ReadMessage()
		if err != nil {
			return err
		}
		var response livekit.SignalResponse
		if err := proto.Unmarshal(data, &response); err != nil {
			return err
		}
		switch message := response.Message.(type) {
		case *livekit.SignalResponse_Join:
			joined <- time.Duration(max(message.Join.PingInterval, 1)) * time.Second
		case *livekit.SignalResponse_Answer:
			offer(answered, s.answered(message.Answer.Sdp))
		case *livekit.SignalResponse_Trickle:
			if message.Trickle.Target == livekit.SignalTarget_PUBLISHER {
				s.candidate(message.Trickle.CandidateInit)
			}
		case *livekit.SignalResponse_Leave:
			return fmt.Errorf("told to leave: %s", message.Leave.Reason)
		}
	}
}

func (s *signalling) answered(sdp string) error {
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: sdp}); err != nil {
		return err
	}
	for _, candidate := range s.early {
		_ = s.pc.AddICECandidate(candidate)
	}
	s.early = nil
	return nil
}

func (s *signalling) candidate(text string) {
	var candidate webrtc.ICECandidateInit
	if json.Unmarshal([]byte(text), &candidate) != nil {
		return
	}
	if s.pc.RemoteDescription() == nil {
		s.early = append(s.early, candidate)
		return
	}
	_ = s.pc.AddICECandidate(candidate)
}
