"""The plugin under web servers that the server itself does not know: whatever loads its WSGI application, and serves."""
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, Child  # noqa: E402


class Program(Child):
    """A Python program in the home of a server, which prints JSON lines."""

    HEAD = """
import json, os, sys, threading
out = os.fdopen(os.dup(1), "w"); os.dup2(2, 1)
def say(what):
    print(json.dumps(what), file=out, flush=True)
def threads():
    return sorted(thread.name for thread in threading.enumerate() if thread.name == "omflow_booster")
def wait():
    sys.stdin.readline()
sys.argv = [%r]
"""

    def __init__(self, case, name, code, **settings):
        super().__init__(case, [sys.executable, "-c", self.HEAD % name + code], case.home.path, case.home.environment(**settings))

    def go_on(self):
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()


class ServingTest(Case):
    def schedule(self):
        """One that is due."""
        self.sql("INSERT INTO omflow_scheduler (exec_time, every, cycle, cycle_date, exec_fun, input_param, is_active) VALUES (now() - interval '1 day', '1', "
                 "'Once', '[]', %s, %s, true)", '{"module_name": "omflow.syscom.schedule_monitor", "method_name": "put_flow_job"}',
                 '{"module_name": "omformflow.production.points", "method_name": "woken", "number": 1}')

    def test_server_that_forks_nothing(self):
        """As waitress, daphne, and each process of gunicorn. Its schedules are due also before somebody asks for a page."""
        self.schedule()
        server = Program(self, "/usr/bin/waitress-serve", "from omflow.wsgi import application\nsay(threads()); wait(); say(threads())")
        self.assertEqual(server.hear(), [])
        self.eventually(self.rows, "the schedule")
        server.go_on()
        self.assertEqual(server.hear(), ["omflow_booster"])

    def test_first_request(self):
        server = Program(self, "/usr/bin/gunicorn", """
from omflow.wsgi import application
from wsgiref.util import setup_testing_defaults
environ = {"PATH_INFO": "/page/"}
setup_testing_defaults(environ)
for _ in range(2):
    say(b"".join(application(environ, lambda *answer: None)).decode())
say(threads())""")
        self.assertEqual([server.hear() for _ in range(3)], ["a page of the server"] * 2 + [["omflow_booster"]])

    def test_server_that_forks_after_it_has_loaded_the_application(self):
        """As gunicorn --preload and uWSGI: the parent has no thread that a child could be forked from in the middle of something."""
        self.schedule()
        server = Program(self, "/usr/bin/gunicorn", """
from omflow.wsgi import application
child = os.fork()
if not child:
    for _ in range(1000):
        if not threads():
            threading.Event().wait(0.05)
    say("child"); wait()
    os._exit(0)
os.waitpid(child, 0)
say(threads())""")
        self.assertEqual(server.hear(), "child")
        self.eventually(self.rows, "the schedule")
        server.go_on()
        self.assertEqual(server.hear(), [])

    def test_commands_serve_nobody(self):
        command = Program(self, "manage.py", """
sys.argv = ["manage.py", "shell"]
import django, time
django.setup()
from django.test import Client
from omflow_booster import background
background.SETTLE = 0.01
say(Client().get("/page/").status_code)
time.sleep(1)
say(threads())""")
        self.assertEqual([command.hear(), command.hear()], [200, []])


if __name__ == "__main__":
    unittest.main()
