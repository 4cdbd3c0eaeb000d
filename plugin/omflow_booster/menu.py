"""The menu at the side. The server changes the one that it remembers and writes the whole of it: what others have written meanwhile would be gone.

So a request's change is made to the menu that is in the database by then.
"""
import json
import threading

from django.db import router, transaction
from django.db.models.signals import post_init

from . import server

current = threading.local()  # .read: the menu that this thread has read last


class Menu(dict):
    """Takes the place of the menu in memory, and notes which one a thread has read: what it writes is a change of that."""

    def __getitem__(self, name):
        value = super().__getitem__(name)
        if name == server.MENU:
            current.read = value
        return value


def install():
    memory, model = server.memory(), server.setting_model()
    memory.__sidebarDesignObj__ = Menu(memory.__sidebarDesignObj__)
    post_init.connect(note_loaded, sender=model, dispatch_uid="omflow_booster")
    model.save = saving(model.save)


def begin():
    """A request, or a step: it has read nothing yet."""
    current.read = None


def note_loaded(instance, **_):
    if instance.pk and "value" in vars(instance):
        instance.booster_loaded = instance.value


def saving(save):
    """The save of a setting, which for the menu merges."""
    def merged_save(self, *args, **kwargs):
        read = getattr(current, "read", None)
        if self.name != server.MENU or not self.pk:
            return save(self, *args, **kwargs)
        model = type(self)
        with transaction.atomic(using=router.db_for_write(model)):
            there = model.objects.select_for_update().filter(pk=self.pk).values_list("value", flat=True).first()
            if there is not None:
                base = json.loads(getattr(self, "booster_loaded", there)) if read is None else read
                self.value = json.dumps(merge(base, json.loads(there), json.loads(self.value)))
            save(self, *args, **kwargs)
        self.booster_loaded = self.value
    return merged_save


def merge(base, theirs, mine):
    """The list theirs of objects with an id, changed as base was changed into mine."""
    if theirs == base:
        return mine
    old, new = ({item["id"]: item for item in items} for items in (base, mine))
    merged = []
    for item in theirs:
        name = item["id"]
        if name in new and new[name] != old.get(name):
            merged.append(new[name])
        elif name in new or name not in old:
            merged.append(item)
    before = None
    for item in mine:
        names = [there["id"] for there in merged]
        if item["id"] not in old and item["id"] not in names:
            merged.insert(names.index(before) + 1 if before in names else 0 if before is None else len(names), item)
        before = item["id"]
    return merged
