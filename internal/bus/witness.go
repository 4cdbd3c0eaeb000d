package bus

import (
	"encoding/json"
	"time"
)

// KeyWitness is the key of CONTROL that says which agent runs the witness.
const KeyWitness = "witness"

// WitnessPrefix begins the name of every witness, so that everyone who sees a member of the cluster knows what it is.
const WitnessPrefix = "witness-"

// WitnessGrant makes one agent run the witness: a small member of the cluster that votes and stores but does not lead. The active
// Booster writes it; there is never more than one.
type WitnessGrant struct {
	Agent    string    `json:"agent"`    // name of the agent
	Name     string    `json:"name"`     // of the member; new with each grant, because a name that was removed must not come back soon
	Address  string    `json:"address"`  // host:port where the Boosters reach it
	Boosters []string  `json:"boosters"` // host:port of the Boosters' cluster ports
	Granted  time.Time `json:"granted"`
}

// Encode writes the grant as it stands in CONTROL.
func (g WitnessGrant) Encode() []byte {
	data, err := json.Marshal(g)
	if err != nil {
		panic(err) // strings and a time: cannot happen
	}
	return data
}
