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
    "ommessage",
    "omorganization",
    "ommonitor",
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
OMFLOW_TYPE = os.environ.get("STANDIN_TYPE", "server")
TIME_ZONE = "Asia/Taipei"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"simple": {"format": "[%(asctime)s] %(levelname)s %(message)s"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "simple"},
        "file": {"class": "logging.handlers.TimedRotatingFileHandler", "filename": os.path.join(BASE_DIR, "logs", "omflow.log"), "when": "midnight",
                 "encoding": "utf-8", "delay": True, "formatter": "simple"},
    },
    "loggers": {"omflowlog": {"handlers": ["file"], "level": "INFO", "propagate": False},
                "django": {"handlers": ["console", "file"], "level": "INFO", "propagate": False}},
}
os.makedirs(os.path.join(BASE_DIR, "logs"), exist_ok=True)
MEDIA_ROOT = os.path.join(BASE_DIR, "uploads")
