"""Prints what the worker and the agent need to know of the server beside them, from its settings: python -m omflow_booster.environment

One JSON object of environment variables; with --describe one of versions and of what is enabled, for omflow-booster adopt, which runs this file
before the plugin is installed. It needs no database, and starts nothing of the server.
"""
import importlib.util
import json
import os
import sys
from urllib.parse import quote, urlencode

NAMES = ("BOOSTER_IP", "BOOSTER_PORT", "SECOND_BOOSTER_IP", "SECOND_BOOSTER_PORT", "WORKER_SOCKET", "WORKER_ORDER")
SCHEMES = {"postgresql": "postgres", "postgresql_psycopg2": "postgres", "mysql": "mysql", "oracle": "oracle", "mssql": "sqlserver"}
# Of libpq, with the same meaning in a URL.
OPTIONS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "connect_timeout", "options", "service", "passfile", "target_session_attrs")
# Of libpq and psycopg2: these change neither where one looks nor as whom.
HARMLESS = ("application_name", "fallback_application_name", "client_encoding", "isolation_level", "autocommit", "async", "cursor_factory",
            "connection_factory", "keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslcompression", "sslcrl",
            "sslcrldir", "sslsni", "ssl_min_protocol_version", "ssl_max_protocol_version", "gssencmode", "channel_binding", "requirepeer")


def variables(settings):
    """The environment variables that the settings stand for; what is not set is left out."""
    found = {name: str(getattr(settings, name)) for name in NAMES if getattr(settings, name, "") not in ("", None)}
    if settings.MEDIA_ROOT:
        found["WORKER_UPLOADS"] = os.path.abspath(settings.MEDIA_ROOT)
    found["DATABASE_URL"] = database_url(settings.DATABASES["default"])
    return found


def database_url(database):
    """Django's description of a database as a URL. Engines without one keep their name as the scheme: the worker says what it thinks of it.
    Raises ValueError for an option that could lead the worker to another place than the server."""
    engine = database["ENGINE"].rsplit(".", 1)[-1]
    host, port, query = str(database.get("HOST") or ""), str(database.get("PORT") or ""), {}
    if SCHEMES.get(engine) == "postgres":
        for name, value in (database.get("OPTIONS") or {}).items():
            if name in OPTIONS:
                query[name] = value
            elif name not in HARMLESS:
                raise ValueError("DATABASES: the option %r may change where the server looks, and is not known here; set DATABASE_URL for the worker" % name)
        if not host and "service" not in query:
            host = "/var/run/postgresql"
        if "," in host or host.startswith("/"):  # several, or a Unix socket
            query["host"], host = host, ""
        if port and not host:
            query["port"], port = port, ""
    user, password = quote(str(database.get("USER") or ""), safe=""), quote(str(database.get("PASSWORD") or ""), safe="")
    login = user + (":" + password if password else "") + "@" if user else ""
    return "%s://%s%s%s/%s%s" % (SCHEMES.get(engine, engine), login, "[%s]" % host if ":" in host else host, ":" + port if port else "",
                                 quote(str(database.get("NAME") or ""), safe=""), "?" + urlencode(query, quote_via=quote) if query else "")


def url_or_problem(settings):
    try:
        return {"variables": variables(settings)}
    except ValueError as error:
        return {"variables": {}, "problem": str(error)}


def describe(settings):
    """What has to fit before a server is adopted."""
    import django
    return dict(url_or_problem(settings), **{
        "python": list(sys.version_info[:3]),
        "django": list(django.VERSION[:2]),
        "server": "omflow" in settings.INSTALLED_APPS,
        "enabled": "omflow_booster" in settings.INSTALLED_APPS,
        "plugin": importlib.util.find_spec("omflow_booster") is not None,
        "engine": settings.DATABASES["default"]["ENGINE"],
        "reconnects": settings.DATABASES["default"].get("CONN_MAX_AGE", 0) == 0,
    })


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "omflow.settings")
    stdout, sys.stdout = sys.stdout, sys.stderr  # settings may print
    from django.conf import settings as server
    try:
        print(json.dumps(describe(server) if "--describe" in sys.argv else variables(server)), file=stdout)
    except ValueError as problem:
        sys.exit(str(problem))
