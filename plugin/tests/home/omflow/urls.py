from django.http import HttpResponse
from django.urls import path
from omflow import files, views

urlpatterns = [
    path("page/", lambda request: HttpResponse("a page of the server")),
    path("menu/", views.menu),
    path("menu/add/<name>/<after>/", views.add),
    path("menu/set/", views.design),
    path("token/<user>/", views.token),
    path("rest/<security>/", views.rest),
    path("file/<uuid>/", views.file),
    path("files/upload/", files.upload),
    path("files/list/", files.listed),
    path("files/delete/", files.deleted, name="deleteFilesAjax"),
    path("call/<path:url>", files.call),
]
