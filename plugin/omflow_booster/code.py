"""The code that steps run: which module it is, and whether this process has loaded what is on disk."""
import importlib
import os
import sys

from . import server


class Stale(Exception):
    """The code on disk is newer than what this process has loaded: nothing of the step was begun."""


class MissingModule(Exception):
    """The step names a module that is not there: it was not deployed here yet, or is gone."""


class Code:
    """Notices that files have changed which this process has loaded: models of deployed flows, and the flows themselves."""

    def __init__(self, home):
        self.seen = {path: stamp(path) for path in (
            os.path.join(home, "omformmodel", "models.py"), os.path.join(home, "omflow", "syscom", "version.bin"))}

    def check(self):
        for path, before in self.seen.items():
            if stamp(path) != before:
                raise Stale("%s has changed" % path)

    def load(self, name):
        """The module of a step. Raises MissingModule."""
        if name not in sys.modules:
            importlib.invalidate_caches()  # it may have been deployed a moment ago
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            if error.name and (name + ".").startswith(error.name + "."):
                raise MissingModule("%s: %s" % (name, error)) from None
            raise
        path = getattr(module, "__file__", None)
        if path:
            self.seen.setdefault(path, stamp(path))
        return module


def stamp(path):
    """What tells two versions of a file apart; None if there is none."""
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino


def active_module(item, param):
    """The module to run: a flow runs in its currently active version, whatever version queued the step, as in the server itself."""
    name = item["module_name"]
    uuid = param.get("flow_uuid") if isinstance(param, dict) else None
    if item["name"] == "FormFlow" and uuid and name.startswith("omformflow."):
        flow = server.flows().UUIDSearch(uuid)
        if flow:
            return module_of(uuid, flow)
    return name


def module_of(uuid, flow):
    return "omformflow.production.%s.%s.main" % (uuid, flow.version)
