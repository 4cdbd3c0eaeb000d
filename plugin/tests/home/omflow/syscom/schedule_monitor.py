"""The thread that watches the in-memory schedules, and the call that adds one."""
import time

from omflow.syscom.schedule_base import OmSchedule


def schedule_Execute(row):
    OmSchedule.jobs.append(row)


def scheduleThread():
    while True:
        time.sleep(0.0001)
