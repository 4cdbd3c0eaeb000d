"""When schedules fire: each rule, where the clock is put back, put forward, and left alone, with USE_TZ and without."""
import datetime
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, Web  # noqa: E402

# What the process of the server executes: a clock that jumps from look to look, in the place of the database's.
CLOCK = r"""
import contextlib
from django.test import override_settings
from django.utils import timezone
from omflow.models import QueueData, Scheduler
from omflow_booster import plan, schedules

UTC = datetime.timezone.utc
JOB = json.dumps({"module_name": "omflow.syscom.schedule_monitor", "method_name": "put_flow_job"})
PARAM = json.dumps({"module_name": "m", "method_name": "f"})

def t(text):
    return datetime.datetime.strptime(text, "%Y-%m-%d %H:%M")

def create(use_tz, exec_time, every, cycle, days="[]"):
    # The wall clock's time, as a user enters it.
    when = t(exec_time)
    return Scheduler.objects.create(exec_time=plan.instant(when) if use_tz else when, every=str(every), cycle=cycle, cycle_date=days,
                                    exec_fun=JOB, input_param=PARAM)

def looks(begin, end, minutes, row):
    # When it fires while every so many minutes, in UTC, somebody looks: on the wall, with the offset from UTC.
    found, moment, looker = [], t(begin).replace(tzinfo=UTC), schedules.Schedules()
    while moment <= t(end).replace(tzinfo=UTC):
        schedules.now = lambda *args: moment
        before = QueueData.objects.count()
        looker.fire_due()
        found += [moment.astimezone(plan.zone()).strftime("%m-%d %H:%M %z")] * (QueueData.objects.count() - before)
        moment += datetime.timedelta(minutes=minutes)
    row.delete()
    return found

def both(zone, exec_time, every, cycle, begin, end, minutes, days="[]"):
    found = []
    for use_tz in (False, True):
        with override_settings(TIME_ZONE=zone, USE_TZ=use_tz):
            found.append(looks(begin, end, minutes, create(use_tz, exec_time, every, cycle, days)))
    return found
"""


class ClockTest(Case):
    def setUp(self):
        super().setUp()
        self.sql("INSERT INTO omflow_scheduler (exec_time, every, cycle, cycle_date, exec_fun, input_param, is_active) VALUES "
                 "(now(), '1', 'Once', '[]', '{\"module_name\": \"m\", \"method_name\": \"f\"}', '{}', true)")
        self.web = Web(self, BOOSTER_SCHEDULE="3600")  # its own thread looks once, and then not while we do
        self.eventually(lambda: self.sql("SELECT id FROM omflow_scheduler WHERE NOT is_active"), "the first look")
        self.sql("DELETE FROM omflow_queuedata")

    def fires(self, zone, exec_time, every, cycle, begin, end, minutes, expected, days="[]"):
        """A schedule fires at these times and no others, with USE_TZ and without; begin and end are in UTC."""
        found = self.web.do(CLOCK + "result = both(%r, %r, %r, %r, %r, %r, %r, %r)" % (zone, exec_time, every, cycle, begin, end, minutes, days))
        self.assertEqual(found, [expected, expected], self.web.errors())

    def test_where_the_clock_is_left_alone(self):
        for zone, offset, hours in (("Asia/Taipei", "+0800", 8), ("Asia/Tokyo", "+0900", 9)):
            with self.subTest(zone):
                begin, end = "2024-10-26 00:00", "2024-10-27 23:50"
                self.fires(zone, "2024-10-01 10:30", 1, "Daily", begin, end, 10,
                           # It was due while nobody looked, and then each day, once.
                           ["10-26 %02d:00 %s" % (hours, offset), "10-26 10:30 " + offset, "10-27 10:30 " + offset])
                self.fires(zone, "2024-10-26 07:45", 6, "Hourly", begin, "2024-10-26 20:00", 15,
                           ["10-26 %02d:00 %s" % (hours, offset), "10-26 13:45 " + offset, "10-26 19:45 " + offset, "10-27 01:45 " + offset])

    def test_hour_that_comes_twice(self):
        for zone, day, hour, summer, winter, begin in (("Europe/Berlin", "10-27", 2, "+0200", "+0100", "2024-10-27 00:00"),
                                                       ("America/New_York", "11-03", 1, "-0400", "-0500", "2024-11-03 05:00")):
            with self.subTest(zone):
                start, end = "2024-%s 00:00" % day, begin[:11] + "%02d:10" % (int(begin[11:13]) + 2)
                tens = ["%s %02d:%02d " % (day, hour, minute) for minute in range(0, 60, 10)]
                self.fires(zone, start, 10, "Minutely", begin, end, 5,
                           [ten + summer for ten in tens] + [ten + winter for ten in tens]
                           + ["%s %02d:%02d %s" % (day, hour + 1, minute, winter) for minute in (0, 10)])
                half = "%s %02d:30 " % (day, hour)
                self.fires(zone, start[:11] + "00:30", 1, "Hourly", begin, end, 5,
                           [half[:6] + "%02d:00 %s" % (hour, summer), half + summer, half + winter])
                wall = "%02d:30" % hour
                for cycle, days in (("Daily", "[]"), ("Weekly", '["Sunday"]'), ("Monthly", '["%s"]' % day[3:])):
                    self.fires(zone, start[:11] + wall, 1, cycle, begin, end, 5, [half + summer], days)
                self.fires(zone, start[:11] + wall, 1, "Once", begin, end, 5, [half + summer])

    def test_hour_that_is_missing(self):
        for zone, day, winter, summer, begin in (("Europe/Berlin", "03-31", "+0100", "+0200", "2024-03-31 00:00"),
                                                 ("America/New_York", "03-10", "-0500", "-0400", "2024-03-10 06:00")):
            with self.subTest(zone):
                start, end = "2024-%s 01:30" % day, begin[:11] + "%02d:00" % (int(begin[11:13]) + 2)
                self.fires(zone, start, 20, "Minutely", begin, end, 5,
                           ["%s %s %s" % (day, wall, offset) for wall, offset in (
                               ("01:30", winter), ("01:50", winter), ("03:10", summer), ("03:30", summer), ("03:50", summer))])
                self.fires(zone, start[:11] + "02:30", 1, "Once", begin, end, 5, ["%s 03:30 %s" % (day, summer)])
                # Entered long before, and overdue at the first look. The day after it is the wall clock's time again.
                shifted, after = "%s 03:30 %s" % (day, summer), "%s 02:30 %s" % ("04-01" if day == "03-31" else "03-11", summer)
                begin, end = begin[:11] + "00:00", (datetime.datetime.strptime(begin, "%Y-%m-%d %H:%M") + datetime.timedelta(1)).strftime("%Y-%m-%d 08:00")
                overdue = "03-31 01:00 +0100" if day == "03-31" else "03-09 19:00 -0500"
                for cycle, days, further in (("Daily", "[]", [after]), ("Weekly", '["Sunday"]', []), ("Monthly", '["%s"]' % day[3:], [])):
                    self.fires(zone, "2024-01-01 02:30", 1, cycle, begin, end, 30, [overdue, shifted] + further, days)

    def test_times_are_written_as_the_server_reads_them(self):
        """The strict format of the server; its page shows the greatest value of the one column and the least of the other."""
        last, following = self.web.do(CLOCK + r"""
with override_settings(TIME_ZONE="America/New_York", USE_TZ=True):
    row = create(True, "2024-11-03 00:30", 1, "Hourly")
    schedules.now = lambda *args: t("2024-11-03 05:30").replace(tzinfo=UTC)
    schedules.Schedules().fire_due()
    row.refresh_from_db()
    result = [json.loads(row.last_exec_time), json.loads(row.next_exec_time)]""")
        self.assertEqual((max(last.values()), list(following.values())), ("2024-11-03 01:30:00", ["2024-11-03 01:30:00"]))
        # One that the server itself has fired since: our offset beside it is of another day.
        self.assertEqual(self.web.do(CLOCK + r"""
with override_settings(TIME_ZONE="Europe/Berlin"):
    result = [str(plan.fired({"7": text, "7 offset": "+0200"}, "7")) for text in ("2024-10-27 02:30:00", "2024-12-01 02:30:00")]
    result.append(str(plan.fired({"7": "2024-10-27 02:30:00"}, "7")))"""),
                         ["2024-10-27 00:30:00+00:00", "2024-12-01 01:30:00+00:00", "2024-10-27 00:30:00+00:00"])

    def test_clock_of_the_database(self):
        """The clock of a host that is an hour ahead fires nothing early."""
        self.assertEqual(self.web.do(CLOCK + r"""
import unittest.mock
create(False, (datetime.datetime.now() + datetime.timedelta(minutes=30)).strftime("%Y-%m-%d %H:%M"), 1, "Once")
class Ahead(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + datetime.timedelta(hours=1)
with unittest.mock.patch.object(schedules.datetime, "datetime", Ahead), unittest.mock.patch.object(timezone, "now", lambda: Ahead.now(UTC)):
    schedules.Schedules().fire_due()
result = QueueData.objects.count()"""), 0)

    def test_one_that_the_database_refuses_stops_no_other(self):
        """Neither by an error of its data, nor by one that says nothing about the statement."""
        self.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                 "IF NEW.every = '7' THEN RAISE 'no' USING ERRCODE = 'query_canceled'; END IF; "
                 "IF NEW.every = '8' THEN RAISE 'no' USING ERRCODE = 'check_violation'; END IF; RETURN NEW; END $$")
        self.sql("CREATE TRIGGER refuse BEFORE UPDATE ON omflow_scheduler FOR EACH ROW EXECUTE FUNCTION refuse()")
        self.assertEqual(self.web.do(CLOCK + r"""
for every in (7, 8, 1):
    create(False, "2024-01-01 00:00", every, "Daily")
schedules.Schedules().fire_due()
result = QueueData.objects.count()"""), 1, self.web.errors())


class PlanTest(Case):
    def test_times(self):
        result = Web(self).do("""
from omflow_booster.plan import Plan, due, instant, on_wall
t = lambda text: datetime.datetime.strptime(text, "%Y-%m-%d %H:%M")
def times(cycle, start, every, days, moment, count=3):
    plan = Plan(7, t(start), every, cycle, days)
    found = []
    for tag in plan.tags:
        when = instant(t(moment))
        for _ in range(count):
            when = plan.after(tag, when)
            found.append(tag + " " + on_wall(when).strftime("%Y-%m-%d %H:%M"))
    return found
result = [
    times("Minutely", "2024-01-01 10:00", "15", "[]", "2024-03-01 10:15"),
    times("Hourly", "2024-01-01 10:30", "5", "[]", "2024-01-01 10:00"),
    times("Daily", "2024-01-01 10:30", "2", "[]", "2024-01-02 10:30"),
    times("Weekly", "2024-01-03 08:00", "2", '["Monday", "Wednesday"]', "2024-01-01 00:00", 2),
    times("Monthly", "2024-01-15 08:00", "1", "['01', '31']", "2024-01-20 00:00"),
    times("Monthly", "2024-11-15 08:00", "3", ["15"], "2024-11-15 07:00"),
    due(Plan(7, t("2024-01-01 10:00"), "1", "Daily", "[]"), json.dumps({"7": "2024-01-05 10:00:01"}), instant(t("2024-01-06 09:59"))),
    due(Plan(7, t("2024-01-01 10:00"), "1", "Daily", "[]"), json.dumps({"7": "2024-01-05 10:00:01"}), instant(t("2024-01-06 10:00"))),
    due(Plan(7, t("2024-01-01 10:00").replace(microsecond=700000), "1", "Minutely", "[]"), json.dumps({"7": "2024-01-01 10:00:00"}),
        instant(t("2024-01-01 10:00")).replace(microsecond=900000)),
]""")
        self.assertEqual(result, [
            ["7 2024-03-01 10:30", "7 2024-03-01 10:45", "7 2024-03-01 11:00"],
            ["7 2024-01-01 10:30", "7 2024-01-01 15:30", "7 2024-01-01 20:30"],
            ["7 2024-01-03 10:30", "7 2024-01-05 10:30", "7 2024-01-07 10:30"],
            ["7_Monday 2024-01-08 08:00", "7_Monday 2024-01-22 08:00", "7_Wednesday 2024-01-03 08:00", "7_Wednesday 2024-01-17 08:00"],
            ["7_01 2024-02-01 08:00", "7_01 2024-03-01 08:00", "7_01 2024-04-01 08:00",
             "7_31 2024-01-31 08:00", "7_31 2024-02-29 08:00", "7_31 2024-03-31 08:00"],
            ["7_15 2024-11-15 08:00", "7_15 2025-02-15 08:00", "7_15 2025-05-15 08:00"],
            [], ["7"], [],
        ])


if __name__ == "__main__":
    unittest.main()
