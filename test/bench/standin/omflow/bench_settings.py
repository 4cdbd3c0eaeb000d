"""Settings of the stand-in for the benchmark. With BENCH_STOCK it is a server without OMFLOW Booster."""
import os

from omflow.settings import *  # noqa: F401,F403
from omflow.settings import INSTALLED_APPS

INSTALLED_APPS = INSTALLED_APPS + ["bench"]
if os.environ.get("BENCH_STOCK"):
    INSTALLED_APPS.remove("omflow_booster")
DEBUG = bool(os.environ.get("BENCH_DEBUG"))
