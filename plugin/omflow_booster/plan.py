"""When a schedule fires.

Seconds, minutes and hours are elapsed time: they go on through every change of the clock. Days, weeks and months keep the clock on the wall,
which is that of TIME_ZONE, whatever USE_TZ says. When the clock is put back, a time of the wall comes twice: the first one counts, once.
When it is put forward, a time of the wall is missing: it counts as later by as much (02:30 is 03:30).

All arithmetic is in UTC. A naive time is one of the wall.
"""
import calendar
import datetime
import itertools
import json

from django.conf import settings
from django.utils import timezone

FORMAT = "%Y-%m-%d %H:%M:%S"  # of the times in last_exec_time and next_exec_time, as the server writes them
WEEKDAYS = list(calendar.day_name)  # of the C locale: Monday, …
ELAPSED = {"Secondly": "seconds", "Minutely": "minutes", "Hourly": "hours"}
DAY = datetime.timedelta(days=1)


class Unreadable(ValueError):
    """A schedule whose columns make no sense."""


class Plan:
    """When one schedule fires."""

    def __init__(self, pk, exec_time, every, cycle, days):
        if exec_time is None:
            raise Unreadable("it has no exec_time")
        exec_time = exec_time.replace(microsecond=0)  # as last_exec_time: else it would fire twice in a second
        self.start, self.wall = (instant(exec_time), exec_time) if timezone.is_naive(exec_time) else (exec_time, on_wall(exec_time))
        self.cycle = cycle
        try:
            self.every = max(1, int(every or 1))
            days = json.loads((days or "[]").replace("'", '"')) if isinstance(days, (str, type(None))) else days
            self.days = {"%s_%s" % (pk, day): WEEKDAYS.index(day) if cycle == "Weekly" else int(day) for day in days}
        except ValueError as error:
            raise Unreadable("every %r, cycle_date %r: %s" % (every, days, error)) from None
        if cycle in ("Weekly", "Monthly"):
            self.tags = list(self.days)
        elif cycle in ("Once", "Daily") or cycle in ELAPSED:
            self.tags = [str(pk)]
        else:
            raise Unreadable("unknown cycle %r" % cycle)

    def first(self, tag):
        """The first time at or after exec_time."""
        return self.after(tag, self.start - datetime.timedelta(seconds=1))

    def after(self, tag, moment):
        """The first time after moment, counted from exec_time."""
        if self.cycle in ELAPSED:
            if self.start > moment:
                return self.start
            period = datetime.timedelta(**{ELAPSED[self.cycle]: self.every})
            return self.start + period * ((moment - self.start) // period + 1)
        walls = self.months(self.days[tag], on_wall(moment)) if self.cycle == "Monthly" else self.periods(tag, on_wall(moment))
        return next(when for when in map(instant, walls) if when > moment)

    def periods(self, tag, near):
        """Days or weeks, from shortly before near."""
        start, period = self.wall, self.every * DAY
        if self.cycle == "Weekly":
            start, period = start + (self.days[tag] - start.weekday()) % 7 * DAY, 7 * period
        for n in itertools.count(max(0, (near - start) // period - 1)):
            yield start + n * period

    def months(self, day, near):
        """Months, from shortly before near."""
        start = self.wall.year * 12 + self.wall.month - 1
        for n in itertools.count(max(0, (near.year * 12 + near.month - 1 - start) // self.every - 1)):
            year, index = divmod(start + n * self.every, 12)
            last = calendar.monthrange(year, index + 1)[1]
            wall = self.wall.replace(year=year, month=index + 1, day=min(day, last))  # the 31st of a short month: its last
            if wall >= self.wall:
                yield wall


def due(plan, last, moment):
    """The tags of a schedule that are due at moment; a weekly or monthly schedule has one for each of its days.

    Counted from when it fired last (last_exec_time), never read from next_exec_time: the schedule may have been edited since.
    """
    last = times(last)
    tags = []
    for tag in plan.tags:
        if plan.cycle == "Once":
            when = plan.start
        else:
            when = plan.after(tag, fired(last, tag)) if tag in last else plan.first(tag)
        if when <= moment:
            tags.append(tag)
    return tags


def times(text):
    """The JSON object {tag: time} of a column, {} for none."""
    value = json.loads(text) if text else {}
    return {tag: time for tag, time in value.items() if time and time != "None"}


def note(last, tag, moment):
    """Writes down when a tag fired. Its offset from UTC stands beside the time, which the wall may show twice; the server's page shows the
    greatest value of the column, and an offset is smaller than any time."""
    last[tag] = shown(moment)
    last[tag + " offset"] = moment.astimezone(zone()).strftime("%z")


def fired(last, tag):
    """When it was, from what note, or the server itself, has written."""
    text = last[tag][:19]
    try:
        when = datetime.datetime.strptime(text + last[tag + " offset"], FORMAT + "%z").astimezone(timezone.utc)
        if shown(when) == text:
            return when  # else the server itself has fired it since
    except (KeyError, ValueError):
        pass
    return instant(datetime.datetime.strptime(text, FORMAT))


def shown(moment):
    return on_wall(moment).strftime(FORMAT)


def zone():
    """That of TIME_ZONE; None is that of the system, as Django has it."""
    return timezone.get_default_timezone() if settings.TIME_ZONE else None


def on_wall(moment):
    """What the clock on the wall shows then."""
    return moment.astimezone(zone()).replace(tzinfo=None)


def instant(wall):
    """When the clock on the wall shows this."""
    before, after = ((wall + day).replace(tzinfo=timezone.utc).astimezone(zone()).utcoffset() for day in (-DAY, DAY))
    candidates = [(wall - offset).replace(tzinfo=timezone.utc) for offset in (before, after)]
    return min((when for when in candidates if on_wall(when) == wall), default=candidates[0])
