"""Schedules: a row of omflow_scheduler becomes a step when it is due, once in the whole system.

Every web process looks; who locks the row first makes the step, which is a row of omflow_queuedata like every other, and moves
the schedule on, in one transaction. A schedule that came due while everything was down fires once when something is up again.
What time it is, the database says: the clocks of the hosts may differ.
"""
import datetime
import json
import logging

from django.db import InterfaceError, OperationalError, connections, router, transaction
from django.utils import timezone

from . import queues, server
from .plan import Plan, due, note, shown, times

log = logging.getLogger("omflow_booster")

PUT_JOB = ("omflow.syscom.schedule_monitor", "put_flow_job")  # what exec_fun nearly always is: put input_param into the queue


def now(using):
    """The time of the database."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
        return datetime.datetime.fromtimestamp(float(cursor.fetchone()[0]), timezone.utc)


class Schedules:
    """All schedules of the system, as one of its web processes looks at them."""

    def __init__(self):
        self.wrong = {}  # what is wrong with which schedule, so that it is said once

    def fire_due(self):
        """Fires every schedule that is due, unless somebody else does. One that fails stops no other."""
        model = server.scheduler_model()
        using = router.db_for_write(model)
        moment, wrong = now(using), {}
        for pk, exec_time, every, cycle, days, last in model.objects.using(using).filter(is_active=True).values_list(
                "pk", "exec_time", "every", "cycle", "cycle_date", "last_exec_time"):
            try:
                if due(Plan(pk, exec_time, every, cycle, days), last, moment):
                    fire(model, using, pk, moment)
            except Exception as error:  # whatever is wrong with this one
                if isinstance(error, (OperationalError, InterfaceError)) and not connections[using].is_usable():
                    raise  # it is the database
                wrong[pk] = "%s: %s" % (type(error).__name__, str(error).strip())
                if self.wrong.get(pk) != wrong[pk]:
                    log.error("schedule %s: %s; it does not fire until it is corrected", pk, wrong[pk])
        self.wrong = wrong


def fire(model, using, pk, moment):
    """Fires one schedule unless somebody else does."""
    with transaction.atomic(using=using):
        row = model.objects.using(using).select_for_update(skip_locked=True).filter(pk=pk, is_active=True).first()
        if row is None:
            return
        plan = Plan(row.pk, row.exec_time, row.every, row.cycle, row.cycle_date)
        tags = due(plan, row.last_exec_time, moment)
        if not tags:
            return  # somebody was faster
        last, following = times(row.last_exec_time), times(row.next_exec_time)
        for tag in tags:
            note(last, tag, moment)
            following[tag] = shown(plan.after(tag, moment)) if plan.cycle != "Once" else last[tag]
        row.last_exec_time, row.next_exec_time = json.dumps(last), json.dumps(following)
        row.is_active = plan.cycle != "Once"
        row.save(update_fields=["last_exec_time", "next_exec_time", "is_active"])
        put(row)


def put(row):
    """Makes the step. With the schedule itself in hand, because exec_fun may name any function of the server."""
    call = json.loads(row.exec_fun) if isinstance(row.exec_fun, str) else row.exec_fun
    name = SchedulerQueue()
    if (call["module_name"], call["method_name"]) == PUT_JOB:
        param = json.loads(row.input_param)
        queues.put_queue(name, param.pop("module_name"), param.pop("method_name"), param)
    else:
        queues.put_queue(name, __name__, "call", {"schedule": row.pk})


class SchedulerQueue:
    name = "Scheduler"


def call(param):
    """The step of a schedule whose exec_fun is not the usual one: exec_fun(schedule), as the server calls it."""
    from importlib import import_module
    row = server.scheduler_model().objects.get(pk=param["schedule"])
    function = json.loads(row.exec_fun) if isinstance(row.exec_fun, str) else row.exec_fun
    getattr(import_module(function["module_name"]), function["method_name"])(row)
