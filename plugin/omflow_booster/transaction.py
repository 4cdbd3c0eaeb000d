"""The transaction around a step: all of it happens, once, or nothing does.

The server's engine is written for autocommit. It must not notice that it runs in a transaction:

- A statement that fails does not spoil the ones after it, because the engine catches errors and goes on. Each statement has a savepoint.
- What ends a transaction (commit, rollback, close) does nothing, as it would do nothing there.
- What is to happen after a commit happens after ours.
- Another step of the same ticket sees either nothing or everything. In autocommit the two branches of a ticket that meet in a collection see each
  other's rows; in two transactions at once neither would, and the ticket would wait for ever. So a step locks its tickets before its first
  statement, and not before: what user code does until then runs beside the other branches.
"""
import hashlib
import threading

from django.db import Error, InterfaceError, OperationalError

SAVEPOINT = "omflow_booster"
PASSING = ("08", "40", "55P03", "57P", "25P03")  # SQLSTATEs: connection, deadlock, lock timeout, shutdown, idle for too long
HEARTBEATS = 4  # in the time after which the database gives up an idle transaction


class StepSpoiled(Exception):
    """The step cannot be completed now, through no fault of its own: roll back and try again."""


class StepTransaction:
    """A transaction on a Django connection to PostgreSQL, to be used in a with statement. It rolls back unless commit() was called.

    check is called before every statement; what it raises spoils the step. idle_timeout, in seconds, is that of the session.
    """

    def __init__(self, connection, check, idle_timeout):
        self.connection, self.check, self.beat = connection, check, idle_timeout / HEARTBEATS
        self.tickets = ()  # keys to lock before the next statement
        self.spoiled = None  # why nothing more may be done
        self.savepoint = False  # ours is there: of the last statement
        self.ending = threading.Lock()  # against the heartbeat
        self.over = threading.Event()

    def __enter__(self):
        connection = self.connection
        connection.ensure_connection()
        connection.set_autocommit(False)
        connection.run_on_commit = []
        self.own = {"commit": self.nothing, "rollback": self.nothing, "close": self.nothing, "set_autocommit": self.nothing,
                    "on_commit": self.after}
        for name, function in self.own.items():
            setattr(connection, name, function)  # on this connection object alone
        connection.execute_wrappers.append(self.statement)
        threading.Thread(target=self.keep_alive, name="omflow_booster heartbeat", daemon=True).start()
        return self

    def __exit__(self, kind, error, trace):
        try:
            self.finish(lambda raw: raw.rollback())
        except Exception:  # the database has rolled back already, with the connection
            if kind is None:
                raise
        if self.spoiled and error is not self.spoiled:
            raise self.spoiled  # the reason of whatever came after it
        if kind is None and not self.committed:
            raise AssertionError("a step ended without commit or error")

    committed = False

    def lock(self, tickets):
        """Locks the tickets of these names, once the next statement comes."""
        self.tickets = sorted({key(ticket) for ticket in tickets})

    def commit(self):
        """Makes the step happen. Raises what check raises, StepSpoiled, or DatabaseError when it is not known whether it happened."""
        self.check()
        if self.spoiled:
            raise self.spoiled
        with self.connection.wrap_database_errors:
            self.finish(lambda raw: raw.commit())
        self.committed = True
        hooks, self.connection.run_on_commit = self.connection.run_on_commit, []
        for hook in hooks:
            hook[1]()

    def finish(self, end):
        """Ends the transaction and gives the connection its own methods back. A connection that fails at that is closed."""
        if self.over.is_set():
            return
        connection = self.connection
        with self.ending:
            self.over.set()
        connection.execute_wrappers.remove(self.statement)
        for name in self.own:
            delattr(connection, name)
        connection.in_atomic_block, connection.savepoint_ids, connection.needs_rollback = False, [], False
        try:
            end(connection.connection)
            connection.set_autocommit(True)
        except Exception:
            connection.run_on_commit = []
            connection.close()
            raise

    def nothing(self, *args, **kwargs):
        """What commit, rollback, close and set_autocommit do in a step."""

    def after(self, function, *args, **kwargs):
        """on_commit in a step, in or out of an atomic block. What a block that is rolled back has asked for is done all the same: it is
        only ever the hand-over of a row, and a row that is not there is not run."""
        self.connection.run_on_commit.append((set(), function))

    def spoil(self, error):
        self.spoiled = error
        raise error

    def statement(self, execute, sql, params, many, context):
        """Django's execute wrapper: called instead of every statement on this connection."""
        if self.spoiled:
            raise self.spoiled  # whoever caught it goes on, but gets nowhere
        try:
            self.check()
        except Exception as error:
            self.spoil(error)
        try:
            return self.guarded(execute, sql, params, many, context)
        except Error as error:
            if self.passing(error):
                self.spoil(StepSpoiled("%s: %s" % (type(error).__name__, str(error).strip())))
            self.raw("ROLLBACK TO SAVEPOINT " + SAVEPOINT)
            raise

    def passing(self, error):
        """Whether an error of the database says nothing about the statement, so that the step shall be tried again."""
        state = getattr(error.__cause__, "pgcode", None)
        if state is None:
            return isinstance(error, (OperationalError, InterfaceError)) or bool(self.connection.connection.closed)
        return state.startswith(PASSING) or bool(self.connection.connection.closed)

    def guarded(self, execute, sql, params, many, context):
        """Runs a statement under our savepoint, in one round trip where that is possible."""
        verb = sql.lstrip()[:9].upper() if isinstance(sql, str) else ""
        if verb.startswith(("SAVEPOINT", "RELEASE S", "ROLLBACK ")):  # Django's own, of an atomic block: ours must not be between them
            if self.savepoint and not verb.startswith("ROLLBACK"):
                self.raw("RELEASE SAVEPOINT " + SAVEPOINT)
            self.savepoint = False
            return execute(sql, params, many, context)
        # Tickets are locked in one order everywhere, so that two steps cannot wait for each other.
        first = ["SELECT pg_advisory_xact_lock(%d)" % ticket for ticket in self.tickets]
        if self.savepoint:
            first.append("RELEASE SAVEPOINT " + SAVEPOINT)
        first = "; ".join(first + ["SAVEPOINT " + SAVEPOINT])
        if isinstance(sql, str) and not many and getattr(context["cursor"].cursor, "name", None) is None:
            sql = "%s; %s" % (first, sql)
        else:
            with self.connection.wrap_database_errors:
                self.raw(first)
        self.savepoint, self.tickets = True, ()
        return execute(sql, params, many, context)

    def raw(self, sql):
        """A statement that does not come back to us."""
        with self.connection.connection.cursor() as cursor:
            cursor.execute(sql)

    def keep_alive(self):
        """Shows the database that we live while user code does something else for long. A frozen process does not, and loses its locks."""
        while not self.over.wait(self.beat):
            with self.ending:
                if self.over.is_set():
                    return
                try:
                    self.check()
                    self.raw("SELECT 1")
                except Exception:
                    return  # the next statement finds out


def key(ticket):
    """The number that PostgreSQL's advisory locks know a ticket by."""
    return int.from_bytes(hashlib.sha1(("omflow_booster ticket " + ticket).encode()).digest()[:8], "big", signed=True)
