"""Pages of the server that change, or answer from, what the process remembers."""
import datetime
import json
import uuid as uuids

from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpResponse, JsonResponse
from omflow import engine
from omflow.global_obj import FlowActiveGlobalObject, GlobalObject
from omflow.models import SystemSetting


def menu(request):
    return JsonResponse(GlobalObject.__sidebarDesignObj__["sidebar_design"], safe=False)


def add(request, name, after):
    """An entry of a flow that was deployed, behind another one: the whole menu is written, made from the one in memory."""
    write(grown(name, after))
    return menu(request)


def grown(name, after):
    items = []
    for item in GlobalObject.__sidebarDesignObj__["sidebar_design"]:
        items.append(item)
        if item["id"] == after:
            items.append({"id": name, "p_id": after})
    return items


def write(items):
    setting = SystemSetting.objects.get(name="sidebar_design")
    setting.value = json.dumps(items)
    setting.save()
    GlobalObject.__sidebarDesignObj__["sidebar_design"] = items
    GlobalObject.__sidebarDesignObj__["design_updatetime"] = datetime.datetime.now()


def design(request):
    """The administrator's own order of the menu, in place of the one that there is."""
    write(json.loads(request.body.decode()))
    return menu(request)


def token(request, user):
    """A token of five minutes, or the one that the user has."""
    known = GlobalObject.__userObj__.get(user)
    if known is not None and datetime.datetime.now() < known["updatetime"] + datetime.timedelta(minutes=5):
        security = known["security"]
        GlobalObject.__securityObj__[security]["updatetime"] = datetime.datetime.now()
    else:
        if known is not None:
            GlobalObject.__securityObj__.pop(known["security"], None)
        security = str(uuids.uuid4())
        GlobalObject.__securityObj__[security] = {"username": user, "security": security, "updatetime": datetime.datetime.now()}
    GlobalObject.__userObj__[user] = GlobalObject.__securityObj__[security]
    return HttpResponse(security)


def rest(request, security):
    known = GlobalObject.__securityObj__.get(security)
    if known is None or datetime.datetime.now() >= known["updatetime"] + datetime.timedelta(minutes=5):
        return HttpResponse(status=403)
    GlobalObject.__securityObj__[security]["updatetime"] = datetime.datetime.now()
    GlobalObject.__userObj__[known["username"]] = GlobalObject.__securityObj__[security]
    return HttpResponse(known["username"])


def file(request, uuid):
    try:
        flow = FlowActiveGlobalObject.UUIDSearch(uuid)
        if flow.is_active:
            engine.file(1, "plain")
            return HttpResponse("filed")
        return HttpResponse("switched off")
    except ObjectDoesNotExist:
        return HttpResponse("not deployed")
    except Exception as error:
        return HttpResponse(str(error))
