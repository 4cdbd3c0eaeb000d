"""Executes steps for a worker: python -m omflow_booster.runner, in the directory of the OMFLOW Server.

The worker starts it, once for each slot. It sets Django up as the server itself does, and runs one step at a time, each in a transaction
that holds the lock of the step's own row: so its effect is applied once, whatever the bus delivers twice.
"""
import json
import os
import random
import sys
import time
import traceback

from . import __version__
from .code import Code, MissingModule, Stale, active_module, module_of
from .pipe import LeaseLost, Pipe, Refused

BATCH = 200  # items in one put: a line has 16 MiB at most
OUTBOX = "omflow_booster_outbox"  # table of the worker for steps that have no row of the server


def main():
    pipe = Pipe()  # before anything can print
    sys.argv = ["omflow_booster.runner"]
    sys.path.insert(0, os.getcwd())
    os.environ.pop("RUN_MAIN", None)  # with it the server would think that it serves pages
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "omflow.settings")
    code = Code(os.getcwd())  # before anything is loaded, so that no change is missed
    import django
    from django.conf import settings
    from . import logs
    logs.through_worker(settings)
    django.setup()
    runner = Runner(pipe, code)
    pipe.start("omflow_booster " + __version__)
    for message in iter(pipe.runs.get, None):
        op, fields = runner.answer(message)
        pipe.lease.end()
        pipe.say(op, id=message["id"], **fields)


class Runner:
    """Runs steps, one after the other, in the main thread."""

    def __init__(self, pipe, code):
        from django.db import connections, reset_queries, router
        from django.db.backends.signals import connection_created
        from . import conf, queues, server
        from .caches import Caches
        from .statements import Prepared
        from .transaction import Heartbeat
        self.pipe, self.code = pipe, code
        conf.notice_dead_database(connections.databases)
        self.using = router.db_for_write(server.queue_model())
        self.connection = connections[self.using]
        if self.connection.vendor != "postgresql":
            sys.exit("omflow_booster: the database is %s; OMFLOW Booster works with PostgreSQL so far" % self.connection.vendor)
        self.idle_timeout, self.lock_timeout = conf.get("RUNNER_IDLE_TIMEOUT"), conf.get("RUNNER_LOCK_TIMEOUT")
        self.missing_timeout = conf.get("RUNNER_MISSING_TIMEOUT")
        self.synchronous_commit = conf.choice("RUNNER_SYNCHRONOUS_COMMIT", "on", "off")
        self.one_at_a_time, self.flow_limits = conf.get("WORKER_ORDER") == "ticket", conf.flow_limits()
        self.items = []
        self.missed = {}  # steps whose module is not here: when that was seen first
        self.begun = False  # user code of the running step has begun
        self.sent = False  # the running step has sent the code of a Python point to a collector
        self.heartbeat, self.prepared = Heartbeat(self.idle_timeout), Prepared()
        # With DEBUG in the server's settings Django keeps the text of every statement; nobody reads it here.
        type(self.connection).queries_logged = property(lambda connection: connection.force_debug_cursor)
        reset_queries()
        self.caches = Caches()
        self.caches.refresh()
        self.warm()
        self.wear = Wear(conf.get("RUNNER_MAX_STEPS"), conf.get("RUNNER_MAX_MEMORY") * 2 ** 20)
        connections.close_all()  # so that every connection from here on has our limits
        connection_created.connect(self.limit, dispatch_uid="omflow_booster")
        queues.deliver_to(self.items.append)

    def warm(self):
        """Loads what is deployed before the first step waits for it: the engine takes seconds."""
        from . import server
        for uuid, flow in list(server.flows().flowactive.items()):
            try:
                self.code.load(module_of(uuid, flow))
            except Exception as error:  # the step that needs it says so
                print("not loaded in advance: %s: %s" % (type(error).__name__, error), file=sys.stderr)

    def limit(self, connection, **_):
        """Every new connection, also of threads that user code starts: checks the lease, and does not hold locks for ever."""
        if self.check not in connection.execute_wrappers:
            connection.execute_wrappers.insert(0, self.check)
        if connection.vendor == "postgresql":
            limits = {"lock_timeout": self.lock_timeout, "idle_in_transaction_session_timeout": self.idle_timeout}
            if connection.pg_version >= 120000:
                limits["tcp_user_timeout"] = self.idle_timeout
            # A step is one of many at once: what parallel workers of the database would give to one, they take from the others.
            settings = ["SET max_parallel_workers_per_gather = 0"] + ["SET %s = %d" % (name, seconds * 1000) for name, seconds in limits.items()]
            if self.synchronous_commit == "off":
                settings.append("SET synchronous_commit = off")
            with connection.connection.cursor() as cursor:
                cursor.execute("; ".join(settings))

    def check(self, execute, sql, params, many, context):
        """Django's execute wrapper: the lease is looked at before every statement."""
        self.pipe.lease.check()
        return execute(sql, params, many, context)

    def answer(self, message):
        """Runs a step. Returns done or failed, and its fields. Never raises."""
        from . import files
        from .transaction import DatabaseAway, StepSpoiled
        del self.items[:]
        fields, self.begun, self.sent = {}, False, False
        try:
            self.pipe.lease.check()
            fields.update(self.run(message))
        except Stale as error:
            fields = {"untried": True, "recycle": True, "retry_after_ms": 1}
            problem = error
        except (Busy, DatabaseAway) as error:
            fields, problem = {"untried": True, "retry_after_ms": random.randint(BUSY_PAUSE, 2 * BUSY_PAUSE)}, error
        except files.Missing as error:
            fields, problem = {"retry_after_ms": retry_later(message)}, error
        except MissingModule as error:
            fields, problem = self.missing(message), error
        except (LeaseLost, StepSpoiled) as error:
            problem, fields = error, {"retry_after_ms": 500 * message["attempt"]}
            if not self.begun:  # somebody else holds the lock of its row, for example
                fields["untried"] = True
        except BaseException as error:  # whatever user code raises, SystemExit too; only this step fails
            traceback.print_exc()
            problem = error
        else:
            problem = None
            self.missed.pop(message["id"], None)
        if self.wear.out():
            fields["recycle"] = True
        if problem is None:
            return "done", fields
        if self.begun:
            self.caches.forget()
        return "failed", dict(fields, error="%s: %s" % (type(problem).__name__, problem))

    def missing(self, message):
        """What becomes of a step whose module is not here. Deploying takes seconds on one server and minutes on the others, until the patch has come: the step goes to
        one that has it, and is no attempt. If nobody has it for RUNNER_MISSING_TIMEOUT, it counts, and dies of its attempts."""
        if len(self.missed) > REMEMBERED:
            self.missed.clear()
        since = self.missed.setdefault(message["id"], time.monotonic())
        if time.monotonic() - since < self.missing_timeout:
            return {"untried": True, "retry_after_ms": random.randint(BUSY_PAUSE, 2 * BUSY_PAUSE)}  # times the deliveries
        return {"retry_after_ms": retry_later(message)}

    def run(self, message):
        """Runs a step to the end of its commit, and queues what follows. Returns fields of done."""
        from . import files, server
        from .transaction import StepTransaction
        step = message["id"]
        transaction = StepTransaction(self.connection, self.pipe.lease.check, self.heartbeat, self.prepared, self.lock_timeout)
        row = transaction.begin(*self.lock_row(step))
        with transaction:
            if row is None:
                transaction.commit()
                return {"skipped": True}  # done by an earlier delivery
            item = self.notice(row, step, message["item"])
            self.code.check()  # the files of what was deployed are there before its rows
            param = item["input_param"]
            if isinstance(param, str):  # the server stores it as JSON text
                param = json.loads(param)
            tickets = named(param)
            self.take_turn(param, tickets)
            files.need(param)
            function = getattr(self.code.load(active_module(item, param)), item["method_name"])
            balanced = item["name"] == "FormFlow" and isinstance(param, dict) and param.get("load_balance")
            if balanced:
                server.note_sent(self.note_sent)
            transaction.lock(tickets)
            self.begun = True
            function(param)
            kept = balanced and self.sent and not self.items and self.is_kept(step)
            # The engine has deleted the row already, unless two rows had the same queue_id: then it deletes none.
            transaction.commit(*([] if kept else ["DELETE FROM %s WHERE id = %%s" % self.table(step), [int(step[1:])]]))
        return dict({"kept": True} if kept else {}, **self.follow(message))

    def follow(self, message):
        """Queues what follows a step. Returns the fields of done that name what the worker takes there: the last items, in one line."""
        named = self.items[(len(self.items) - 1) // BATCH * BATCH:] if message.get("follow") else []
        for first in range(0, len(self.items) - len(named), BATCH):
            try:
                self.pipe.put(message["id"], self.items[first:first + BATCH])
            except Refused as error:
                print("follow-up work is not queued yet (%s); the worker finds its rows" % error, file=sys.stderr)
        return {"items": named} if named else {}

    def lock_row(self, step):
        """The query that locks the step's own row, which is the fence against every other delivery, and reads the marks of what this process remembers."""
        columns = [self.connection.ops.quote_name(name) for name in columns_of(step)] + ([self.caches.marks] if self.caches.using == self.using else [])
        return "SELECT %s FROM %s WHERE id = %%s FOR UPDATE" % (", ".join(columns), self.table(step)), [int(step[1:])]

    def notice(self, row, step, item):
        """Loads what others have changed, and returns the item as it stands in its row: a database that was restored may have given the number to another step
        than the message is of."""
        names = columns_of(step)
        if self.caches.using == self.using:
            self.caches.compare(row[len(names):])
        else:
            self.caches.refresh()
        return dict(item, **(dict(zip(names, row)) if step.startswith("q") else json.loads(row[0])))

    def note_sent(self):
        self.sent = True

    def is_kept(self, step):
        """Whether the engine has left the row of a Python point, sent to a collector, for the answer to find. A row that shares its queue_id is one that the
        engine could not delete."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM {0} WHERE queue_id = (SELECT queue_id FROM {0} WHERE id = %s)".format(self.table(step)), [int(step[1:])])
            return cursor.fetchone()[0] == 1

    def table(self, step):
        from . import server
        name = server.queue_model()._meta.db_table if step.startswith("q") else OUTBOX
        return self.connection.ops.quote_name(name)

    def take_turn(self, param, tickets):
        """Raises Busy where the settings let this step not run beside others. The locks last until the step's commit, and hold on every server.

        WORKER_ORDER=ticket: not while another step of one of its tickets runs. WORKER_FLOW_LIMITS: not while so many of its flow do.
        """
        if self.one_at_a_time:
            for ticket in sorted(tickets):
                if not self.take("order " + ticket):
                    raise Busy("another step of ticket %s runs" % ticket)
        flow = param.get("flow_uuid") if isinstance(param, dict) else None
        limit = self.flow_limits.get(flow, self.flow_limits.get("*")) if flow else None
        if limit:
            seats = list(range(limit))
            random.shuffle(seats)  # so that the first ones are not asked for by all
            if not any(self.take("flow %s %d" % (flow, seat)) for seat in seats):
                raise Busy("%d steps of flow %s run" % (limit, flow))

    def take(self, name):
        """Whether nobody else holds the lock of this name, until the commit."""
        from .transaction import key
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [key(name)])
            return cursor.fetchone()[0]


class Wear:
    """When this process shall be replaced by a new one: after so many steps, or when it has grown by so many bytes since it was warm.

    What a step imports for the first time is not growth: the next process would import it again. 0: never.
    """

    def __init__(self, steps, growth):
        self.steps, self.growth = steps, growth
        self.done, self.modules, self.warm = 0, len(sys.modules), memory()

    def out(self):
        """To be called after each step."""
        self.done += 1
        if len(sys.modules) > self.modules:
            self.modules, self.warm = len(sys.modules), memory()
        return 0 < self.steps <= self.done or 0 < self.growth < memory() - self.warm


class Busy(Exception):
    """Others run, beside which this step may not: nothing of it was begun."""


BUSY_PAUSE = 100  # milliseconds, at least, until such a step is tried again
REMEMBERED = 10000  # steps whose module is missing


def retry_later(message):
    """Milliseconds until the next try of what somebody has to do something for, elsewhere."""
    return min(2000 * 5 ** (message["attempt"] - 1), 300000)


def columns_of(step):
    """The columns of the row of a step: of the server's table, or of ours, where the item is JSON."""
    return ("name", "module_name", "method_name", "input_param") if step.startswith("q") else ("body",)


def named(param):
    """The tickets that a step may write to: its own, and those that wait for it further out, as <table>/<data_no>."""
    tickets = set()
    while isinstance(param, dict):
        table, number = param.get("table_uuid") or param.get("flow_uuid"), param.get("data_no")
        if table and number:
            tickets.add("%s/%s" % (table, number))
        param = param.get("content") or param.get("preflow_content") or param.get("outflow_content") or param.get("formdata")
    return tickets


def memory():
    """Bytes of memory that this process holds; 0 where that cannot be told."""
    try:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return 0


if __name__ == "__main__":
    main()
