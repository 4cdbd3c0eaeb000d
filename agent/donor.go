package agent

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// transferKept is how long an artifact of a home is given to those who ask. It is stored for longer (patch.HomesKept).
const transferKept = 10 * time.Minute

// donor hands the files of this server to new ones. The packer makes them, in the updater's goroutine, while no patch is under way.
type donor struct {
	asked chan<- struct{} // wakes the updater
	seal  func(asked *bus.SettingsRequest) (*bus.SealedSettings, error)

	mu sync.Mutex
	donation
}

// donation is what this server has for others.
type donation struct {
	offer    *bus.HomeOffer    // nil while this server is none that others should be like
	transfer *bus.HomeTransfer // the last one; of use as long as it has the files of the offer, and for transferKept
	files    string            // the baseline of those in the transfer: a repair changes them between two patches
	made     time.Time         // when it was
	wants    bool              // somebody waits for one
}

func newDonor(asked chan<- struct{}, seal func(asked *bus.SettingsRequest) (*bus.SealedSettings, error)) (*donor, error) {
	return complete(&donor{asked: asked, seal: seal})
}

// addTo answers to those who ask.
func (d *donor) addTo(group micro.Group, node string) error {
	err := group.AddEndpoint(bus.EndpointHome, micro.HandlerFunc(func(r micro.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.offer != nil {
			_ = r.RespondJSON(d.offer)
		}
	}), micro.WithEndpointQueueGroupDisabled())
	if err != nil {
		return err
	}
	return group.AddEndpoint(bus.EndpointTransfer, micro.HandlerFunc(func(r micro.Request) { _ = r.RespondJSON(d.answerTo(r.Data())) }),
		micro.WithEndpointSubject(bus.EndpointTransfer+"."+bus.Token(node)), micro.WithEndpointQueueGroupDisabled())
}

// answerTo says how far the artifact is, with the settings if they are asked for. Who asks for nothing may be of a former release.
func (d *donor) answerTo(question []byte) bus.HomeTransfer {
	answer := d.answer()
	var asked bus.HomeRequest
	_ = json.Unmarshal(question, &asked)
	if asked.Settings == nil || len(answer.Artifact) == 0 {
		return answer
	}
	var err error
	if answer.Settings, err = d.seal(asked.Settings); err != nil {
		answer.SettingsError = err.Error()
	}
	return answer
}

// answer says how far the artifact is, and has it made.
func (d *donor) answer() bus.HomeTransfer {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.offer == nil:
		return bus.HomeTransfer{Error: "this server has no files to give now"}
	case d.transfer != nil && d.transfer.Seq == d.offer.Seq && d.files == d.offer.Baseline && d.transfer.Error == "" &&
		time.Since(d.made) < transferKept:
		return *d.transfer
	case d.transfer != nil && d.transfer.Error != "":
		failed := *d.transfer
		d.transfer = nil // the next one who asks has it tried again
		return failed
	}
	d.wants = true
	wake(d.asked)
	return bus.HomeTransfer{Seq: d.offer.Seq}
}

// set says what this server has to give; nil for nothing.
func (d *donor) set(offer *bus.HomeOffer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.offer = offer
}

// wanted tells whether somebody waits.
func (d *donor) wanted() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.wants && d.offer != nil
}

func (d *donor) done(transfer bus.HomeTransfer, baseline string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.transfer, d.files, d.made, d.wants = &transfer, baseline, time.Now(), false
}
