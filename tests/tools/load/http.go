package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/pion/webrtc/v4"
)

// negotiate makes an offer with all candidates and takes the answer that exchange brings; "" when it was taken already.
func (p *participant) negotiate(ctx context.Context, pc *webrtc.PeerConnection, exchange func(string) (string, error)) error {
	sdp, err := pc.CreateOffer(nil)
	if err != nil {
		return err
	}
	gathered := webrtc.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(sdp); err != nil {
		return err
	}
	select {
	case <-gathered:
	case <-ctx.Done():
		return errors.New("no candidates in time")
	}
	answer, err := exchange(pc.LocalDescription().SDP)
	if err != nil || answer == "" {
		return err
	}
	return pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

// whip posts an offer (RFC 9725); closing the participant deletes the session.
func (p *participant) whip(ctx context.Context, address, sdp string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(sdp))
	if err != nil {
		return "", err
	}
	request.Header.Set("Content-Type", "application/sdp")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusCreated && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, body)
	}
	if session, where := response.Location(); where == nil {
		p.closers = append(p.closers, func() {
			if request, err := http.NewRequest(http.MethodDelete, session.String(), nil); err == nil {
				if response, err := http.DefaultClient.Do(request); err == nil {
					response.Body.Close()
				}
			}
		})
	}
	return string(body), err
}

// janusMessage is what Janus' HTTP API says and is told, as far as it matters here.
type janusMessage struct {
	Janus       string         `json:"janus"`
	Transaction string         `json:"transaction,omitempty"`
	Plugin      string         `json:"plugin,omitempty"`
	Body        map[string]any `json:"body,omitempty"`
	Jsep        *janusSDP      `json:"jsep,omitempty"`
	Data        struct {
		ID uint64 `json:"id,omitempty"`
	} `json:"data,omitzero"`
	PluginData struct {
		Data struct {
			Error string `json:"error,omitempty"`
		} `json:"data"`
	} `json:"plugindata,omitzero"`
	Error *struct {
		Reason string `json:"reason"`
	} `json:"error,omitempty"`
}

type janusSDP struct {
	Type string `json:"type"`
	SDP  string `json:"sdp"`
}

// janus publishes in a room of the videoroom plugin.
func (p *participant) janus(ctx context.Context, sdp string) (string, error) {
	created, err := janusPost(ctx, p.options.janus, janusMessage{Janus: "create"})
	if err != nil {
		return "", err
	}
	session := fmt.Sprintf("%s/%d", p.options.janus, created.Data.ID)
	attached, err := janusPost(ctx, session, janusMessage{Janus: "attach", Plugin: "janus.plugin.videoroom"})
	if err != nil {
		return "", err
	}
	handle := fmt.Sprintf("%s/%d", session, attached.Data.ID)
	listening, stop := context.WithCancel(context.Background())
	p.closers = append(p.closers, func() {
		_, _ = janusPost(context.Background(), session, janusMessage{Janus: "destroy"})
		stop()
	})
	type result struct {
		sdp string
		err error
	}
	answer := make(chan result, 1)
	// The long poll also keeps the session alive.
	go func() {
		for listening.Err() == nil {
			sdp, err := janusEvent(listening, session)
			if err != nil || sdp != "" {
				select {
				case answer <- result{sdp, err}:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	join := map[string]any{"request": "join", "ptype": "publisher", "room": p.options.janusRoom, "display": p.identity}
	publish := map[string]any{"request": "configure", "audio": p.media.audio != nil, "video": p.media.video != nil}
	if _, err := janusPost(ctx, handle, janusMessage{Janus: "message", Body: join}); err != nil {
		return "", err
	}
	if _, err := janusPost(ctx, handle, janusMessage{Janus: "message", Body: publish, Jsep: &janusSDP{"offer", sdp}}); err != nil {
		return "", err
	}
	select {
	case got := <-answer:
		return got.sdp, got.err
	case <-ctx.Done():
		return "", errors.New("Janus does not answer")
	}
}

func janusPost(ctx context.Context, to string, message janusMessage) (janusMessage, error) {
	message.Transaction = "load-publisher"
	body, err := json.Marshal(message)
	if err != nil {
		return janusMessage{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
	if err != nil {
		return janusMessage{}, err
	}
	return janusDo(request)
}

// janusEvent waits for the session's next event; the SDP of the answer, if it brought one.
func janusEvent(ctx context.Context, session string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, session+"?maxev=1", nil)
	if err != nil {
		return "", err
	}
	event, err := janusDo(request)
	switch {
	case err != nil:
		return "", err
	case event.Jsep != nil:
		return event.Jsep.SDP, nil
	}
	return "", nil
}

func janusDo(request *http.Request) (janusMessage, error) {
	var message janusMessage
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return message, err
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&message); err != nil {
		return message, fmt.Errorf("Janus: %w", err)
	}
	if message.Error != nil {
		return message, fmt.Errorf("Janus: %s", message.Error.Reason)
	}
	if reason := message.PluginData.Data.Error; reason != "" {
		return message, fmt.Errorf("Janus: %s", reason)
	}
	return message, nil
}
