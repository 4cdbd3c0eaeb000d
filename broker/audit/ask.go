package audit

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/omflow-booster/omflow-booster/internal/bus"
)

// order tells a member to do something with its copy of a stream.
func (a *Auditor) order(ctx context.Context, what, member, stream string) error {
	return a.ask(ctx, what, member, []byte(stream), &struct{}{})
}

func (a *Auditor) ask(ctx context.Context, what, member string, question []byte, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	data, err := a.booster.Request(ctx, bus.AuditSubject(what, member), question)
	if err != nil {
		return fmt.Errorf("ask %s for its %s: %w", member, what, err)
	}
	var refusal struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(data, &refusal); err != nil {
		return fmt.Errorf("%s of %s: %w", what, member, err)
	}
	if refusal.Error != "" {
		return fmt.Errorf("%s of %s: %s", what, member, refusal.Error)
	}
	return json.Unmarshal(data, answer)
}
