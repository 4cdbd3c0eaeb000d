// Package omflowtest is a stand-in OMFLOW Server for tests and the demo: it honours the contract between the real server
// and omflow-booster, and lets every effect be counted.
//
//	Server   the web process: files tickets, writes the row of the first step, hands it to the local worker
//	Runner   a child of the worker: executes steps, writes the row of the next step, hands it to the worker
//
// The contract: a queued step is a row of omflow_queuedata, committed before anybody hears of it; a step that is executed
// removes its own row and inserts that of the next step. The stand-in does this in one transaction together with the
// step's effect, so a step has its effect once, however often it is delivered, and Count can prove it: there is no unique
// key on the effects, so a second one would be there to be seen.
//
// The steps are the 4,000 queue items of 500 real tickets (queue-items.jsonl.gz). Faults are switched on by environment
// variables and depend on a seed and the step alone, so a test can tell beforehand which step will fail.
package omflowtest
