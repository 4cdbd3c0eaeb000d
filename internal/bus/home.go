package bus

// HomeSubject is where agents are asked who can give a new server its files: every agent that can answers with a HomeOffer.
const HomeSubject = ServiceAgent + "." + EndpointHome

// GiveSubject is where one agent is asked for them; the answer is a HomeGift.
func GiveSubject(node string) string { return ServiceAgent + "." + EndpointGive + "." + Token(node) }

// HomeOffer is what an agent can give to a new server, as JSON.
type HomeOffer struct {
	Node     string `json:"node"`
	Seq      uint64 `json:"seq"`      // last message of PATCH that is in it
	Baseline string `json:"baseline"` // digest of the files
	Version  string `json:"version"`
	Files    int    `json:"files"`
	Bytes    int64  `json:"bytes"`
}

// HomeGift is how far it is, as JSON. Whoever wants it asks again until Artifact or Error is there.
type HomeGift struct {
	Seq      uint64 `json:"seq"`      // as in the offer
	Artifact []byte `json:"artifact"` // announcement of the artifact, as JSON; empty while it is being made
	Error    string `json:"error"`
}

// UndoSubject is where agents are asked who can take a patch back, whose id is the request; each that can answers with an UndoOffer.
const UndoSubject = ServiceAgent + "." + EndpointUndo

// UndoBySubject is where one agent is told to publish what takes a patch back, whose id is the request; the answer is its announcement.
func UndoBySubject(node string) string {
	return ServiceAgent + "." + EndpointUndoBy + "." + Token(node)
}

// UndoOffer is what an agent could bring back, as JSON.
type UndoOffer struct {
	Node      string `json:"node"`
	Files     int    `json:"files"`
	Deletions int    `json:"deletions"`
}
