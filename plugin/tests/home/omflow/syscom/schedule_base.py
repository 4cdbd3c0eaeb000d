"""The in-memory list of schedules."""


class Schedule:
    def __init__(self):
        self.jobs = []


OmSchedule = Schedule()
