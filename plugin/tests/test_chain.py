"""The whole chain: web processes of the stand-in, the real worker with real runners, a real Booster, one database. Things are killed."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import PLUGIN, Case, Web  # noqa: E402


def binary():
    """The program under test: what test.sh has built, or one built here."""
    if not hasattr(binary, "path"):
        binary.path = os.environ.get("TEST_BINARY")
        if not binary.path:
            directory = tempfile.mkdtemp(prefix="omflow-booster-")
            unittest.addModuleCleanup(shutil.rmtree, directory)
            binary.path = os.path.join(directory, "omflow-booster")
            subprocess.run(["go", "build", "-buildvcs=false", "-o", binary.path, "."], cwd=os.path.dirname(PLUGIN), check=True)
    return binary.path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


class Service:
    """A service of ours as a process that can be killed and started again."""

    def __init__(self, case, name, **env):
        self.name, self.log = name, tempfile.TemporaryFile()
        self.env = dict(os.environ, LOG_FORMAT="json", **env)
        self.process = None
        case.addCleanup(self.log.close)
        case.addCleanup(self.kill)
        self.start()

    def start(self):
        self.process = subprocess.Popen([binary(), self.name], env=self.env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def lines(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def children(self):
        """The process ids of its children that live."""
        out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], stdout=subprocess.PIPE, check=False).stdout
        return [int(pid) for pid in out.split()]


class ChainTest(Case):
    def setUp(self):
        super().setUp()
        self.port, self.cluster, self.http = free_port(), free_port(), free_port()
        self.data = tempfile.mkdtemp(prefix="omflow-booster-data-")
        self.addCleanup(shutil.rmtree, self.data, True)

    def booster(self):
        return Service(self, "broker", BOOSTER_PORT=self.port, BOOSTER_CLUSTER_PORT=self.cluster, BOOSTER_HTTP_PORT=self.http,
                       BOOSTER_DATA_DIR=self.data)

    def server(self, home=None, **more):
        """A server's home with the Booster in its settings, and its worker, which is told OMFLOW_HOME and OMFLOW_PYTHON only."""
        home = home or self.new_home()
        with open(os.path.join(home.path, "omflow", "settings.py"), "a") as settings:
            settings.write('\nBOOSTER_IP = "127.0.0.1"\nBOOSTER_PORT = %s\nWORKER_SOCKET = %r\n' % (self.port, home.socket))
        env = {name: value for name, value in home.environment().items() if name in ("OMFLOW_HOME", "OMFLOW_PYTHON", "PYTHONPATH", "STANDIN_DATABASE")}
        return home, Service(self, "worker", WORKER_SLOTS="1", WORKER_RETRY_BASE="200ms",
                             WORKER_NAME="worker-%s" % os.path.basename(home.directory), **dict(env, **dict({"WORKER_RECONCILE": "1s"}, **more)))

    def closed(self):
        return self.sql("SELECT count(*) FROM omformmodel_ticket WHERE closed")[0]

    def check(self, tickets, points):
        """Everything is done, once."""
        self.assertEqual(self.rows(), [])
        self.assertEqual(self.sql("SELECT count(*) FROM omformmodel_effect"), [tickets * points])
        self.assertEqual(self.sql("SELECT number, point FROM omformmodel_effect GROUP BY number, point HAVING count(*) > 1"), [])
        self.assertEqual(self.sql("SELECT error FROM omformmodel_ticket WHERE error <> ''"), [])

    def test_steps_too_large_for_a_message(self):
        """From the web process to the worker, and from a step to the next one: nobody looks for rows here."""
        self.booster()
        home, worker = self.server(WORKER_RECONCILE="1h")
        self.eventually(lambda: "worker ready" in worker.lines(), "the worker")
        Web(self, home).do("engine.Ticket.objects.create(number=1)\n"
                           "engine.queue({'flow_uuid': engine.FLOW, 'table_uuid': engine.FLOW, 'data_no': 1, 'points': ['a', 'b'], 'text': 'x' * 6000000})")
        self.eventually(lambda: self.closed() == 1, "the last step")
        self.check(1, 2)
        self.eventually(lambda: self.sql("SELECT count(*) FROM omflow_booster_history WHERE outcome = 'done'") == [2], "the history")

    def test_kills_on_the_way(self):
        """Tickets filed on three servers, while a worker, a runner and the Booster are killed."""
        booster = self.booster()
        servers = [self.server() for _ in range(3)]
        webs = [Web(self, home) for home, _ in servers]
        for part in range(4):
            for i, web in enumerate(webs):
                web.do("for number in range(%d, %d): engine.file(number, 'a', 'b', 'c', 'd')" % (part * 30 + i * 10, part * 30 + i * 10 + 10))
            before = self.closed()
            self.eventually(lambda: self.closed() > before, "that steps run")
            if part == 0:
                servers[0][1].kill()
                servers[0][1].start()
            elif part == 1:
                os.kill(self.eventually(servers[1][1].children, "a runner")[0], signal.SIGKILL)
            elif part == 2:
                booster.kill()
                booster.start()
        self.eventually(lambda: self.closed() == 120, "the end of every ticket")
        self.check(120, 4)
        self.assertEqual(len(self.sql("SELECT DISTINCT worker FROM omflow_booster_history WHERE outcome = 'done'")), 3, "every server ran steps")
        self.assertEqual(self.sql("SELECT work_id FROM omflow_booster_history WHERE outcome = 'dead'"), [])

    def test_everything_is_away_while_tickets_are_filed(self):
        """No Booster, no worker; one ticket's web process even died between the row and the put."""
        home = self.new_home()
        web = Web(self, home)
        web.do("for number in range(20): engine.file(number, 'a', 'b')")
        web.do("engine.Ticket.objects.create(number=20)\n"
               "engine.queue({'flow_uuid': engine.FLOW, 'table_uuid': engine.FLOW, 'data_no': 20, 'points': ['a', 'b']}, put=False)")
        web.end()
        self.booster()
        self.server(home)
        self.eventually(lambda: self.closed() == 21, "the end of every ticket")
        self.check(21, 2)

    def test_booster_is_away_for_a_minute(self):
        """People go on filing and moving tickets meanwhile, and none of them waits."""
        booster = self.booster()
        home, worker = self.server()
        web = Web(self, home)
        web.do("engine.file(0, 'a', 'b')")
        self.eventually(lambda: self.closed() == 1, "the first ticket")
        booster.kill()
        longest, end = 0, time.monotonic() + 60
        for number in range(1, 10000):
            longest = max(longest, web.do("began = time.monotonic(); engine.file(%d, 'a', 'b'); result = time.monotonic() - began" % number))
            if time.monotonic() > end:
                break
            time.sleep(0.2)
        self.assertLess(longest, 10.0, "seconds that somebody waited, of sixty")
        self.assertIsNone(worker.process.poll(), "the worker goes on without a Booster")
        booster.start()
        self.eventually(lambda: self.closed() == number + 1, "the end of every ticket")
        self.check(number + 1, 2)

    def test_schedule_of_three_servers_that_were_down(self):
        self.sql("INSERT INTO omflow_scheduler (exec_time, every, cycle, cycle_date, exec_fun, input_param, is_active) VALUES "
                 "(now() AT TIME ZONE 'UTC' - interval '1 hour', '1', 'Once', '[]', %s, %s, true)",
                 json.dumps({"module_name": "omflow.syscom.schedule_monitor", "method_name": "put_flow_job"}),
                 json.dumps({"module_name": "omformflow.production.points", "method_name": "woken", "number": 1}))
        self.booster()
        for home, _ in [self.server() for _ in range(3)]:
            Web(self, home)
        self.eventually(lambda: self.effects() == ["woken"], "the schedule")
        time.sleep(2)
        self.assertEqual(self.effects(), ["woken"])

    def test_step_that_kills_its_runner(self):
        """It costs its own tries, and nobody else's."""
        self.booster()
        home, worker = self.server(WORKER_MAX_ATTEMPTS="2")
        web = Web(self, home)
        web.do("engine.file(1, 'dies')\nfor number in range(2, 12): engine.file(number, 'a', 'b')")
        self.eventually(lambda: self.closed() == 10, "the other tickets")
        self.eventually(lambda: self.sql("SELECT attempt FROM omflow_booster_history WHERE outcome = 'dead'") == [2], "that it is given up on")
        self.assertEqual(len(self.rows()), 1, "its row stays: the step is not done")

    def test_code_that_is_deployed_while_runners_run(self):
        """Steps meet runners that have loaded the old code: none of it is lost, and none counts as a try."""
        self.booster()
        home, worker = self.server(WORKER_MAX_ATTEMPTS="1")
        web = Web(self, home)
        web.do("engine.file(1, 'a', 'b')")
        self.eventually(lambda: self.closed() == 1, "the first ticket")
        with open(os.path.join(home.path, "omformmodel", "models.py"), "a") as models:
            models.write("\n# a flow was deployed\n")
        web.do("for number in range(2, 12): engine.file(number, 'a', 'b')")
        self.eventually(lambda: self.closed() == 11, "the other tickets")
        self.check(11, 2)
        self.assertIn("has changed", worker.lines())

    def test_prints_and_errors_are_logged_with_their_step(self):
        self.booster()
        home, worker = self.server(WORKER_MAX_ATTEMPTS="1")
        Web(self, home).do("engine.file(1, 'fails'); engine.file(2, 'prints')")
        self.eventually(lambda: self.closed() == 1, "the ticket that prints")
        self.eventually(lambda: "no such form" in worker.lines(), "the error")
        line = next(line for line in worker.lines().splitlines() if "not ours" in line)
        self.assertEqual(json.loads(line)["work"], "q2")


if __name__ == "__main__":
    unittest.main()
