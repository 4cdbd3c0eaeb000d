package bus

// HomeSubject is where agents are asked who can give a new server its files: every agent that can answers with a HomeOffer.
const HomeSubject = ServiceAgent + "." + EndpointHome

// TransferSubject is where one agent is asked for them; the request is a HomeRequest, or empty, the answer a HomeTransfer.
func TransferSubject(node string) string {
	return ServiceAgent + "." + EndpointTransfer + "." + Token(node)
}

// HomeOffer is what an agent can give to a new server, as JSON.
type HomeOffer struct {
	Node     string `json:"node"`
	Seq      uint64 `json:"seq"`      // last message of PATCH that is in it
	Baseline string `json:"baseline"` // digest of the files
	Version  string `json:"version"`
	Files    int    `json:"files"`
	Bytes    int64  `json:"bytes"`
	Settings string `json:"settings"` // what becomes of omflow/settings.py; empty: not known, by an agent of a former release
}

// What an offer says of omflow/settings.py, which has the password of the database.
const (
	SettingsNone  = "none"  // there is no such file
	SettingsKept  = "kept"  // it is given to nobody
	SettingsGiven = "given" // to who shows that his host signs
)

// HomeRequest says what is wanted besides the files that are the same everywhere, as JSON.
type HomeRequest struct {
	Settings *SettingsRequest `json:"settings,omitempty"`
}

// SettingsRequest asks for omflow/settings.py.
type SettingsRequest struct {
	Public    []byte `json:"public"` // X25519: the answer is sealed to it
	Key       string `json:"key"`    // that signs patches, and has signed this
	Signature []byte `json:"ed25519"`
}

// SealedSettings is omflow/settings.py, sealed (NaCl box) to the key of who asks, and signed.
type SealedSettings struct {
	Box       []byte `json:"box"`
	Key       string `json:"key"`
	Signature []byte `json:"ed25519"`
}

// HomeTransfer is how far it is, as JSON. The new server asks again until Artifact or Error is set.
type HomeTransfer struct {
	Seq      uint64 `json:"seq"`      // as in the offer
	Artifact []byte `json:"artifact"` // announcement of the artifact, as JSON; empty while it is being made
	Error    string `json:"error"`

	Settings      *SealedSettings `json:"settings,omitempty"` // if they were asked for, with the artifact
	SettingsError string          `json:"settings_error,omitempty"`
}

// RevertSubject is where agents are asked who can take a patch back, whose id is the request; each that can answers with an RevertOffer.
const RevertSubject = ServiceAgent + "." + EndpointRevert

// RevertBySubject is where one agent receives the order to publish a revert. The request is the id of the patch, the answer the
// announcement of the revert.
func RevertBySubject(node string) string {
	return ServiceAgent + "." + EndpointRevertBy + "." + Token(node)
}

// HeaderRevertOrder is the header of such a request that holds a RevertOrder. An agent of a former release takes the whole body for the id.
const HeaderRevertOrder = "Undo-Order"

// RevertOrder says who wants a patch reverted, and why, as JSON.
type RevertOrder struct {
	By   string `json:"by"`
	Note string `json:"note"`
}

// RevertOffer is what an agent could bring back, as JSON.
type RevertOffer struct {
	Node      string `json:"node"`
	Files     int    `json:"files"`
	Deletions int    `json:"deletions"`
}
