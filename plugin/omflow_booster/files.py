"""Uploaded files, in a directory that all servers share.

The server's pages mark a file as deleted, for everybody and for ever, when they do not find it. It may be on another server, or the shared directory
is not mounted just now: only the page where an administrator deletes files may set the mark. A page that does not find a file still says so.
"""
import os
import threading

from django.db.models.signals import post_init, pre_save
from django.urls import Resolver404, resolve

from . import server

current = threading.local()  # .deletes: this request is one to delete files


class Missing(Exception):
    """Files that a step reads are not here: nothing of it was begun."""


def install():
    for model in server.file_models():
        for manager in {*model._meta.local_managers, *model._meta.managers}:  # the managers that there are, and what they are copied from
            manager._queryset_class = keeping(manager._queryset_class)
        post_init.connect(note_loaded, sender=model, dispatch_uid="omflow_booster")
        pre_save.connect(keep, sender=model, dispatch_uid="omflow_booster")


def begin():
    current.deletes = False


def note_page(match):
    """What page the request is for; the REST interface has the address of another page as its parameter."""
    name = match.url_name
    if "url" in match.kwargs:
        try:
            name = resolve("/%s/" % match.kwargs["url"].strip("/")).url_name
        except Resolver404:
            pass
    current.deletes = name == server.DELETE_FILES


def keeping(queryset):
    class Keeping(queryset):
        def update(self, **values):
            if values.get("delete") is True and not getattr(current, "deletes", False):
                del values["delete"]
            return super().update(**values) if values else 0
    Keeping.__name__ = queryset.__name__
    return Keeping


def note_loaded(instance, **_):
    instance.booster_deleted = vars(instance).get("delete", False)


def keep(instance, **_):
    if instance.delete and not instance.booster_deleted and not getattr(current, "deletes", False):
        instance.delete = False


def need(param):
    """Raises Missing if a file was uploaded with the form of a step, and is not here. The engine would go on without it."""
    while isinstance(param, dict):
        if param.get("mapping_id"):
            for path in server.temporary_files(param["mapping_id"]):
                if not os.path.isfile(path):
                    raise Missing("%s is not there: it was uploaded on a server that does not share its uploads/ with this one, or is lost" % path)
        param = param.get("content") or param.get("preflow_content") or param.get("outflow_content")
