"""Keeps what the process remembers of the database like the database, whoever changed it and wherever."""
import datetime
import functools
import json
import threading

from django.db import connections, router

from . import server


class Caches:
    """Notices changes by one query: PostgreSQL gives each row the number of the transaction that wrote it (xmin).

    Nothing has to be announced, so nothing can be missed: not while a server is away, not when somebody edits the tables by hand.
    """

    def __init__(self):
        self.watched = [(models, reload) for models, reload in (
            (server.flow_models(), self.reload_flows),
            ([server.parameter_model()], self.reload_parameters),
            ([server.setting_model()], self.reload_settings),
            (server.organization_models(), self.forget_organization),
        ) if models]
        self.using = router.db_for_read(server.setting_model())
        # Fixed text: the names are those of models. Rows of undeployed flows count too: that one was undeployed is a change.
        one = "(SELECT md5(string_agg({0}::text || ':' || xmin::text, ',' ORDER BY {0})) FROM {1})"
        quote = connections[self.using].ops.quote_name
        self.marks = ", ".join(one.format(quote(model._meta.pk.column), quote(model._meta.db_table)) for models, _ in self.watched for model in models)
        self.known = [None] * len(self.watched)
        self.lock = threading.Lock()  # requests of a web process come at the same time

    def refresh(self):
        """Reloads what has changed since the last call (all at the first). Returns whether something was reloaded."""
        connections[self.using].ensure_connection()  # whoever waits for that holds up nobody else
        with self.lock:
            with connections[self.using].cursor() as cursor:
                cursor.execute("SELECT " + self.marks)
                return self.compare(cursor.fetchone())

    def compare(self, row):
        """The same, once somebody has read the marks."""
        marks, reloaded = iter(row), False
        for i, (models, reload) in enumerate(self.watched):
            seen = tuple(next(marks) for _ in models)
            if seen != self.known[i]:
                reload()
                self.known[i] = seen  # read before the reload: what changed meanwhile is noticed next time
                reloaded = True
        return reloaded

    def forget(self):
        """Reloads everything at the next refresh: a step that was rolled back may have changed the caches."""
        self.known = [None] * len(self.watched)

    @staticmethod
    def reload_flows():
        cache = server.flows()
        fresh = type(cache)()  # a new one, because loading only adds
        fresh.ServerStart()
        vars(cache).update(vars(fresh))
        server.memory().__chartCompileObj__.clear()  # code of Python points: another version of the flow has the same keys

    @staticmethod
    def reload_parameters():
        cache = server.memory().__OmParameter__
        fresh = dict(server.parameter_model().objects.filter(group_id=None).values_list("name", "value"))
        cache.update(fresh)  # first, so that a reader never misses one
        for name in set(cache) - set(fresh):
            cache.pop(name, None)

    @staticmethod
    def reload_settings():
        memory = server.memory()
        settings = dict(server.setting_model().objects.filter(name__in=(server.MENU, server.LDAP)).values_list("name", "value"))
        menu = json.loads(settings.get(server.MENU, "null"))
        if menu is not None and menu != memory.__sidebarDesignObj__.get(server.MENU):
            memory.__sidebarDesignObj__.update({server.MENU: menu, "design_updatetime": str(datetime.datetime.now())})  # browsers fetch it then
        ldap = json.loads(settings.get(server.LDAP, "{}"))
        memory.__ldapObj__.update({name: ldap[name] for name in memory.__ldapObj__ if name in ldap})

    @staticmethod
    def forget_organization():
        server.memory().__OrganizationObj__.clear()  # the server takes it apart again when it is needed


@functools.lru_cache(maxsize=None)
def of_process():
    """Those of this web process, for its thread and for its requests."""
    return Caches()
