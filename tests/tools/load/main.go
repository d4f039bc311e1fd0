// Command load-publisher sends pre-encoded media to WebRTC servers as many participants at once, without encoding:
// under one per cent of a core each.
//
// The media are PREFIX.h264 (Annex B with access unit delimiters, constant frame rate, no B-frames) and PREFIX.ogg
// (Opus, 20 ms packets), as tests/stimulus/preencode.py makes them. They are repeated when they are over, and with
// them the numbers in the picture. A request for a key frame is counted; by default it is answered by the file's next
// IDR in its own time, with -jump at once, by going on there.
//
// Sender reports say exactly when each RTP time was due; their clock is the machine's.
//
// Prints one JSON object a line: {"event":"connected"}, {"event":"started"} once all are, {"event":"sent"} for each
// participant at the end, {"event":"done"}.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

type options struct {
	media        string
	fps          int
	participants int
	first        int
	identity     string
	kinds        string
	seconds      float64
	jump         bool
	noReports    bool
	mediaIP      string
	livekit      livekitOptions
	whip         string
	janus        string
	janusRoom    int
	srtp         string
}

func parse() options {
	var o options
	flag.StringVar(&o.media, "media", "", "prefix of the media files; %d in it is the participant's number")
	flag.IntVar(&o.fps, "fps", 30, "frame rate of the H.264 file")
	flag.IntVar(&o.participants, "participants", 1, "how many")
	flag.IntVar(&o.first, "first", 0, "number of the first participant")
	flag.StringVar(&o.identity, "identity", "load-%d", "identity; %d in it is the participant's number")
	flag.StringVar(&o.kinds, "kinds", "av", "av, a or v")
	flag.Float64Var(&o.seconds, "seconds", 20, "for how long media is sent")
	flag.BoolVar(&o.jump, "jump", false, "answer a request for a key frame at once, by going on at the file's next IDR")
	flag.BoolVar(&o.noReports, "no-reports", false, "send no sender reports")
	flag.StringVar(&o.mediaIP, "media-ip", "", "send media from this address only")
	flag.StringVar(&o.livekit.url, "livekit", "", "ws:// address of a LiveKit server; with -room, -api-key and -api-secret")
	flag.StringVar(&o.livekit.room, "room", "room", "LiveKit room")
	flag.StringVar(&o.livekit.apiKey, "api-key", "", "LiveKit API key")
	flag.StringVar(&o.livekit.apiSecret, "api-secret", "", "LiveKit API secret")
	flag.StringVar(&o.whip, "whip", "", "URL that answers a POSTed offer (RFC 9725); %d in it is the participant's number")
	flag.StringVar(&o.janus, "janus", "", "URL of Janus' HTTP API; with -janus-room")
	flag.IntVar(&o.janusRoom, "janus-room", 1, "room of the videoroom plugin")
	flag.StringVar(&o.srtp, "srtp", "", "host:port that takes SRTP under a fixed key, participant n on port + n: no ICE, no DTLS")
	flag.Parse()
	return o
}

// number replaces %d in a template that may have none.
func number(template string, n int) string {
	for i := 0; i+1 < len(template); i++ {
		if template[i:i+2] == "%d" {
			return template[:i] + fmt.Sprint(n) + template[i+2:]
		}
	}
	return template
}

var sayLock sync.Mutex

func say(event string, fields map[string]any) {
	line := map[string]any{"event": event, "at_unix_ms": time.Now().UnixMilli()}
	for key, value := range fields {
		line[key] = value
	}
	sayLock.Lock()
	defer sayLock.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(line)
}

func main() {
	o := parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o); err != nil {
		say("failed", map[string]any{"error": err.Error()})
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	people, err := connectAll(ctx, o)
	defer func() {
		for _, p := range people {
			p.close()
		}
	}()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.seconds*float64(time.Second)))
	defer cancel()
	failed := make(chan error, len(people))
	var sending sync.WaitGroup
	started := time.Now()
	for i, p := range people {
		// Spread over a frame, as independent cameras are.
		start := started.Add(time.Second / time.Duration(o.fps) * time.Duration(i) / time.Duration(len(people)))
		sending.Go(func() {
			if err := p.send(ctx, start); err != nil {
				failed <- fmt.Errorf("%s: %w", p.identity, err)
				cancel()
			}
		})
	}
	say("started", map[string]any{"t0_unix_ms": started.UnixMilli(), "participants": len(people)})
	sending.Wait()
	// Nothing says when an SFU has passed on the last packet, and it drops what it holds of somebody who leaves.
	time.Sleep(linger)
	for _, p := range people {
		say("sent", p.counters())
	}
	say("done", map[string]any{"seconds": time.Since(started).Seconds()})
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// connectAll returns those that were made even when one fails, so that they can be closed.
func connectAll(ctx context.Context, o options) ([]*participant, error) {
	library := newLibrary(o.fps)
	var people []*participant
	for n := o.first; n < o.first+o.participants; n++ {
		media, err := library.open(number(o.media, n), o.kinds)
		if err != nil {
			return people, err
		}
		p := &participant{identity: number(o.identity, n), media: media, options: o}
		people = append(people, p)
		if err := p.connect(ctx, n); err != nil {
			return people, fmt.Errorf("%s: %w", p.identity, err)
		}
		say("connected", map[string]any{"identity": p.identity})
	}
	return people, nil
}
