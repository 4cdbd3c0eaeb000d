package broker

import (
	"encoding/json"

	"github.com/nats-io/nats.go/micro"
)

// respond answers with JSON. A caller that gets no answer asks again.
func respond(req micro.Request, answer any) { _ = req.Respond(encode(answer)) }

func encode(answer any) []byte {
	data, err := json.Marshal(answer)
	if err != nil {
		panic(err) // plain structs: cannot happen
	}
	return data
}
