"""Statements that the session keeps ready. To read and plan one costs PostgreSQL more than to execute it, and the engine sends the same few with every step."""
import datetime
import hashlib
import uuid

AGAIN = 3  # the use of a statement with which it is prepared
FRESH = 2000  # uses of a plan: tables have grown since
KEPT = 300  # statements that a session keeps ready
COUNTED = 3000  # statements whose uses are counted


class Prepared:
    """What is prepared in the sessions of one connection object of Django: the newest session counts.

    A parameter has the type that its value has as a literal, so that the database understands the statement as if it were sent as it is. What fails all the same is
    to be sent as it is. A name is made of the text and the types: whoever else prepared it, perhaps behind a pooler, prepared the same.
    """

    def __init__(self):
        self.session, self.uses, self.ready = None, {}, {}

    def short(self, session, sql, params):
        """(text to send instead of sql, key to forget it by), or None. params remain the same."""
        types = tuple(map(type_of, params))
        if None in types:
            return None
        if session is not self.session:
            self.session, self.uses, self.ready = session, {}, {}
        key = sql, types
        name = self.ready.get(key)
        if name is None and len(self.uses) >= COUNTED and key not in self.uses:
            self.uses.clear()
        uses = self.uses[key] = self.uses.get(key, 0) + 1
        if name is not None:
            execute = "EXECUTE %s%s" % (name, placeholders(params))
            if uses % FRESH:
                return execute, key
            return "DEALLOCATE %s; %s; %s" % (name, self.preparation(name, key), execute), key
        if uses != AGAIN or len(self.ready) >= KEPT or (not params and "%" in sql):
            return None
        name = "omflow_booster_" + hashlib.sha1(repr(key).encode()).hexdigest()[:24]
        self.ready[key] = name
        return "%s; EXECUTE %s%s" % (self.preparation(name, key), name, placeholders(params)), key

    @staticmethod
    def preparation(name, key):
        sql, types = key
        text = sql % tuple("$%d" % (i + 1) for i in range(len(types)))
        return "PREPARE %s%s AS %s" % (name, " (%s)" % ", ".join(types) if types else "", text.replace("%", "%%") if types else text)

    def forget(self, key):
        """Something failed: the statement is sent as it is from now on."""
        self.ready.pop(key, None)


def placeholders(params):
    return "(%s)" % ", ".join(["%s"] * len(params)) if params else ""


def type_of(value):
    """The type that PostgreSQL gives to the literal that psycopg2 makes of a value; None: not one that we know."""
    kind = type(value)
    if kind is str or value is None:
        return "unknown"
    if kind is int:
        return "integer" if -2 ** 31 < value < 2 ** 31 else "bigint" if -2 ** 63 < value < 2 ** 63 else None
    if kind is datetime.datetime:
        return "timestamp" if value.tzinfo is None else "timestamptz"
    return {bool: "boolean", uuid.UUID: "uuid", datetime.date: "date"}.get(kind)
