"""Keeps the process's caches of deployed flows and of parameters like the database, whoever changed it and wherever."""
from django.db import connections, router

from . import server


class Caches:
    """Notices changes by one statement: PostgreSQL gives each row the number of the transaction that wrote it (xmin).

    Nothing has to be announced, so nothing can be missed: not while a server is away, not when somebody edits the tables by hand.
    """

    def __init__(self):
        flow = server.flow_model()
        application = flow._meta.get_field("flow_app").related_model
        self.using = router.db_for_read(flow)
        self.watched = [
            ([flow, application], self.reload_flows),
            ([server.parameter_model()], self.reload_parameters),
        ]
        # Fixed text: the names are those of models. Rows of undeployed flows count too: that one was undeployed is a change.
        one = "SELECT COALESCE(md5(string_agg(id::text || ':' || xmin::text, ',' ORDER BY id)), '') FROM %s"
        self.query = " UNION ALL ".join(
            "(%s)" % (one % connections[self.using].ops.quote_name(model._meta.db_table))
            for models, _ in self.watched for model in models)
        self.known = [None] * len(self.watched)

    def refresh(self):
        """Reloads what has changed since the last call (all at the first). Returns whether something was reloaded."""
        with connections[self.using].cursor() as cursor:
            cursor.execute(self.query)
            marks = iter([mark for (mark,) in cursor.fetchall()])
        reloaded = False
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

    @staticmethod
    def reload_parameters():
        cache = server.parameters()
        fresh = dict(server.parameter_model().objects.filter(group_id=None).values_list("name", "value"))
        cache.update(fresh)  # first, so that a reader never misses one
        for name in set(cache) - set(fresh):
            cache.pop(name, None)
