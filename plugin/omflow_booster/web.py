"""The pages /booster/health/ and /booster/. As a middleware, because the server's list of addresses is not ours to edit."""
import html
import http.client
import json
import logging

from django.conf import settings
from django.db import connections, router
from django.db.models import Count
from django.http import HttpResponse, HttpResponseForbidden, HttpResponseRedirect, JsonResponse

from . import __version__, background, caches, conf, files, menu, server
from .handover import ask

log = logging.getLogger("omflow_booster")


class BoosterMiddleware:
    """Answers our two addresses. For every other request it looks first what other servers have changed. It is the last one, so that the user is known."""

    def __init__(self, get_response):
        self.get_response = get_response
        background.process.begin_soon()

    def __call__(self, request):
        if not background.process.served and not background.is_command():
            background.process.begin()
        if request.path == "/booster/health/":
            return health()
        if request.path == "/booster/":
            return overview(request)
        if not request.path.startswith(settings.STATIC_URL or "/static/"):
            look_around()
        return self.get_response(request)

    def process_view(self, request, *_):
        files.note_page(request.resolver_match)


def look_around():
    """A request knows what was deployed or set before it came, on whatever server: the user's last one may have been there."""
    menu.begin()
    files.begin()
    try:
        caches.of_process().refresh()
    except Exception as error:  # the request finds out for itself what is wrong with the database
        log.warning("what others have changed not looked for: %s: %s", type(error).__name__, error)


def health():
    """200 while this server can do its work, for whoever watches and restarts it; 503 while its database does not answer.

    A worker or Booster that is away does not make it unhealthy: tickets can be filed, their steps wait in the database.
    """
    state = look()
    return JsonResponse({key: state[key] for key in ("database", "worker", "booster", "waiting")},
                        status=503 if state["database"] != "ok" else 200)


def look():
    """What this server sees: database, worker, booster ("ok" or what is wrong), waiting rows, the worker's heartbeat."""
    state = {"waiting": None, "kinds": [], "status": {}, "booster": "unknown"}
    model = server.queue_model()
    try:
        state["kinds"] = list(model.objects.values("name").annotate(rows=Count("pk")).order_by("name"))
        state["waiting"] = sum(kind["rows"] for kind in state["kinds"])
        state["database"] = "ok"
    except Exception as error:  # each driver has its own
        state["database"] = "%s: %s" % (type(error).__name__, str(error).strip())
        connections[router.db_for_read(model)].close()
    try:
        _, state["status"] = ask("GET", "/v1/status")
        _, connected = ask("GET", "/healthz")
        state["worker"] = "ok"
        state["booster"] = "ok" if connected.get("booster_connected") else "the worker reaches no Booster"
    except (OSError, ValueError, http.client.HTTPException) as error:
        state["worker"] = "%s: %s" % (conf.get("WORKER_SOCKET"), error)
    return state


def overview(request):
    """For superusers: what this server's Booster, worker and queue look like."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return HttpResponseRedirect("/accounts/login/?next=/booster/")
    if not user.is_superuser:
        return HttpResponseForbidden("Only for superusers.")
    state = look()
    rows = [
        ("OMFLOW Booster plugin", __version__),
        ("Booster", "%s:%s" % (conf.get("BOOSTER_IP") or "127.0.0.1", conf.get("BOOSTER_PORT"))),
        ("Second Booster", "%s:%s" % (conf.get("SECOND_BOOSTER_IP"), conf.get("SECOND_BOOSTER_PORT"))
            if conf.get("SECOND_BOOSTER_IP") else "none"),
        ("Database", state["database"]),
        ("Worker", state["worker"]),
        ("Connection to a Booster", state["booster"]),
        ("Steps in the database that are not done", state["waiting"]),
    ] + [("… of %s" % kind["name"], kind["rows"]) for kind in state["kinds"]]
    if isinstance(state["status"], dict):
        rows += [("Worker: %s" % key, value if isinstance(value, (str, int, float)) else json.dumps(value))
                 for key, value in sorted(state["status"].items())]
    body = "".join("<tr><th>%s<td>%s" % (html.escape(str(name)), html.escape(str(value))) for name, value in rows)
    return HttpResponse(PAGE % body)


PAGE = """<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>OMFLOW Booster</title>
<style>body{font:15px system-ui,sans-serif;margin:2em}th{text-align:left;font-weight:normal;color:#666;padding:.2em 2em .2em 0}</style>
<h1>OMFLOW Booster</h1><table>%s</table>
<p>All servers at once: <code>omflow-booster status</code>, <code>work ls</code>, <code>dead ls</code> on a host of a Booster.
"""
