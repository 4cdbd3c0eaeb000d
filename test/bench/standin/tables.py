"""Makes the tables of the server in an empty database."""
import sys

sys.path.insert(0, ".")
sys.argv = ["manage.py", "migrate"]

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402

call_command("migrate", run_syncdb=True, verbosity=0)
