package bus

import "time"

// Drift is the answer of an agent to agent.drift, as JSON: what was changed in its home, by hand or by its server, and not by a patch.
type Drift struct {
	Node      string      `json:"node"`
	Watch     string      `json:"watch"` // publish, report or off
	Version   string      `json:"version"`
	Baseline  string      `json:"baseline"`  // digest of the files as they should be; the same on servers that are the same
	Since     *time.Time  `json:"since"`     // when the files were first seen as they are; null without any
	Published string      `json:"published"` // patch that carries them, if it is announced
	Files     []DriftFile `json:"files"`     // the first 1,000
	Repair    string      `json:"repair"`    // why the last repair has failed; empty otherwise
	Total     int         `json:"total"`

	Stays      []DriftStay `json:"stays"` // the first 1,000; they are no changes
	StaysTotal int         `json:"stays_total"`
}

// DriftStay is a file or directory of the home that cannot be carried to other servers.
type DriftStay struct {
	Path string `json:"path"`
	Why  string `json:"why"` // and what to do, as the rest of a sentence that begins with the path
}

// DriftFile is a file that differs.
type DriftFile struct {
	Path string `json:"path"`
	Kind string `json:"kind"` // added, changed or missing
}

// RepairSubject is where an agent is told to bring back what was changed in its home; the answer, without content, says that it has heard.
func RepairSubject(node string) string {
	return ServiceAgent + "." + EndpointRepair + "." + Token(node)
}
