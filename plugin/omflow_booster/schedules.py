"""Schedules: a row of omflow_scheduler becomes a step when it is due, once in the whole system.

Every web process looks; who locks the row first makes the step, which is a row of omflow_queuedata like every other, and moves
the schedule on, in one transaction. A schedule that came due while everything was down fires once when something is up again.
"""
import calendar
import datetime
import json
import logging

from django.conf import settings
from django.db import router, transaction
from django.utils import timezone

from . import install, server

log = logging.getLogger("omflow_booster")

FORMAT = "%Y-%m-%d %H:%M:%S"  # of the times in last_exec_time and next_exec_time, as the server writes them
WEEKDAYS = list(calendar.day_name)  # of the C locale: Monday, …
UNITS = {"Secondly": "seconds", "Minutely": "minutes", "Hourly": "hours", "Daily": "days"}
PUT_JOB = ("omflow.syscom.schedule_monitor", "put_flow_job")  # what exec_fun nearly always is: put input_param into the queue


def now():
    """The time as the server writes it: local and naive, unless USE_TZ is set."""
    return timezone.now() if settings.USE_TZ else datetime.datetime.now()


class Schedules:
    """All schedules of the system, as one of its web processes looks at them."""

    def __init__(self):
        self.wrong = {}  # what is wrong with which schedule, so that it is said once

    def fire_due(self):
        """Fires every schedule that is due, unless somebody else does. One that makes no sense stops no other."""
        model, moment, wrong = server.scheduler_model(), now(), {}
        for pk, exec_time, every, cycle, days, last in model.objects.filter(is_active=True).values_list(
                "pk", "exec_time", "every", "cycle", "cycle_date", "last_exec_time"):
            try:
                if due(Plan(pk, exec_time, every, cycle, days), last, moment):
                    fire(model, pk, moment)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                wrong[pk] = "%s: %s" % (type(error).__name__, error)
                if self.wrong.get(pk) != wrong[pk]:
                    log.error("schedule %s: %s; it does not fire until it is corrected", pk, wrong[pk])
        self.wrong = wrong


def fire(model, pk, moment):
    """Fires one schedule unless somebody else does."""
    with transaction.atomic(using=router.db_for_write(model)):
        row = model.objects.select_for_update(skip_locked=True).filter(pk=pk, is_active=True).first()
        if row is None:
            return
        plan = Plan(row.pk, row.exec_time, row.every, row.cycle, row.cycle_date)
        tags = due(plan, row.last_exec_time, moment)
        if not tags:
            return  # somebody was faster
        last, following = times(row.last_exec_time), times(row.next_exec_time)
        for tag in tags:
            last[tag] = moment.strftime(FORMAT)
            following[tag] = plan.after(tag, moment).strftime(FORMAT) if plan.cycle != "Once" else last[tag]
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
        install.put_queue(name, param.pop("module_name"), param.pop("method_name"), param)
    else:
        install.put_queue(name, __name__, "call", {"schedule": row.pk})


class SchedulerQueue:
    name = "Scheduler"


def call(param):
    """The step of a schedule whose exec_fun is not the usual one: exec_fun(schedule), as the server calls it."""
    from importlib import import_module
    row = server.scheduler_model().objects.get(pk=param["schedule"])
    function = json.loads(row.exec_fun) if isinstance(row.exec_fun, str) else row.exec_fun
    getattr(import_module(function["module_name"]), function["method_name"])(row)


def due(plan, last, moment):
    """The tags of a schedule that are due at moment; a weekly or monthly schedule has one for each of its days.

    Counted from when it fired last, never read from next_exec_time: the schedule may have been edited since.
    """
    last = times(last)
    tags = []
    for tag in plan.tags:
        if plan.cycle == "Once":
            when = plan.exec_time
        else:
            when = plan.after(tag, parse(last[tag])) if tag in last else plan.first(tag)
        if when <= moment:
            tags.append(tag)
    return tags


def times(text):
    """The JSON object {tag: time} of a column, {} for none."""
    value = json.loads(text) if text else {}
    return {tag: time for tag, time in value.items() if time and time != "None"}


def parse(text):
    when = datetime.datetime.strptime(text[:19], FORMAT)
    return timezone.make_aware(when) if settings.USE_TZ else when


class Unreadable(ValueError):
    """A schedule whose columns make no sense."""


class Plan:
    """When a schedule fires. Times keep the clock time of exec_time."""

    def __init__(self, pk, exec_time, every, cycle, days):
        if exec_time is None:
            raise Unreadable("it has no exec_time")
        self.exec_time, self.cycle = exec_time.replace(microsecond=0), cycle  # as last_exec_time: else it would fire twice in a second
        try:
            self.every = max(1, int(every or 1))
            days = json.loads((days or "[]").replace("'", '"')) if isinstance(days, (str, type(None))) else days
            self.days = {"%s_%s" % (pk, day): WEEKDAYS.index(day) if cycle == "Weekly" else int(day) for day in days}
        except ValueError as error:
            raise Unreadable("every %r, cycle_date %r: %s" % (every, days, error)) from None
        if cycle in ("Weekly", "Monthly"):
            self.tags = list(self.days)
        elif cycle == "Once" or cycle in UNITS:
            self.tags = [str(pk)]
        else:
            raise Unreadable("unknown cycle %r" % cycle)

    def first(self, tag):
        """The first time at or after exec_time."""
        return self.after(tag, self.exec_time - datetime.timedelta(seconds=1))

    def after(self, tag, moment):
        """The first time after moment, counted from exec_time."""
        if self.cycle in UNITS:
            return self.step(self.exec_time, datetime.timedelta(**{UNITS[self.cycle]: self.every}), moment)
        day = self.days[tag]
        if self.cycle == "Weekly":
            start = self.exec_time + datetime.timedelta((day - self.exec_time.weekday()) % 7)
            return self.step(start, datetime.timedelta(weeks=self.every), moment)
        month = self.exec_time.year * 12 + self.exec_time.month - 1
        while True:
            year, index = divmod(month, 12)
            last = calendar.monthrange(year, index + 1)[1]
            when = self.exec_time.replace(year=year, month=index + 1, day=min(day, last))  # the 31st of a short month: its last
            if when > moment and when >= self.exec_time:
                return when
            month += self.every

    @staticmethod
    def step(start, period, moment):
        if start > moment:
            return start
        return start + period * ((moment - start) // period + 1)
