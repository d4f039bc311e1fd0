// Witness joins a LiveKit room as a second subscriber and writes down what it was sent: coded pictures and sound with their RTP times,
// and the sender reports that tie those to the publisher's clock. A test compares a recording with it.
//
//	video.h264    access units from the first key frame on, Annex B
//	video.rtp     the RTP time of each, a line each
//	audio.ogg     Opus packets as they came
//	audio.rtp     sequence number and RTP time of each, a line each
//	reports       kind, NTP (32.32 fixed point), RTP of each sender report, a line each
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/pion/rtcp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media/oggwriter"
	"github.com/pion/webrtc/v4/pkg/media/samplebuilder"
)

// Packets that a picture may wait for; nothing is lost on loopback.
const reorder = 128

type witness struct {
	folder string
	write  sync.Mutex
	report *os.File
	// What is being written: flushed before the end.
	tracks sync.WaitGroup
	kinds  map[uint32]string
}

func main() {
	var address, token, folder string
	flag.StringVar(&address, "url", "", "ws://host:port")
	flag.StringVar(&token, "token", "", "access token")
	flag.StringVar(&folder, "out", "", "folder for what is written")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	report, err := os.Create(filepath.Join(folder, "reports"))
	if err != nil {
		log.Fatal(err)
	}
	w := &witness{folder: folder, report: report, kinds: map[uint32]string{}}
	if err := subscribe(ctx, address, token, w.track); err != nil {
		log.Fatal(err)
	}
	w.tracks.Wait()
}

func (w *witness) track(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	kind := track.Kind().String()
	log.Printf("%s: %s", kind, track.Codec().MimeType)
	w.write.Lock()
	w.kinds[uint32(track.SSRC())] = kind
	w.write.Unlock()
	go w.reports(receiver)
	w.tracks.Add(1)
	defer w.tracks.Done()
	save := w.sound
	if track.Kind() == webrtc.RTPCodecTypeVideo {
		save = w.pictures
	}
	if err := save(track); err != nil {
		log.Printf("%s: %v", kind, err)
	}
}

// A compound packet may carry reports of other streams too, and may come to each of them.
func (w *witness) reports(receiver *webrtc.RTPReceiver) {
	seen := map[string]bool{}
	for {
		packets, _, err := receiver.ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			report, ok := packet.(*rtcp.SenderReport)
			if !ok {
				continue
			}
			w.write.Lock()
			line := fmt.Sprintf("%s %d %d\n", w.kinds[report.SSRC], report.NTPTime, report.RTPTime)
			if !seen[line] {
				seen[line] = true
				_, _ = w.report.WriteString(line)
			}
			w.write.Unlock()
		}
	}
}

func (w *witness) pictures(track *webrtc.TrackRemote) error {
	stream, err := os.Create(filepath.Join(w.folder, "video.h264"))
	if err != nil {
		return err
	}
	defer stream.Close()
	times, err := os.Create(filepath.Join(w.folder, "video.rtp"))
	if err != nil {
		return err
	}
	defer times.Close()
	builder := samplebuilder.New(reorder, &codecs.H264Packet{}, track.Codec().ClockRate)
	begun := false
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return nil
		}
		builder.Push(packet)
		for sample := builder.Pop(); sample != nil; sample = builder.Pop() {
			if begun = begun || holdsKeyFrame(sample.Data); !begun {
				continue
			}
			if sample.PrevDroppedPackets > 0 {
				return fmt.Errorf("%d packets are missing", sample.PrevDroppedPackets)
			}
			if _, err := stream.Write(sample.Data); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(times, sample.PacketTimestamp); err != nil {
				return err
			}
		}
	}
}

func (w *witness) sound(track *webrtc.TrackRemote) error {
	codec := track.Codec()
	stream, err := oggwriter.New(filepath.Join(w.folder, "audio.ogg"), codec.ClockRate, 1)
	if err != nil {
		return err
	}
	defer stream.Close()
	times, err := os.Create(filepath.Join(w.folder, "audio.rtp"))
	if err != nil {
		return err
	}
	defer times.Close()
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return nil
		}
		if len(packet.Payload) == 0 {
			continue
		}
		if err := stream.WriteRTP(packet); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(times, packet.SequenceNumber, packet.Timestamp); err != nil {
			return err
		}
	}
}

// holdsKeyFrame looks for an IDR slice (NAL unit type 5) behind a start code.
func holdsKeyFrame(unit []byte) bool {
	for i := 0; i+3 < len(unit); i++ {
		if unit[i] == 0 && unit[i+1] == 0 && unit[i+2] == 1 && unit[i+3]&31 == 5 {
			return true
		}
	}
	return false
}
