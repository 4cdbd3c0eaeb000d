"""A web process of a server without OMFLOW Booster: at its start it puts every waiting row into its queue, and its threads run them."""
import sys
import threading

sys.path.insert(0, ".")
sys.argv = ["manage.py", "runserver", "--noreload"]

import django  # noqa: E402

django.setup()
threading.Event().wait()
