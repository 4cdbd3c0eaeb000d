"""Puts what is ours in the place of what the server does: its in-memory queues, the threads that poll them, and more."""
from contextlib import contextmanager

from django.conf import settings
from django.db.models.signals import post_save

from . import background, files, flows, menu, queues, server, tokens
from .handover import Handover

MIDDLEWARE = "omflow_booster.web.BoosterMiddleware"


@contextmanager
def server_starting():
    """Installs us. Within it, this thread puts waiting rows into the queues again; those of omflow_queuedata are left alone."""
    monitor = server.queue_monitor()
    monitor.putQueue = queues.put_queue
    monitor.setRunning = lambda self: None  # the thread that polls the queue
    schedules = server.schedule_list()
    schedules.jobs = Forgetful()
    server.schedule_monitor().scheduleThread = background.start  # the thread that polls the schedules
    for part in (files, flows, menu, tokens):
        part.install()
    post_save.connect(queues.note_insert, sender=server.queue_model(), dispatch_uid="omflow_booster")
    if MIDDLEWARE not in settings.MIDDLEWARE:
        settings.MIDDLEWARE = list(settings.MIDDLEWARE) + [MIDDLEWARE]
    queues.current.starting = True
    try:
        yield
    finally:
        queues.current.starting = False


def server_started():
    """Takes items from now on."""
    if queues.deliver is None:
        queues.deliver_to(Handover().send)


class Forgetful(list):
    """The server's list of schedules stays empty: ours are the rows of omflow_scheduler."""

    def append(self, job):
        pass
