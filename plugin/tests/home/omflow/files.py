"""Pages of uploaded files. Two kinds of them, and two ways in which a page marks one that it does not find."""
import os

from django.conf import settings
from django.core.files.base import ContentFile
from django.http import HttpResponse, JsonResponse
from django.urls import resolve
from ommessage.models import MessageHistoryFiles
from omformflow.models import OmdataFiles


def there(name):
    return os.path.exists(os.path.join(settings.MEDIA_ROOT, name))


def upload(request):
    """A file of each kind."""
    for model in (OmdataFiles, MessageHistoryFiles):
        model.objects.bulk_create([model(file=ContentFile(b"text", name="a.txt"))])
    return HttpResponse("uploaded")


def listed(request):
    """What a user sees: True for each file that is there."""
    found = []
    tickets = list(OmdataFiles.objects.values("id", "file", "delete"))
    missing = [row["id"] for row in tickets if not row["delete"] and not there(row["file"])]
    if missing:
        OmdataFiles.objects.filter(id__in=missing).update(delete=True)
    found += [not row["delete"] and row["id"] not in missing for row in tickets]
    for row in MessageHistoryFiles.objects.values("file", "delete"):
        if not row["delete"] and not there(row["file"]):
            row["delete"] = True
            file = MessageHistoryFiles.objects.get(file=row["file"])
            file.delete = True
            file.save()
        found.append(not row["delete"])
    return JsonResponse(found, safe=False)


def deleted(request):
    """An administrator deletes all files that are here."""
    for model in (OmdataFiles, MessageHistoryFiles):
        for row in model.objects.all():
            if os.path.isfile(row.file.path):
                os.remove(row.file.path)
                row.delete = True
                row.save()
    return HttpResponse("deleted")


def call(request, url):
    """A page by way of the REST interface."""
    return resolve("/" + url).func(request)
