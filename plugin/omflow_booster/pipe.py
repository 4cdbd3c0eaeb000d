"""The runner's end of the pipe to the worker: JSON lines, see "Runner protocol" in worker/DESIGN.md."""
import json
import os
import queue
import sys
import threading
import time

GRACE = 5.0  # seconds that a running step gets to roll back once the worker is gone


class LeaseLost(Exception):
    """The step may belong to another worker by now: change nothing more, roll back."""


class Lease:
    """Until when the running step is ours. Once it has passed, no renewal brings it back."""

    def __init__(self):
        self.lock = threading.Lock()
        self.step, self.deadline, self.lost = "", 0.0, False

    def begin(self, step, deadline):
        with self.lock:
            self.step, self.deadline, self.lost = step, deadline, False

    def renew(self, step, deadline):
        with self.lock:
            if step == self.step:
                self.deadline = deadline

    def end(self):
        """No step runs any more: nothing is checked until the next one."""
        with self.lock:
            self.step, self.lost = "", False

    def cut(self):
        """The running step is not ours any more, whatever its deadline says."""
        with self.lock:
            self.lost = True

    def check(self):
        """To be called before every change. Raises LeaseLost once the lease of the running step has passed."""
        with self.lock:
            if self.step and not self.lost and time.time() * 1000 >= self.deadline:
                self.lost = True
            if self.lost:
                raise LeaseLost("the lease of the step has passed, or its worker is gone")


class Refused(Exception):
    """The worker could not queue follow-up work."""


class Pipe:
    """Reads all the time, also while a step runs: that is how a renewal or the end of the worker gets through."""

    def __init__(self):
        # The protocol keeps the real standard input and output to itself. From here on a print of user code goes to standard error,
        # where the worker logs it with the step, and user code that reads its input finds none.
        self.input, self.output = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        self.lease = Lease()
        self.runs = queue.SimpleQueue()  # steps to execute; None at the end of input
        self.answers = queue.SimpleQueue()  # to our puts
        self.puts = 0
        self.writing = threading.Lock()

    def start(self, name):
        """Tells the worker that we are ready, and begins to listen."""
        threading.Thread(target=self.listen, name="omflow_booster pipe", daemon=True).start()
        self.say("ready", protocol=1, name=name)

    def say(self, op, **fields):
        line = json.dumps(dict(fields, op=op)).encode() + b"\n"
        with self.writing:
            self.output.write(line)
            self.output.flush()

    def listen(self):
        for line in self.input:
            if not line.endswith(b"\n"):
                break  # cut off: no message
            message = json.loads(line.decode())
            op = message.get("op")
            if op == "run":
                self.lease.begin(message["id"], message["deadline"])
                self.runs.put(message)
            elif op == "renew":
                self.lease.renew(message["id"], message["deadline"])
            elif op in ("stored", "refused"):
                self.answers.put(message)
            # Anything else is of a later protocol.
        self.lease.cut()  # the worker is gone: whatever runs gives up at its next statement
        self.runs.put(None)
        self.answers.put({"op": "refused", "id": None, "n": 0, "error": "the worker is gone"})
        time.sleep(GRACE)
        os._exit(0)  # user code that does not come back; the database rolls back what it left

    def put(self, step, items):
        """Queues follow-up work and waits until it is durable. Raises Refused."""
        self.puts += 1
        self.say("put", id=step, n=self.puts, items=items)
        while True:
            answer = self.answers.get()
            if answer["n"] in (self.puts, 0):
                break
        if answer["op"] == "refused":
            raise Refused(answer["error"])
        return answer["ids"]
