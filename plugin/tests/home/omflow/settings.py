"""Settings of the stand-in: what an OMFLOW Server has, with the database of STANDIN_DATABASE (JSON)."""
import json
import os

BASE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECRET_KEY = "of the stand-in"
DEBUG = True
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = [
    "omformflow",
    "omflow",
    "omformmodel",
    "omorganization",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "omflow_booster",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "omflow.urls"
DATABASES = {"default": dict(json.loads(os.environ["STANDIN_DATABASE"]), ENGINE="django.db.backends.postgresql")}
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
USE_TZ = False
TIME_ZONE = "Asia/Taipei"
