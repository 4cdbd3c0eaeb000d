"""The one thread that we run in a web process. It sleeps nearly always."""
import logging
import os
import sys
import threading
import time

from django.db import connections

from . import caches, conf
from .schedules import Schedules

log = logging.getLogger("omflow_booster")

LONGEST = 30.0  # seconds between two tries of what fails
SETTLE = 5.0  # seconds after which a web server that forks its processes has done so


class Process:
    """Where the thread is. It begins when the server starts its own thread for schedules, which it does under runserver and mod_wsgi only; under every other
    web server soon after Django's handler was made, or with the first request.

    The handler may be made in a process that then forks those that serve (gunicorn --preload, uWSGI). That one gets no thread: who is forked while it works would
    inherit its locks.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.served = self.forked = self.loaded = False

    def begin(self):
        """Starts the thread, once."""
        with self.lock:
            if not self.served:
                self.served = True
                threading.Thread(target=work, name="omflow_booster", daemon=True).start()

    def begin_soon(self):
        """Called when the handler is made."""
        self.loaded = True
        if not self.served and not is_command():
            timer = threading.Timer(SETTLE, lambda: None if self.forked else self.begin())
            timer.name, timer.daemon = "omflow_booster start", True
            timer.start()

    def fork(self):
        self.forked = True


process = Process()


def start():
    """Takes the place of the server's scheduleThread."""
    process.begin()


def after_fork():
    """In the child: nothing of ours runs here yet."""
    global process
    before, process = process, Process()
    if before.loaded:
        process.begin_soon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: process.fork(), after_in_child=after_fork)


def is_command():
    """Whether this process is a command of manage.py, which serves nobody."""
    program, *arguments = getattr(sys, "argv", None) or [""]
    managing = os.path.basename(program) in ("manage.py", "django-admin", "django-admin.py") or program.endswith(os.path.join("django", "__main__.py"))
    return managing and arguments[:1] != ["runserver"]


def work():
    conf.notice_dead_database(connections.databases)
    run([
        Job("what others have changed not looked for", conf.get("BOOSTER_RELOAD"), caches.of_process().refresh),
        Job("schedules not looked at", conf.get("BOOSTER_SCHEDULE"), Schedules().fire_due),
    ])


class Job:
    """Something to do every so many seconds; less often while it fails."""

    def __init__(self, problem, every, work):
        self.problem, self.every, self.work = problem, every, work
        self.due, self.failures = 0.0, 0

    def run(self):
        try:
            self.work()
        except Exception as error:  # the database is away, for example: never the end of the thread
            self.failures += 1
            if self.failures == 1:
                log.warning("%s: %s: %s; trying again", self.problem, type(error).__name__, error)
            connections.close_all()
        else:
            if self.failures:
                log.warning("%s until now: works again", self.problem)
            self.failures = 0
        self.due = time.monotonic() + min(self.every * 2 ** min(self.failures, 10), max(LONGEST, self.every))


def run(jobs):
    """Works the jobs for ever. The connection stays open between two rounds unless Django's CONN_MAX_AGE says otherwise."""
    while True:
        job = min(jobs, key=lambda job: job.due)
        time.sleep(max(0.0, job.due - time.monotonic()))
        job.run()
