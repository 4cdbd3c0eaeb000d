"""Prints what the worker and the agent need to know of the server beside them, from its settings: python -m omflow_booster.environment

One JSON object of environment variables; with --describe one of versions and of what is enabled, for omflow-booster adopt.
It needs no database, and starts nothing of the server.
"""
import json
import os
import sys
from urllib.parse import quote, urlencode

NAMES = ("BOOSTER_IP", "BOOSTER_PORT", "SECOND_BOOSTER_IP", "SECOND_BOOSTER_PORT", "WORKER_SOCKET", "WORKER_ORDER")
SCHEMES = {"postgresql": "postgres", "postgresql_psycopg2": "postgres", "mysql": "mysql", "oracle": "oracle", "mssql": "sqlserver"}
OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "connect_timeout")  # of libpq, with the same meaning in a URL


def variables(settings):
    """The environment variables that the settings stand for; what is not set is left out."""
    found = {name: str(getattr(settings, name)) for name in NAMES if getattr(settings, name, "") not in ("", None)}
    if settings.MEDIA_ROOT:
        found["WORKER_UPLOADS"] = os.path.abspath(settings.MEDIA_ROOT)
    found["DATABASE_URL"] = database_url(settings.DATABASES["default"])
    return found


def database_url(database):
    """Django's description of a database as a URL. Engines without one keep their name as the scheme: the worker says what it thinks of it."""
    engine = database["ENGINE"].rsplit(".", 1)[-1]
    query = {name: value for name, value in (database.get("OPTIONS") or {}).items() if name in OPTIONS}
    host, port = str(database.get("HOST") or ""), str(database.get("PORT") or "")
    if SCHEMES.get(engine) == "postgres" and (not host or host.startswith("/")):
        query["host"], host = host or "/var/run/postgresql", ""  # a Unix socket
        if port:
            query["port"], port = port, ""
    user, password = quote(str(database.get("USER") or ""), safe=""), quote(str(database.get("PASSWORD") or ""), safe="")
    login = user + (":" + password if password else "") + "@" if user else ""
    return "%s://%s%s%s/%s%s" % (SCHEMES.get(engine, engine), login, "[%s]" % host if ":" in host else host, ":" + port if port else "",
                                 quote(str(database.get("NAME") or ""), safe=""), "?" + urlencode(query) if query else "")


def describe(settings):
    """What has to fit before a server is adopted."""
    import django
    return {
        "python": list(sys.version_info[:3]),
        "django": list(django.VERSION[:2]),
        "server": "omflow" in settings.INSTALLED_APPS,
        "enabled": "omflow_booster" in settings.INSTALLED_APPS,
        "engine": settings.DATABASES["default"]["ENGINE"],
        "variables": variables(settings),
    }


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "omflow.settings")
    stdout, sys.stdout = sys.stdout, sys.stderr  # settings may print
    from django.conf import settings as server
    print(json.dumps(describe(server) if "--describe" in sys.argv else variables(server)), file=stdout)
