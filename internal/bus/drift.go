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

	Seq uint64 `json:"seq"` // last message of PATCH that was dealt with
	DriftProgress
	DriftStays
}

// DriftProgress is what becomes of the changes.
type DriftProgress struct {
	Moving    string `json:"moving"`    // a file that is being written, and that the changes wait for; empty otherwise
	Held      string `json:"held"`      // why the changes are not published before somebody orders it; empty otherwise
	Digest    string `json:"digest"`    // of all changes
	Repairing bool   `json:"repairing"` // it is at it
}

// DriftStays are what cannot be carried to other servers. They are no changes.
type DriftStays struct {
	Stays      []DriftStay `json:"stays"` // the first 1,000
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

// RepairSubject is where an agent receives the order to repair its home. The empty answer confirms the order.
func RepairSubject(node string) string {
	return ServiceAgent + "." + EndpointRepair + "." + Token(node)
}

// ReleaseSubject is where an agent receives the order to publish what it holds back; the request is the Drift.Digest of what was looked at.
func ReleaseSubject(node string) string {
	return ServiceAgent + "." + EndpointRelease + "." + Token(node)
}

// FilesSubject is where an agent is asked which files its server should have: a FilesQuery, answered by a FilesPage.
func FilesSubject(node string) string {
	return ServiceAgent + "." + EndpointFiles + "." + Token(node)
}

// FilesQuery asks for the files whose paths come after one.
type FilesQuery struct {
	After string `json:"after"`
}

// FilesPage is some of the files of a home as the last patch, or the beginning, has left them, by path.
type FilesPage struct {
	Node     string     `json:"node"`
	Baseline string     `json:"baseline"` // digest of all; pages with different ones do not belong together
	Known    bool       `json:"known"`    // false: nothing is watched there
	Version  string     `json:"version"`
	Ignore   []string   `json:"ignore"` // AGENT_IGNORE
	Files    []HomeFile `json:"files"`
	More     bool       `json:"more"`
}

// HomeFile is one file of a home.
type HomeFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
	Mode   uint32 `json:"mode"`
}
