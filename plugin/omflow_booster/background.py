"""The one thread that we run in a web process. It sleeps nearly always."""
import logging
import threading
import time

from django.db import connections

from . import caches, conf
from .schedules import Schedules

log = logging.getLogger("omflow_booster")

LONGEST = 30.0  # seconds between two tries of what fails


def start():
    """Takes the place of the server's scheduleThread: called once in each web process, in a thread made for it."""
    conf.notice_dead_database(connections.databases)
    jobs = [
        Job("what others have changed not looked for", conf.get("BOOSTER_RELOAD"), caches.of_process().refresh),
        Job("schedules not looked at", conf.get("BOOSTER_SCHEDULE"), Schedules().fire_due),
    ]
    threading.Thread(target=run, args=(jobs,), name="omflow_booster", daemon=True).start()


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
