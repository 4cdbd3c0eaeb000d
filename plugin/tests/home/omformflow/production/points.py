"""What the user code of a point does before the engine goes on: one function for each."""
import ctypes
import os
import subprocess
import threading
import time

from django.db import connection, transaction
from omflow import engine
from omflow.models import Scheduler
from omformmodel.models import Effect, Once, Ticket


def plain(param):
    pass


def prints(param):
    print('{"op":"done","id":"q1"}')
    os.write(1, b'{"op":"failed","id":"q1","error":"not ours"}\n')
    subprocess.run(["echo", "from a child"], check=True)
    try:
        input()
    except EOFError:
        pass


def caught(param):
    """Errors of the database that user code catches, as it may in autocommit."""
    Once.objects.create(name="taken")
    try:
        Once.objects.create(name="taken")
    except Exception:
        Effect.objects.create(number=param["data_no"], point="caught")
    try:
        connection.cursor().execute("SELECT * FROM no_such_table")
    except Exception:
        pass
    try:
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO omformmodel_once (name) VALUES (%s)", [["many"], ["taken"]])
    except Exception:
        pass
    Effect.objects.create(number=param["data_no"], point="100% alive")
    if Once.objects.filter(name="many").exists():
        raise AssertionError("a statement that failed had an effect")


def blocks(param):
    """Atomic blocks, one in the other, of which the inner one is undone."""
    with transaction.atomic():
        Effect.objects.create(number=param["data_no"], point="outer")
        try:
            with transaction.atomic():
                Effect.objects.create(number=param["data_no"], point="undone")
                raise ValueError("undo")
        except ValueError:
            pass
        try:
            with transaction.atomic():
                Once.objects.create(name="twice")
                Once.objects.create(name="twice")
        except Exception:
            pass
        Effect.objects.create(number=param["data_no"], point="outer too")
    transaction.on_commit(lambda: print("committed"))


def blocks_without_savepoint(param):
    """In autocommit the outermost block is undone as a whole, and what comes after it does not notice."""
    try:
        with transaction.atomic(savepoint=False):
            Effect.objects.create(number=param["data_no"], point="undone")
            Once.objects.create(name="twice")
            Once.objects.create(name="twice")
    except Exception:
        Effect.objects.create(number=param["data_no"], point="kept")
    try:
        Once.objects.bulk_create([Once(name="in bulk"), Once(name="in bulk")])
    except Exception:
        pass
    if Once.objects.exists():
        raise AssertionError("a block that failed had an effect")


def constraints(param):
    """Deferred ones: broken by a statement, only within a block, and by a block."""
    def refer(effect):
        connection.cursor().execute("INSERT INTO made VALUES (%s)", [effect])
    try:
        refer(999)
    except Exception:
        pass
    with transaction.atomic():
        refer(4711)
        with transaction.atomic():
            Effect.objects.create(id=4711, number=param["data_no"], point="linked")
    try:
        with transaction.atomic():
            refer(999)
    except Exception:
        pass


def unreadable(param):
    """Statements that the database does not begin, or never gets."""
    Effect.objects.create(number=param["data_no"], point="before")
    try:
        connection.cursor().execute("SELEC 1")
    except Exception:
        pass
    Effect.objects.create(number=param["data_no"], point="between")
    for attempt in (lambda: Effect.objects.create(number=1, point="\0"), lambda: connection.cursor().execute("SELECT %s", [object()])):
        try:
            attempt()
        except Exception:
            pass


def changes_tables(param):
    with connection.schema_editor() as editor:
        editor.execute("CREATE TABLE made_by_step (id integer)")
    list(Effect.objects.iterator(chunk_size=1))
    connection.cursor().execute("INSERT INTO made_by_step VALUES (1)")


def asks_session(param):
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('max_parallel_workers_per_gather')")
        Effect.objects.create(number=param["data_no"], point="parallel workers: " + cursor.fetchone()[0])


def threads(param):
    """Another thread has a connection of its own, in autocommit."""
    thread = threading.Thread(target=lambda: (Effect.objects.create(number=param["data_no"], point="thread"), connection.close()))
    thread.start()
    thread.join()


def ends_transactions(param):
    """What ends a transaction elsewhere, and then a failure: nothing may be left behind."""
    Effect.objects.create(number=param["data_no"], point="before")
    connection.commit()
    transaction.commit()
    connection.close()
    connection.close_if_unusable_or_obsolete()
    transaction.set_autocommit(True)
    Effect.objects.create(number=param["data_no"], point="after")
    raise RuntimeError("after all of it")


def logs(param):
    import logging
    logging.getLogger("omflowlog").info("written by the step")
    logging.getLogger("django").warning("shown by the step")


def computes(param):
    """On a collector: the code of a Python point."""
    Effect.objects.create(number=param["data_no"], point="computed")


def fails(param):
    raise ValueError("no such form")


def exits(param):
    raise SystemExit(3)


def dies(param):
    ctypes.string_at(0)


def waits(param):
    """A long silence between two statements."""
    Effect.objects.create(number=param["data_no"], point="begun")
    print("waiting")
    time.sleep(param["seconds"])


def imports(param):
    """A library that takes much memory, loaded by the code of a point."""
    from omformflow.production import heavy
    assert heavy.BALLAST


def grows(param):
    param["ballast"] = None
    grows.ballast = bytearray(64 << 20)


def sleeps(param):
    """A schedule made in a step, as the sleep point makes one."""
    import datetime
    import json
    from omflow.syscom.schedule_monitor import schedule_Execute
    schedule_Execute(Scheduler.objects.create(
        exec_time=datetime.datetime.now() + datetime.timedelta(milliseconds=100), every="1", cycle="Once", cycle_date="[]",
        exec_fun=json.dumps({"module_name": "omflow.syscom.schedule_monitor", "method_name": "put_flow_job"}),
        input_param=json.dumps({"module_name": "omformflow.production.points", "method_name": "woken", "number": param["data_no"]})))


def woken(param):
    Effect.objects.create(number=param["number"], point="woken")


def joins(param):
    """Two branches of a ticket meet: each marks itself, and whoever sees both marks goes on."""
    Effect.objects.create(number=param["data_no"], point="branch", note=param["branch"])
    time.sleep(0.3)
    if Effect.objects.filter(number=param["data_no"], point="branch").count() == 2:
        Effect.objects.create(number=param["data_no"], point="joined")


def closes_elsewhere(param):
    Ticket.objects.filter(number=param["data_no"]).update(error="touched")


def remembers(param):
    """What this process remembers of the directory of users, the organisation and the code that it has compiled."""
    from omflow.global_obj import GlobalObject
    from omorganization.views import boss
    compiled = GlobalObject.__chartCompileObj__.setdefault("code", str(len(Effect.objects.all())))
    Effect.objects.create(number=param["data_no"], point="remembers", note="%s %s %s" % (
        GlobalObject.__ldapObj__.get("ldap_client_server"), boss("ann"), compiled))


def attaches(param):
    """The ticket is made: files that were uploaded with its form become its own. What goes wrong with it the engine does not say."""
    from omflow.models import TempFiles
    try:
        files = TempFiles.objects.filter(mapping_id=param["mapping_id"])
        for file in files:
            Effect.objects.create(number=param["data_no"], point="attached", note=file.file.read().decode())
        files.delete()
    except Exception:
        pass


def scheduled(row):
    """A schedule's own function, which gets the schedule."""
    Effect.objects.create(number=1, point="scheduled")


def repeats(param):
    """The same statements often enough that a session keeps them ready, and then with a value of every kind, and one that breaks a rule."""
    note = lambda text: Effect.objects.create(number=param["data_no"], point=text)  # noqa: E731
    for value in ("value",) * 6:
        found = Effect.objects.filter(point=value).count()
        if not found:
            note(value)
    for _ in range(6):
        Effect.objects.filter(note=None, number=1).exists()
    if not Effect.objects.filter(note=None).exists():
        note("no value")
    for number in (1, 2, 3, 4, 5, 2 ** 40):  # an integer that the column cannot hold is only not found
        found = Effect.objects.filter(pk=number).count() if number > 5 else 0
        Ticket.objects.filter(number=number).count()
    note("too large: %d" % (found + Ticket.objects.filter(number=2 ** 40).count()))
    for name in ("r1", "r2", "r3", "r4", "r5", "r5"):
        try:
            Once.objects.create(name=name)
        except Exception:
            note("constraint")
    for _ in range(2):
        if Once.objects.filter(name="r5").count() != 1:
            raise AssertionError("a statement that failed took another one with it")
    Once.objects.all().delete()
    note("still there")


def forgets(param):
    """Somebody takes away what the session keeps ready."""
    for _ in range(6):
        Effect.objects.filter(number=param["data_no"]).count()
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    if Effect.objects.filter(number=param["data_no"]).count() == 0:
        Effect.objects.create(number=param["data_no"], point="forgotten")


def counts_queries(param):
    Effect.objects.create(number=param["data_no"], point="queries kept: %d" % len(connection.queries))


def counts_threads(param):
    beats = [thread for thread in threading.enumerate() if "heartbeat" in thread.name]
    Effect.objects.create(number=param["data_no"], point="threads", note=str(len(beats)))


def many(param):
    """More follows than fits into one line."""
    for number in range(250):
        engine.queue(dict(param, points=["a"], number=number))
