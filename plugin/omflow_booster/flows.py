"""What the server finds for a flow that is not deployed: it may have been undeployed a moment ago, on another server."""
from django.core.exceptions import ObjectDoesNotExist

from . import server


class Undeployed:
    """False, as the None that the server would find; asked for anything, it raises what the server has an answer for, where None has no attribute."""

    def __bool__(self):
        return False

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise ObjectDoesNotExist("the flow is not deployed")


def install():
    cache = type(server.flows())
    search = cache.UUIDSearch
    cache.UUIDSearch = lambda self, flow_uuid: search(self, flow_uuid) or Undeployed()
