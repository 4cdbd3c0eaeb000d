# Every recipe is one line that also works without just.

# Show the product at work on this machine; needs nothing but Go.
demo:
    go run ./demo

# Everything that must hold; with packages, only their tests: just test ./worker/...
test *packages:
    ./test.sh {{packages}}

# Measure, a quarter of an hour on two cores: parts of the product; the product beside job queues; the OMFLOW Server alone beside it.
bench:
    ./test.sh -- go test -run='^$' -bench=. -benchmem ./... && cd test/bench && go run . --steps 1000 --seconds 5 --rounds 1 && go run . server --tickets 100 --rounds 1

# The binary that is shipped: one static file.
build:
    CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o omflow-booster .

# Findings in the code, by the golangci-lint version that test.sh pins; CONTRIBUTING.md shows how git runs it before each commit.
lint:
    ./test.sh --lint

# What continuous integration runs.
ci:
    .ci/run
