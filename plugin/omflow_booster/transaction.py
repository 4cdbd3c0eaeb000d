"""The transaction around a step: all of it happens, once, or nothing does.

The server's engine is written for autocommit. It must not notice that it runs in a transaction:

- A statement that fails does not spoil the ones after it, because the engine catches errors and goes on. Each statement has a savepoint. So has an
  atomic block that has none of Django's (savepoint=False), because in autocommit the outermost block is rolled back as a whole.
- Constraints that Django makes deferrable are checked after each statement, as there, and in an atomic block at its end.
- What ends a transaction (commit, rollback, close) does nothing, as it would do nothing there.
- What is to happen after a commit happens after ours.
- Another step of the same ticket sees either nothing or everything. In autocommit the two branches of a ticket that meet in a collection see each
  other's rows; in two transactions at once neither would, and the ticket would wait for ever. So a step locks its tickets before its first
  statement, and not before: what user code does until then runs beside the other branches.
"""
import hashlib
import threading
import time

from django.db import Error, InterfaceError, OperationalError
from psycopg2.extensions import TRANSACTION_STATUS_IDLE, TRANSACTION_STATUS_INERROR

SAVEPOINTS = ("omflow_booster_a", "omflow_booster_b")  # of statements, in turn: the new one is there, or the old one still is
BLOCK = "omflow_booster_block"
DJANGOS = ('SELECT "', "SELECT COUNT(", "SELECT (1)", 'SELECT DISTINCT "', 'INSERT INTO "', 'UPDATE "', 'DELETE FROM "')
# SQLSTATEs that say nothing about the statement: connection, aborted transaction, idle for too long, deadlock, full disk or memory, lock timeout,
# shutdown, trouble of the system or of the database itself.
PASSING = ("08", "25P02", "25P03", "40", "53", "55P03", "57P", "58", "XX")
HEARTBEATS = 4  # in the time after which the database gives up an idle transaction
BEGIN = "BEGIN; SET CONSTRAINTS ALL IMMEDIATE; "
# Waits for a ticket as long as it takes, whatever the session's lock_timeout. That costs nothing as long as nobody else has the ticket.
LOCK = ("SELECT CASE WHEN pg_try_advisory_xact_lock({0}) THEN true ELSE set_config('lock_timeout', '0', true) IS NULL "
        "OR pg_advisory_xact_lock({0}) IS NULL OR set_config('lock_timeout', '{1}', true) IS NULL END")


class DatabaseAway(Exception):
    """The database does not answer: nothing of the step was begun."""


class StepSpoiled(Exception):
    """The step cannot be completed now, through no fault of its own: roll back and try again."""


class Heartbeat:
    """Shows the database that we live while user code does something else for long. A frozen process does not, and loses its locks.

    One thread for the life of the process: to start one costs more than all that it does in a step.
    """

    def __init__(self, idle_timeout):
        self.every = idle_timeout / HEARTBEATS
        self.lock = threading.Lock()  # against the end of a transaction
        self.transaction = None
        threading.Thread(target=self.run, name="omflow_booster heartbeat", daemon=True).start()

    def run(self):
        while True:
            time.sleep(self.every)
            with self.lock:
                if self.transaction is not None:
                    try:
                        self.transaction.check()
                        self.transaction.raw("SELECT 1")
                    except Exception:
                        pass  # the next statement of the step finds out


class StepTransaction:
    """A transaction on a Django connection to PostgreSQL, to be used in a with statement. It rolls back unless commit() was called.

    The session is in autocommit, as psycopg2 sees it: what begins and ends the transaction travels with other statements, and no trip is made for it alone.
    check is called before every statement; what it raises spoils the step. lock_timeout, in seconds, is that of the session.
    """

    def __init__(self, connection, check, heartbeat, prepared, lock_timeout):
        self.connection, self.check, self.heartbeat, self.prepared, self.lock_timeout = connection, check, heartbeat, prepared, lock_timeout
        self.tickets = ()  # keys to lock before the next statement
        self.spoiled = None  # why nothing more may be done
        self.savepoint = None  # ours that is there, of the last statement
        self.block = False  # that of an atomic block is
        self.over = False

    def begin(self, sql, params):
        """Begins the transaction with a query, and returns its row. To be called before the with statement. Raises DatabaseAway, or StepSpoiled when it is to be tried later."""
        for last in (False, True):  # the database may have closed the connection since the last step
            try:
                self.connection.ensure_connection()
                return self.open(sql, params)
            except (OperationalError, InterfaceError) as error:
                raw = self.connection.connection
                if raw is not None and not raw.closed and self.passing(error):
                    raise self.named(error) from None
                self.connection.close()
                if last:
                    raise DatabaseAway(str(error).strip()) from None

    def open(self, sql, params):
        raw = self.connection.connection
        short = self.prepared.short(raw, sql, params)
        with self.connection.wrap_database_errors, raw.cursor() as cursor:
            try:
                cursor.execute(BEGIN + (short[0] if short else sql), params)
            except Exception as error:
                if raw.closed:
                    raise
                cursor.execute("ROLLBACK")
                if not short or (getattr(error, "pgcode", None) or "08").startswith(PASSING):
                    raise
                self.prepared.forget(short[1])
                try:
                    cursor.execute(BEGIN + sql, params)
                except Exception:
                    if not raw.closed:
                        cursor.execute("ROLLBACK")
                    raise
            return cursor.fetchone()

    def __enter__(self):
        connection = self.connection
        connection.autocommit = False  # what Django knows of it
        connection.run_on_commit = []
        self.own = {"commit": self.nothing, "rollback": self.nothing, "close": self.nothing, "set_autocommit": self.nothing,
                    "on_commit": self.after}
        for name, function in self.own.items():
            setattr(connection, name, function)  # on this connection object alone
        connection.execute_wrappers.append(self.statement)
        with self.heartbeat.lock:
            self.heartbeat.transaction = self
        return self

    def __exit__(self, kind, error, trace):
        try:
            self.finish("ROLLBACK")
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

    def commit(self, sql="", params=()):
        """Makes the step happen, after a last statement of ours. Raises what check raises, StepSpoiled, or DatabaseError when it is not known whether it happened."""
        self.check()
        if self.spoiled:
            raise self.spoiled
        last = self.prelude("", None)[0] if self.block else []  # the block may have to be rolled back
        if sql:
            short = self.prepared.short(self.connection.connection, sql, params)
            last.append(short[0] if short else sql)
        with self.connection.wrap_database_errors:
            self.finish("; ".join(last + ["COMMIT"]), params)
        self.committed = True
        hooks, self.connection.run_on_commit = self.connection.run_on_commit, []
        for hook in hooks:
            hook[1]()

    def finish(self, sql, params=()):
        """Ends the transaction and gives the connection its own methods back. A connection that fails at that is closed."""
        if self.over:
            return
        connection = self.connection
        with self.heartbeat.lock:
            self.over, self.heartbeat.transaction = True, None
        connection.execute_wrappers.remove(self.statement)
        for name in self.own:
            delattr(connection, name)
        connection.in_atomic_block, connection.savepoint_ids, connection.needs_rollback = False, [], False
        connection.autocommit = True
        try:
            self.raw(sql, params)
            if connection.connection.get_transaction_status() != TRANSACTION_STATUS_IDLE:
                raise AssertionError("the transaction of a step did not end")
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
        verb = sql.lstrip()[:9].upper() if isinstance(sql, str) else ""
        run = self.nested if verb.startswith(("SAVEPOINT", "RELEASE S", "ROLLBACK ")) else self.guarded
        try:
            return run(verb, execute, sql, params, many, context)
        except Error as error:
            if self.passing(error):
                self.spoil(self.named(error))
            raise

    @staticmethod
    def named(error):
        return StepSpoiled("%s: %s" % (type(error).__name__, str(error).strip()))

    def passing(self, error):
        """Whether an error of the database says nothing about the statement, so that the step shall be tried again."""
        state = getattr(error.__cause__, "pgcode", None)
        if state is None:
            return isinstance(error, (OperationalError, InterfaceError)) or bool(self.connection.connection.closed)
        return state.startswith(PASSING) or bool(self.connection.connection.closed)

    def guarded(self, verb, execute, sql, params, many, context):
        """Runs a statement under a savepoint of ours, in one round trip where that is possible."""
        fresh = SAVEPOINTS[self.savepoint == SAVEPOINTS[0]]
        first, then = self.prelude(verb, fresh)
        # The database takes such a string as a whole or, when it cannot be read, not at all. Django's own statements can be read.
        if isinstance(sql, str) and sql.startswith(DJANGOS) and not many and getattr(context["cursor"].cursor, "name", None) is None:
            short = self.prepared.short(self.connection.connection, sql, params) if type(params) in (tuple, list) else None
            try:
                result = execute("%s; %s" % ("; ".join(first), short[0] if short else sql), params, many, context)
            except Error as error:
                if not self.take_back(error, fresh, then) or not short:
                    raise
                self.prepared.forget(short[1])
            else:
                vars(self).update(then)
                return result
        else:
            self.send(first)
            vars(self).update(then)
        try:
            return execute(sql, params, many, context)
        except Error as error:
            self.take_back(error, fresh, then)
            raise

    def take_back(self, error, savepoint, then):
        """Takes a statement back that has failed, if it was sent at all and the transaction can go on. Its savepoint stays."""
        if self.passing(error) or self.connection.connection.get_transaction_status() != TRANSACTION_STATUS_INERROR:
            return False
        try:
            self.raw("ROLLBACK TO SAVEPOINT " + savepoint)
        except Exception:  # it is not there: taking the statement back would take back the one before, too
            self.spoil(self.named(error))
        vars(self).update(then)
        return True

    def nested(self, verb, execute, sql, params, many, context):
        """Runs a savepoint statement of Django's, which is the edge of an atomic block. Ours must not be between those."""
        connection = self.connection
        if verb.startswith("ROLLBACK"):
            self.savepoint = None  # it goes with that
            return execute(sql, params, many, context)
        outermost = connection.in_atomic_block and not any(connection.savepoint_ids)
        first, then = self.prelude(verb, None)
        if outermost and verb.startswith("RELEASE"):
            first.append("SET CONSTRAINTS ALL IMMEDIATE")
        self.send(first)
        vars(self).update(then)
        result = execute(sql, params, many, context)
        if outermost and verb.startswith("SAVEPOINT") and not self.block:
            self.raw("SET CONSTRAINTS ALL DEFERRED")
        return result

    def prelude(self, verb, fresh):
        """What is to be sent before a statement, and what of our attributes changes with it. fresh: the savepoint to set at last."""
        connection, block, first = self.connection, self.block, []
        # In one order everywhere, so that two steps cannot wait for each other.
        first += [LOCK.format(ticket, int(self.lock_timeout * 1000)) for ticket in self.tickets]
        if self.savepoint:
            first.append("RELEASE SAVEPOINT " + self.savepoint)
        if not connection.in_atomic_block:
            if block and connection.needs_rollback:
                first.append("ROLLBACK TO SAVEPOINT " + BLOCK)
            if block:
                first.append("RELEASE SAVEPOINT " + BLOCK)
            block = connection.needs_rollback = False
        elif not block and not any(connection.savepoint_ids) and not verb.startswith("RELEASE") and (
                connection.savepoint_ids or not verb.startswith("SAVEPOINT")):
            first.append("SAVEPOINT " + BLOCK)
            block = True
        if fresh:
            first.append("SAVEPOINT " + fresh)
        return first, {"tickets": (), "savepoint": fresh, "block": block}

    def send(self, statements):
        if statements:
            with self.connection.wrap_database_errors:
                self.raw("; ".join(statements))

    def raw(self, sql, params=None):
        """Statements that do not come back to us."""
        with self.connection.connection.cursor() as cursor:
            cursor.execute(sql, params or None)


def key(ticket):
    """The number that PostgreSQL's advisory locks know a ticket by."""
    return int.from_bytes(hashlib.sha1(("omflow_booster ticket " + ticket).encode()).digest()[:8], "big", signed=True)
