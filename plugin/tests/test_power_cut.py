"""A step that does not wait for the disk (RUNNER_SYNCHRONOUS_COMMIT=off), and a database that loses what was not on it."""
import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import harness  # noqa: E402
from harness import Case, Runner  # noqa: E402


class Cluster:
    """A PostgreSQL of its own that syncs, and writes what it need not sync as late as it can."""

    def __init__(self, case):
        self.directory = tempfile.mkdtemp(prefix="power-cut-", dir="/tmp")  # the user postgres must get there
        case.addCleanup(shutil.rmtree, self.directory, True)
        self.bin = max(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[-2]), default="") or subprocess.run(
            ["pg_config", "--bindir"], stdout=subprocess.PIPE, check=True).stdout.decode().strip()
        self.prefix = []
        if os.geteuid() == 0:  # PostgreSQL refuses to be root
            shutil.chown(self.directory, "postgres")
            self.prefix = ["runuser", "-u", "postgres", "--"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.data = os.path.join(self.directory, "data")
        self.run("initdb", "--pgdata", self.data, "--username", "tester", "--auth", "trust", "--encoding", "UTF8", "--locale", "C")
        settings = {"listen_addresses": "'127.0.0.1'", "port": self.port, "unix_socket_directories": "'%s'" % self.directory, "fsync": "on",
                    "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off", "bgwriter_delay": "10s"}
        with open(os.path.join(self.data, "postgresql.conf"), "a") as file:
            file.writelines("%s = %s\n" % setting for setting in settings.items())
        self.start()
        case.addCleanup(self.cut)

    def run(self, program, *arguments):
        subprocess.run(self.prefix + [os.path.join(self.bin, program)] + list(arguments), cwd=self.directory, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def start(self):
        self.run("pg_ctl", "--pgdata", self.data, "--log", os.path.join(self.directory, "log"), "--wait", "start")

    def cut(self):
        """What was not written is gone."""
        subprocess.run(self.prefix + [os.path.join(self.bin, "pg_ctl"), "--pgdata", self.data, "--mode", "immediate", "--wait", "stop"],
                       cwd=self.directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class PowerCutTest(Case):
    def setUp(self):
        self.cluster = Cluster(self)
        self.addCleanup(setattr, harness, "SERVER", harness.SERVER)
        self.addCleanup(lambda name: setattr(harness.template, "name", name) if name else delattr(harness.template, "name"),
                        getattr(harness.template, "name", None))
        harness.SERVER = harness.SERVER._replace(netloc="tester:none@127.0.0.1:%d" % self.cluster.port)
        if hasattr(harness.template, "name"):
            del harness.template.name
        super().setUp()

    def cut_and_start(self):
        self.cluster.cut()
        self.cluster.start()
        self.connection.close()
        self.connection = harness.connect(self.database)

    def test_steps_come_back_and_happen_once(self):
        """The row of a step that was lost is there again; a message that was acknowledged for it is not missed, because rows without a message are queued again."""
        runner = Runner(self, RUNNER_SYNCHRONOUS_COMMIT="off")
        row = self.insert("a", "b", "c")
        self.sql("CHECKPOINT")
        follower, = runner.step(row)["rows"]
        lost = self.item(follower)
        self.assertEqual(runner.step(follower)["op"], "done")
        self.assertEqual(self.effects(), ["a", "b"])
        self.cut_and_start()
        self.assertEqual((self.effects(), self.rows()), ([], [row]), "nothing of it was on the disk")
        answer = runner.step(follower, item=lost)  # a message that the Booster still has, about a row that is not there
        self.assertEqual((answer["op"], answer.get("skipped")), ("done", True))
        while self.rows():  # what the reconciler does
            for waiting in self.rows():
                self.assertEqual(runner.step(waiting)["op"], "done")
        self.assertEqual(self.effects(), ["a", "b", "c"])

    def test_without_the_setting_nothing_is_lost(self):
        runner = Runner(self)
        row = self.insert("a", "b")
        follower, = runner.step(row)["rows"]
        self.cut_and_start()
        self.assertEqual((self.effects(), self.rows()), (["a"], [follower]))
        self.assertEqual(json.loads(self.item(follower)["input_param"])["points"], ["b"])

    def test_setting_that_is_neither(self):
        runner = subprocess.run([sys.executable, "-m", "omflow_booster.runner"], cwd=self.home.path, stdin=subprocess.DEVNULL,
                                env=self.home.environment(RUNNER_SYNCHRONOUS_COMMIT="sometimes"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertNotEqual(runner.returncode, 0)
        self.assertIn(b"RUNNER_SYNCHRONOUS_COMMIT: 'sometimes' is not one of on, off", runner.stderr)


if __name__ == "__main__":
    unittest.main()
