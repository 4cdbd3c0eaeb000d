"""Settings: a variable of the environment, else the one of that name in Django's settings, else the default."""
import os

from django.conf import settings

DEFAULTS = {
    "BOOSTER_IP": "",  # the active Booster; only shown here: it is the worker who talks to it
    "BOOSTER_PORT": 5169,
    "SECOND_BOOSTER_IP": "",
    "SECOND_BOOSTER_PORT": 5169,
    "WORKER_SOCKET": "/run/omflow-booster/worker.sock",
    "WORKER_ORDER": "",  # "ticket": two steps of one ticket never run at the same time
    "WORKER_FLOW_LIMITS": "",  # "<flow uuid>:2,*:8": so many steps of a flow run at the same time, on all servers together; *: each other flow
    "BOOSTER_PUT_TIMEOUT": 2.0,  # seconds that one hand-over to the worker may take; no request of a user waits for it
    "BOOSTER_RELOAD": 2.0,  # seconds between two looks at whether flows or parameters were changed on another server
    "BOOSTER_SCHEDULE": 1.0,  # seconds between two looks at the schedules
    "RUNNER_MAX_STEPS": 10000,  # a runner is replaced after so many steps; 0: never
    "RUNNER_MAX_MEMORY": 512,  # or when it has grown by so many MiB since all its modules were loaded; 0: never
    "RUNNER_LOCK_TIMEOUT": 30.0,  # seconds that a step waits for a lock before it is tried again later; for other branches of its ticket, longer
    "RUNNER_MISSING_TIMEOUT": 600.0,  # seconds that a step goes from runner to runner because its module is nowhere, before that counts as attempts
    "RUNNER_SYNCHRONOUS_COMMIT": "on",  # "off": a step does not wait until the database has its end on the disk
    "RUNNER_IDLE_TIMEOUT": 60.0,  # seconds after which the database gives up a runner that froze in a transaction
}


def flow_limits():
    """WORKER_FLOW_LIMITS as {flow uuid or "*": steps at the same time}. Raises ValueError that names it."""
    limits, text = {}, get("WORKER_FLOW_LIMITS")
    for part in text.split(",") if text else ():
        flow, _, limit = part.rpartition(":")
        if not flow.strip() or not limit.strip().isdigit() or int(limit) < 1:
            raise ValueError("WORKER_FLOW_LIMITS: %r is not <flow uuid>:<steps at the same time>, for example 8f14e45f:2,*:8" % part)
        limits[flow.strip()] = int(limit)
    return limits


def choice(name, *choices):
    """The value of a setting that is one of some words. Raises ValueError that names it."""
    value = get(name).lower()
    if value not in choices:
        raise ValueError("%s: %r is not one of %s" % (name, value, ", ".join(choices)))
    return value


def notice_dead_database(databases):
    """Has connections to PostgreSQL notice within a minute that the host of the database is gone; the system itself takes two hours."""
    for database in databases.values():
        if "postgresql" in database["ENGINE"]:
            options = database.setdefault("OPTIONS", {})
            for name, value in (("keepalives_idle", 30), ("keepalives_interval", 10), ("keepalives_count", 3)):
                options.setdefault(name, value)


def get(name):
    """The value of a setting of DEFAULTS, of the type of its default. Raises ValueError that names it."""
    default = DEFAULTS[name]
    value = os.environ.get(name, getattr(settings, name, default))
    if value == "" or value is None:
        return default
    try:
        return type(default)(value)
    except (TypeError, ValueError):
        raise ValueError("%s: %r is not a %s; correct it or remove it" % (name, value, type(default).__name__)) from None
