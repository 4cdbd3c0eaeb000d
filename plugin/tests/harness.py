"""What the tests of the plugin share: a database and a home of the stand-in for each test class, runners, web processes."""
import atexit
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
import uuid

import psycopg2

HERE = os.path.dirname(os.path.abspath(__file__))
PLUGIN = os.path.dirname(HERE)
FLOW = "5d0a0000000000000000000000000001"
PATIENCE = 60  # seconds, for things that take a moment on a machine that is not busy
SERVER = urllib.parse.urlparse(os.environ["TEST_DATABASE_URL"])


def connect(database):
    connection = psycopg2.connect(host=SERVER.hostname, port=SERVER.port, user=SERVER.username, password=SERVER.password, dbname=database)
    connection.autocommit = True
    return connection


def template():
    """The name of a database with the stand-in's tables, made once in a test process."""
    if not hasattr(template, "name"):
        template.name = "plugin_template_" + uuid.uuid4().hex[:8]
        with connect("postgres").cursor() as cursor:
            cursor.execute("CREATE DATABASE " + template.name)
        atexit.register(drop, template.name)
        home = Home(template.name)
        try:
            subprocess.run([sys.executable, "-c", "import django, sys; sys.argv = ['manage.py', 'migrate']; django.setup();"
                            "from django.core.management import call_command; call_command('migrate', run_syncdb=True, verbosity=0)"],
                           cwd=home.path, env=home.environment(), check=True)
        finally:
            home.remove()
    return template.name


def drop(database):
    with connect("postgres").cursor() as cursor:
        cursor.execute("DROP DATABASE IF EXISTS %s WITH (FORCE)" % database)


class Home:
    """The directory of one server."""

    def __init__(self, database):
        self.database = database
        self.directory = tempfile.mkdtemp(prefix="omflow-home-")
        self.path = os.path.join(self.directory, "home")
        shutil.copytree(os.path.join(HERE, "home"), self.path, ignore=shutil.ignore_patterns("__pycache__"))
        self.socket = os.path.join(self.directory, "worker.sock")

    def remove(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def environment(self, **more):
        database = {"NAME": self.database, "HOST": SERVER.hostname, "PORT": SERVER.port, "USER": SERVER.username, "PASSWORD": SERVER.password}
        return dict(os.environ, DJANGO_SETTINGS_MODULE="omflow.settings", STANDIN_DATABASE=json.dumps(database), WORKER_SOCKET=self.socket,
                    PYTHONPATH=PLUGIN, PYTHONDONTWRITEBYTECODE="1", OMFLOW_HOME=self.path, OMFLOW_PYTHON=sys.executable, **more)

    def deploy(self, version):
        """Writes main.py of a version of the flow."""
        directory = os.path.join(self.path, "omformflow", "production", FLOW, str(version))
        os.makedirs(directory)
        for package in (os.path.dirname(directory), directory):
            open(os.path.join(package, "__init__.py"), "w").close()
        with open(os.path.join(HERE, "main_template.py"), encoding="utf-8") as source, \
                open(os.path.join(directory, "main.py"), "w", encoding="utf-8") as target:
            target.write(source.read().replace("VERSION = 0", "VERSION = %d" % version))


class Case(unittest.TestCase):
    """A test with a database of its own, in which version 1 of the flow is deployed, and one home."""

    def setUp(self):
        self.database = "plugin_" + uuid.uuid4().hex[:12]
        with connect("postgres").cursor() as cursor:
            cursor.execute("CREATE DATABASE %s TEMPLATE %s" % (self.database, template()))
        self.addCleanup(drop, self.database)
        self.connection = connect(self.database)
        self.addCleanup(self.connection.close)
        self.sql("INSERT INTO omformflow_flowactive (flow_uuid, version, is_active, undeploy_flag) VALUES (%s, 1, true, false)", FLOW)
        self.home = self.new_home()

    def new_home(self):
        home = Home(self.database)
        self.addCleanup(home.remove)
        home.deploy(1)
        return home

    def sql(self, statement, *values):
        """Executes a statement and returns its rows, of one column as values."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            if cursor.description is None:
                return None
            rows = cursor.fetchall()
            return [row[0] for row in rows] if len(cursor.description) == 1 else rows

    def effects(self, number=1):
        """The points that a ticket has visited, in order, each as often as its effect is there."""
        return self.sql("SELECT point FROM omformmodel_effect WHERE number = %s ORDER BY id", number)

    def rows(self):
        return self.sql("SELECT id FROM omflow_queuedata ORDER BY id")

    def insert(self, *points, number=1, **param):
        """A waiting step, as a web process leaves it behind. Returns its primary key."""
        self.sql("INSERT INTO omformmodel_ticket (number, closed, error) SELECT %s, false, '' WHERE NOT EXISTS "
                 "(SELECT 1 FROM omformmodel_ticket WHERE number = %s)", number, number)
        param = dict({"flow_uuid": FLOW, "table_uuid": FLOW, "data_no": number, "points": list(points)}, **param)
        return self.sql("INSERT INTO omflow_queuedata (queue_id, name, module_name, method_name, input_param) VALUES (%s, 'FormFlow', %s, 'main', %s) "
                        "RETURNING id", "%s%s%s" % (FLOW, number, points[0]), "omformflow.production.%s.1.main" % FLOW, json.dumps(param))[0]

    def item(self, row):
        queue_id, name, module, method, param = self.sql(
            "SELECT queue_id, name, module_name, method_name, input_param FROM omflow_queuedata WHERE id = %s", row)[0]
        return {"row": row, "queue_id": queue_id, "name": name, "module_name": module, "method_name": method, "input_param": param}

    def eventually(self, condition, what="it"):
        """Waits until condition() is true and returns what it said."""
        end = time.monotonic() + PATIENCE
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                self.fail("%s did not happen in %d s" % (what, PATIENCE))
            time.sleep(0.02)


class Child:
    """A process whose lines of standard output can be waited for."""

    def __init__(self, case, command, cwd, env):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        case.addCleanup(self.end)

    def read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line.decode()))
        self.lines.put(None)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.reader.join(PATIENCE)
        self.process.stdout.close()
        self.log.close()

    def errors(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def tell(self, **message):
        self.process.stdin.write(json.dumps(message).encode() + b"\n")
        self.process.stdin.flush()

    def hear(self, patience=PATIENCE):
        try:
            message = self.lines.get(timeout=patience)
        except queue.Empty:
            raise AssertionError("no answer in %d s; its log:\n%s" % (patience, self.errors())) from None
        if message is None:
            raise AssertionError("it has ended; its log:\n" + self.errors())
        return message


class Runner(Child):
    """A runner, with the test in the place of the worker."""

    def __init__(self, case, home=None, **settings):
        home = home or case.home
        super().__init__(case, [sys.executable, "-m", "omflow_booster.runner"], home.path, home.environment(**settings))
        self.case = case
        ready = self.hear()
        case.assertEqual((ready["op"], ready["protocol"]), ("ready", 1))

    def run(self, row, lease=60.0, attempt=1, item=None, **more):
        """Hands over the step of a row. Returns its identity."""
        step = "q%d" % row
        self.tell(op="run", id=step, attempt=attempt, key="", deadline=int((time.time() + lease) * 1000), item=item or self.case.item(row), **more)
        return step

    def answer(self):
        """What becomes of the step; every put on the way is stored. Returns the message, with the rows that were put as "rows"."""
        rows = []
        while True:
            message = self.hear()
            if message["op"] != "put":
                return dict(message, rows=rows)
            rows += [item["row"] for item in message["items"]]
            self.tell(op="stored", id=message["id"], n=message["n"], ids=["q%d" % row for row in rows])

    def step(self, row, **how):
        self.run(row, **how)
        return self.answer()

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)


class Web(Child):
    """A web process of a server: it evaluates Python expressions that the test sends."""

    CODE = r"""
import json, os, sys
out = os.fdopen(os.dup(1), "w"); os.dup2(2, 1)
sys.argv = ["manage.py", "runserver", "--noreload"]
import django
django.setup()
from omflow import engine
print("null", file=out, flush=True)
for line in sys.stdin:
    scope = {}
    exec("import django, json, time, datetime\nfrom omflow import engine\n" + json.loads(line)["code"], scope)
    print(json.dumps(scope.get("result"), default=str), file=out, flush=True)
"""

    def __init__(self, case, home=None, **settings):
        home = home or case.home
        super().__init__(case, [sys.executable, "-c", self.CODE], home.path, home.environment(**settings))
        super_hear = self.lines.get(timeout=PATIENCE)
        case.assertIsNone(super_hear, self.errors())

    def read(self):
        for line in self.process.stdout:
            self.lines.put(None if line == b"null\n" else json.loads(line.decode()))
        self.lines.put("the process has ended")

    def do(self, code):
        """Executes statements there; returns what they leave in result."""
        self.tell(code=code)
        return self.lines.get(timeout=PATIENCE)
