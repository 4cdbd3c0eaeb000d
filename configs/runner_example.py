"""A runner: a program that executes steps for an OMFLOW Booster worker, in plain Python and without a database.

Use it as WORKER_RUNNER_COMMAND="python3 configs/runner_example.py", or as the beginning of your own. It sleeps
input_param.sleep seconds, fails if input_param.fail is set, and is done. The protocol is in worker/DESIGN.md.
"""
import json
import os
import queue
import sys
import threading
import time

# The protocol keeps the real standard input and output to itself. From here on a print() of user code goes to
# standard error, where the worker logs it, and user code that reads its input finds none.
stdin, stdout = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(2, 1)
sys.stdout = sys.stderr

runs = queue.Queue()  # steps to execute; None at the end of input
lease = {"id": "", "deadline": 0}  # the step, and the Unix time in milliseconds until which it is ours


class LeaseLost(Exception):
    """The step may belong to another worker by now: change nothing more, roll back."""


def say(op, **fields):
    stdout.write(json.dumps(dict(fields, op=op)).encode() + b"\n")
    stdout.flush()


def listen():
    """Reads all the time, also while a step runs: that is how a renewal or the end of the worker gets through."""
    for line in stdin:
        message = json.loads(line.decode())
        if message["op"] == "run":
            lease.update(id=message["id"], deadline=message["deadline"])
            runs.put(message)
        elif message["op"] == "renew" and message["id"] == lease["id"]:
            lease.update(deadline=message["deadline"])
        # Anything else is of a later protocol and is ignored.
    lease.update(deadline=0)  # end of input, the worker is gone: whatever runs gives up at its next check
    runs.put(None)


def check():
    """To be called before every change (with a database: before every statement) and before the commit."""
    if time.time() * 1000 >= lease["deadline"]:
        raise LeaseLost("the lease of the step has passed")


def execute(item):
    """The work itself. With a database it first locks the step's own row, and is done at once if that is gone."""
    param = item["input_param"]
    if isinstance(param, str):  # OMFLOW stores it as JSON text
        param = json.loads(param)
    print("running %s.%s(%s)" % (item["module_name"], item["method_name"], json.dumps(param)))
    end = time.time() + param.get("sleep", 0)
    while time.time() < end:
        check()
        time.sleep(min(0.05, max(0, end - time.time())))
    check()
    if param.get("fail"):
        raise ValueError(param["fail"])


def main():
    threading.Thread(target=listen, daemon=True).start()
    say("ready", protocol=1, name="example")
    for message in iter(runs.get, None):
        try:
            execute(message["item"])
        except Exception as error:  # whatever user code raises; only this step fails
            say("failed", id=message["id"], error="%s: %s" % (type(error).__name__, error))
        else:
            say("done", id=message["id"])


if __name__ == "__main__":
    main()
