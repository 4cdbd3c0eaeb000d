package bus

import "time"

// PlaceSubject is where agents are asked by one that has lost its ledger: who has had exactly these files? The request is a Place with a
// baseline; every agent that has had them answers with the Place at which it had them last.
const PlaceSubject = ServiceAgent + "." + EndpointPlace

// PlaceBySubject is where an operator tells one agent its place in the order of patches; the request is a PlaceOrder, the
// answer a PlaceAnswer.
func PlaceBySubject(node string) string {
	return ServiceAgent + "." + EndpointPlaceBy + "." + Token(node)
}

// Place is a place in the order of all patches, and the files of a home that is there, as JSON.
type Place struct {
	Node     string    `json:"node"`
	Stream   time.Time `json:"stream"`   // creation time of the PATCH that Seq belongs to
	Seq      uint64    `json:"seq"`      // last message of PATCH that was dealt with
	Baseline string    `json:"baseline"` // digest of the files
}

// Words in a PlaceOrder instead of the id of a patch.
const (
	PlaceNone = "none" // it has none of the patches that are announced
	PlaceAll  = "all"  // it has all of them
)

// PlaceOrder says which patches a server has, as JSON.
type PlaceOrder struct {
	After string `json:"after"` // the id of the last one, PlaceNone or PlaceAll
}

// PlaceAnswer is empty when the order was taken.
type PlaceAnswer struct {
	Error string `json:"error"`
}
