"""Hands queue items to the local worker, from a thread of its own: no request of a user waits for it."""
import atexit
import collections
import http.client
import json
import logging
import os
import socket
import threading
import time

from . import conf

log = logging.getLogger("omflow_booster")

BATCH = 200  # items in one request
WAITING = 10000  # items that wait here at most; beyond that the reconciler finds the rows
PAUSE = 1.0  # seconds without a try after one that failed


class WorkerConnection(http.client.HTTPConnection):
    """HTTP over the worker's Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("worker", timeout=timeout)
        self.path = path

    def connect(self):
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("this Python has no Unix sockets")  # Windows: the reconciler finds the rows within seconds
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(method, path, body=None):
    """One request to the worker: (status, decoded JSON). Raises OSError or http.client.HTTPException when it does not answer."""
    connection = WorkerConnection(conf.get("WORKER_SOCKET"), conf.get("BOOSTER_PUT_TIMEOUT"))
    try:
        connection.request(method, path, body=body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read().decode() or "null")
    finally:
        connection.close()


class Handover:
    """Collects items and sends them in the order in which they came. One for each process.

    What cannot be sent is dropped: each item has a row, and the worker looks for rows without a message every few seconds.
    """

    def __init__(self):
        self.items = collections.deque(maxlen=WAITING)
        self.wake = threading.Event()
        self.idle = threading.Event()
        self.lock = threading.Lock()
        self.process = None  # whose thread it is: a web server may fork after we were made
        atexit.register(self.flush)

    def send(self, item):
        """Takes an item and returns at once."""
        with self.lock:
            self.items.append(item)
            self.idle.clear()
            if self.process != os.getpid():
                self.process = os.getpid()
                threading.Thread(target=self.run, name="omflow_booster handover", daemon=True).start()
        self.wake.set()

    def flush(self):
        """Waits until everything is sent or dropped, as long as one request may take."""
        if self.process == os.getpid():
            self.idle.wait(conf.get("BOOSTER_PUT_TIMEOUT"))

    def run(self):
        failing = False
        while True:
            self.wake.wait()
            self.wake.clear()
            while True:
                with self.lock:
                    batch = [self.items.popleft() for _ in range(min(BATCH, len(self.items)))]
                    if not batch:
                        self.idle.set()
                        break
                again, problem = submit(batch)
                if bool(problem) != failing:
                    failing = bool(problem)
                    if failing:
                        log.warning("worker does not take steps (%s); they are safe in omflow_queuedata and are queued when it does", problem)
                    else:
                        log.warning("worker takes steps again")
                with self.lock:
                    if problem:
                        self.items.clear()
                    self.items.extend(again)
                if problem or again:
                    time.sleep(PAUSE)  # items that come meanwhile are sent together, or dropped together


def submit(batch):
    """Sends a batch. Returns which of its items are to be sent again, and why the worker takes none ("" if it does)."""
    try:
        status, answer = ask("POST", "/v1/items", json.dumps(batch).encode())
    except (OSError, ValueError, http.client.HTTPException) as error:
        return [], "%s: %s" % (type(error).__name__, error)
    answers = answer.get("items") if isinstance(answer, dict) else None
    if answers and len(answers) == len(batch):
        for item, one in zip(batch, answers):
            if one.get("error"):
                log.error("step of row %s: %s", item["row"], one["error"])
        return [item for item, one in zip(batch, answers) if not one.get("queued") and not one.get("error")], ""
    if status in (200, 202):
        return [], ""
    if status not in (400, 413):
        return [], "HTTP %d %s" % (status, answer)
    if len(batch) == 1:
        log.error("step of row %s: %s", batch[0]["row"], answer)
        return [], ""
    half = len(batch) // 2  # an older worker refuses all for one that it does not understand
    first, problem = submit(batch[:half])
    second, problem = ([], problem) if problem else submit(batch[half:])
    return first + second, problem
