package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"github.com/livekit/protocol/livekit"
	"github.com/pion/webrtc/v4"
	"google.golang.org/protobuf/proto"
)

type onTrack func(*webrtc.TrackRemote, *webrtc.RTPReceiver)

// subscriber is the receiving half of a LiveKit participant: the server offers, we answer.
type subscriber struct {
	socket *websocket.Conn
	write  sync.Mutex
	pc     *webrtc.PeerConnection
	// Candidates that came before the first offer.
	early []webrtc.ICECandidateInit
}

// subscribe joins with automatic subscription and serves until ctx ends; then everything is closed.
func subscribe(ctx context.Context, address, token string, track onTrack) error {
	target := strings.TrimSuffix(address, "/") + "/rtc?" + url.Values{
		"access_token": {token}, "protocol": {"16"}, "auto_subscribe": {"1"}, "sdk": {"go"},
	}.Encode()
	socket, _, err := websocket.DefaultDialer.DialContext(ctx, target, nil)
	if err != nil {
		return err
	}
	pc, err := connection()
	if err != nil {
		return err
	}
	pc.OnTrack(track)
	s := &subscriber{socket: socket, pc: pc}
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	go s.ping(ctx)
	select {
	case err = <-served:
	case <-ctx.Done():
		_ = s.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Leave{Leave: &livekit.LeaveRequest{}}})
	}
	_ = socket.Close()
	return errorOr(pc.Close(), err)
}

func errorOr(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func connection() (*webrtc.PeerConnection, error) {
	engine := &webrtc.MediaEngine{}
	if err := engine.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	api := webrtc.NewAPI(webrtc.WithMediaEngine(engine), webrtc.WithSettingEngine(settings))
	return api.NewPeerConnection(webrtc.Configuration{})
}

func (s *subscriber) send(request *livekit.SignalRequest) error {
	data, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	s.write.Lock()
	defer s.write.Unlock()
	return s.socket.WriteMessage(websocket.BinaryMessage, data)
}

func (s *subscriber) ping(ctx context.Context) {
	every := time.NewTicker(5 * time.Second)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			_ = s.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_PingReq{PingReq: &livekit.Ping{Timestamp: now.UnixMilli()}}})
		}
	}
}

func (s *subscriber) serve() error {
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
		case *livekit.SignalResponse_Offer:
			if err := s.answer(message.Offer); err != nil {
				return err
			}
		case *livekit.SignalResponse_Trickle:
			if message.Trickle.Target == livekit.SignalTarget_SUBSCRIBER {
				s.candidate(message.Trickle.CandidateInit)
			}
		case *livekit.SignalResponse_Leave:
			return fmt.Errorf("told to leave: %s", message.Leave.Reason)
		}
	}
}

func (s *subscriber) answer(offer *livekit.SessionDescription) error {
	if err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer.Sdp}); err != nil {
		return err
	}
	for _, candidate := range s.early {
		_ = s.pc.AddICECandidate(candidate)
	}
	s.early = nil
	answer, err := s.pc.CreateAnswer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err := s.pc.SetLocalDescription(answer); err != nil {
		return err
	}
	<-gathered
	description := &livekit.SessionDescription{Type: "answer", Sdp: s.pc.LocalDescription().SDP, Id: offer.Id}
	return s.send(&livekit.SignalRequest{Message: &livekit.SignalRequest_Answer{Answer: description}})
}

func (s *subscriber) candidate(text string) {
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
