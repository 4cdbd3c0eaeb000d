"""Takes the place of the server's in-memory queues.

In a web process each item that the server puts into a queue goes to the local worker; in a runner it becomes follow-up work of the
step. Either way the row in omflow_queuedata is there first: whatever is lost afterwards, the worker's reconciler finds the row.
"""
import json
import threading

from django.db import connections, router, transaction

from . import server

LARGE = 32 << 10  # characters of a parameter beyond which the worker reads it from the row: 200 items fit into a request, and into a line of a runner
FROM_ROWS = "FormFlow"  # the queue whose items have rows in omflow_queuedata

current = threading.local()  # .inserted: the row that this thread inserted last; .starting: the server re-queues all rows
deliver = None  # function(item): where items go. Handover.send, or the runner's


def deliver_to(function):
    """Sends items to function(item) from now on, instead of to the local worker."""
    global deliver
    deliver = function


def note_insert(instance, created, raw=False, **_):
    """Remembers the queue row that this thread inserts; the server puts it into the queue right after."""
    if created and not raw:
        current.inserted = instance


def put_again(name, module_name, method, text):
    """What the server, a collector, puts into a queue at its start from a table of its own. It may be waiting from the last time, or be put by another process
    of this server at this moment. The worker's reconciler queues the row."""
    from .transaction import key
    model = server.queue_model()
    using = router.db_for_write(model)
    item = {"name": name, "module_name": module_name, "method_name": method, "input_param": text}
    with transaction.atomic(using=using):
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [key("start")])
        if not model.objects.filter(**item).exists():
            model.objects.create(queue_id="", **item)
    current.inserted = None


def put_queue(monitor, module_name, method, param):
    """Replaces QueueMonitor.putQueue(module_name, method, param). Returns at once."""
    if getattr(current, "starting", False):
        if monitor.name != FROM_ROWS:
            put_again(monitor.name, module_name, method, json.dumps(param))
        return
    row, current.inserted = getattr(current, "inserted", None), None
    text = json.dumps(param)
    model = server.queue_model()
    if row is None or (row.module_name, row.method_name) != (module_name, method):
        # Schedules and load balancing have no row. With one of ours they are as safe as the rest.
        row = model.objects.create(queue_id="", name=monitor.name, module_name=module_name, method_name=method, input_param=text)
        current.inserted = None
    elif row.input_param != text:
        # The engine changes the parameter between the insert and the put; what runs is what was put.
        model.objects.filter(pk=row.pk).update(input_param=text)
    item = {"row": row.pk, "queue_id": row.queue_id or "", "name": row.name, "module_name": module_name, "method_name": method}
    if len(text) <= LARGE:
        item["input_param"] = text
    if deliver is None:
        return  # so early that nobody takes items yet: the reconciler finds the row
    transaction.on_commit(lambda: deliver(item), using=router.db_for_write(model))
