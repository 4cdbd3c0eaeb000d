"""The plugin in web processes of the stand-in: what it takes from the server, and what it must not take from its users."""
import http.server
import json
import os
import socket
import socketserver
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import FLOW, Case, Runner, Web  # noqa: E402

PUT_JOB = {"module_name": "omflow.syscom.schedule_monitor", "method_name": "put_flow_job"}


class FakeWorker:
    """The worker's socket, answered by the test with reply(batch), a status and a body: it notes the items."""

    def __init__(self, case, home, reply=lambda batch: (200, {"items": []})):
        self.items = items = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                batch = json.loads(self.rfile.read(int(self.headers["Content-Length"])).decode())
                answer = reply(batch)
                items.extend(batch)
                self.answer(*answer)

            def do_GET(self):
                self.answer(200, {"booster_connected": True, "slots": 4})

            def answer(self, status, body):
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def address_string(self):
                return "web"

            def log_message(self, *args):
                pass

        class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
            daemon_threads = True

        server = Server(home.socket, Handler)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        case.addCleanup(server.server_close)
        case.addCleanup(server.shutdown)


class PutTest(Case):
    """putQueue hands the row that was just inserted to the local worker."""

    def test_row_of_the_step(self):
        worker, web = FakeWorker(self, self.home), Web(self)
        for number in range(1, 6):
            web.do("engine.file(%d, 'a', 'b')" % number)
        self.eventually(lambda: len(worker.items) == 5, "the hand-over")
        self.assertEqual(worker.items, [self.item(row) for row in self.rows()])

    def test_equal_queue_ids_are_told_apart(self):
        """One ticket, two rows with the same queue_id, put in the other order by two threads."""
        worker, web = FakeWorker(self, self.home), Web(self)
        web.do("""
import threading
first_inserted, second_put = threading.Event(), threading.Event()
def first():
    original = engine.FormFlowMonitor.putQueue
    row = engine.QueueData.objects.create(queue_id="same", name="FormFlow", module_name="m", method_name="main", input_param='{"by": "first"}')
    first_inserted.set(); second_put.wait()
    engine.FormFlowMonitor.putQueue("m", "main", {"by": "first"})
thread = threading.Thread(target=first); thread.start()
first_inserted.wait()
engine.QueueData.objects.create(queue_id="same", name="FormFlow", module_name="m", method_name="main", input_param='{"by": "second"}')
engine.FormFlowMonitor.putQueue("m", "main", {"by": "second"})
second_put.set(); thread.join()
""")
        self.eventually(lambda: len(worker.items) == 2, "the hand-over")
        self.assertEqual([(item["row"], json.loads(item["input_param"])["by"]) for item in worker.items], [(2, "second"), (1, "first")])

    def test_parameter_that_changed_after_the_insert(self):
        """What runs is what was put into the queue, also if the row is all that is left."""
        worker, web = FakeWorker(self, self.home), Web(self)
        web.do("""
engine.QueueData.objects.create(queue_id="x", name="FormFlow", module_name="m", method_name="main", input_param='{"a": 1, "b": 2}')
engine.FormFlowMonitor.putQueue("m", "main", {"a": 1})""")
        self.eventually(lambda: worker.items, "the hand-over")
        self.assertEqual(json.loads(worker.items[0]["input_param"]), {"a": 1})
        self.assertEqual(self.sql("SELECT input_param FROM omflow_queuedata"), ['{"a": 1}'])

    def test_put_without_a_row_gets_one(self):
        worker, web = FakeWorker(self, self.home), Web(self)
        web.do("from omflow.syscom.q_monitor import SchedulerMonitor, LoadBalanceMonitor\n"
               "SchedulerMonitor.putQueue('m', 'f', None); LoadBalanceMonitor.putQueue('m', 'g', {})")
        self.eventually(lambda: len(worker.items) == 2, "the hand-over")
        self.assertEqual(worker.items, [self.item(row) for row in self.rows()])
        self.assertEqual([item["name"] for item in worker.items], ["Scheduler", "LoadBalance"])

    def test_put_in_a_transaction_waits_for_its_commit(self):
        worker, web = FakeWorker(self, self.home), Web(self)
        web.do("""
from django.db import transaction
try:
    with transaction.atomic():
        engine.file(1, 'a'); raise ValueError
except ValueError:
    pass
with transaction.atomic():
    engine.file(2, 'a')""")
        self.eventually(lambda: worker.items, "the hand-over")
        self.assertEqual([item["row"] for item in worker.items], self.rows())

    def test_nobody_waits_for_a_worker_that_hangs(self):
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(self.home.socket)
        listener.listen(1)  # takes the connection, and never answers
        web = Web(self, BOOSTER_PUT_TIMEOUT="10")
        took = web.do("began = time.monotonic()\nfor number in range(20): engine.file(number, 'a')\nresult = time.monotonic() - began")
        self.assertLess(took, 10, "twenty tickets, the first of which would have waited for ten seconds")
        self.assertEqual(len(self.rows()), 20)

    def test_worker_that_comes_back(self):
        web = Web(self)
        web.do("engine.file(1, 'a')")
        self.eventually(lambda: "worker does not take steps" in web.errors(), "the warning")
        worker = FakeWorker(self, self.home)

        def file():
            web.do("engine.file(2, 'a')")
            time.sleep(0.2)
            return worker.items

        self.eventually(file, "the hand-over")

    def test_only_what_was_not_queued_is_sent_again(self):
        """One item is wrong, one is not queued at first; the others of the batch are not sent twice."""
        refused = []

        def reply(batch):
            answers = []
            for item in batch:
                if item["row"] == 3:
                    answers.append({"id": "q3", "queued": False, "error": "malformed item"})
                elif item["row"] == 4 and not refused:
                    refused.append(item)
                    answers.append({"id": "q4", "queued": False})
                else:
                    answers.append({"id": "q%d" % item["row"], "queued": True})
            return (503 if len(refused) == 1 else 202), {"items": answers}

        worker, web = FakeWorker(self, self.home, reply), Web(self)
        web.do("from django.db import transaction\n"
               "with transaction.atomic():\n for number in range(1, 7): engine.file(number, 'a')")
        self.eventually(lambda: len(worker.items) >= 7, "the hand-over")
        web.do("engine.file(7, 'a')")
        self.eventually(lambda: [item["row"] for item in worker.items].count(7), "the next hand-over")
        rows = [item["row"] for item in worker.items]
        self.assertEqual((sorted(rows), rows.count(4)), ([1, 2, 3, 4, 4, 5, 6, 7], 2))
        self.assertIn("step of row 3: malformed item", web.errors())
        self.assertNotIn("does not take steps", web.errors())

    def test_worker_of_before_that_refuses_a_batch_for_one_item(self):
        taken = []

        def reply(batch):
            if any(item["row"] == 3 for item in batch):
                return 400, {"error": "malformed item"}
            taken.extend(item["row"] for item in batch)
            return 200, {"items": [{"id": "q%d" % item["row"], "queued": True} for item in batch]}

        web = Web(self)
        FakeWorker(self, self.home, reply)
        web.do("from django.db import transaction\n"
               "with transaction.atomic():\n for number in range(1, 7): engine.file(number, 'a')")
        self.eventually(lambda: len(taken) == 5, "the hand-over")
        self.assertEqual(sorted(taken), [1, 2, 4, 5, 6])
        self.assertNotIn("does not take steps", web.errors())

    def test_large_parameter_stays_in_the_row(self):
        worker, web = FakeWorker(self, self.home), Web(self)
        web.do("engine.FormFlowMonitor.putQueue('m', 'f', {'text': 'x' * 5000000})")
        self.eventually(lambda: worker.items, "the hand-over")
        self.assertEqual(sorted(worker.items[0]), ["method_name", "module_name", "name", "queue_id", "row"])
        self.assertEqual(self.sql("SELECT length(input_param) FROM omflow_queuedata"), [5000012])

    def test_start_puts_nothing_into_the_queue_again(self):
        self.insert("a")
        worker, web = FakeWorker(self, self.home), Web(self)
        web.do("engine.file(2, 'a')")
        self.eventually(lambda: worker.items, "the hand-over")
        self.assertEqual([item["row"] for item in worker.items], [2])
        self.assertEqual(web.do("result = engine.FormFlowMonitor.original"), [])


class CollectorTest(Case):
    def test_what_waits_at_the_start_is_put_once(self):
        """ommonitor has a table of its own for what a collector computes, and puts all of it into the queue at the start."""
        for number in (1, 2):
            self.sql("INSERT INTO ommonitor_loadbalancequeuedata (module_name, method_name, input_param) VALUES ('omformflow.production.points', 'computes', %s)",
                     json.dumps({"data_no": number}))
        for _ in range(2):  # two processes, or two starts
            Web(self, STANDIN_TYPE="collector")
            self.assertEqual(self.sql("SELECT name, module_name, method_name, input_param FROM omflow_queuedata ORDER BY id"), [
                ("LoadBalance", "omformflow.production.points", "computes", json.dumps({"data_no": number})) for number in (1, 2)])
        runner = Runner(self)
        for row in self.rows():
            self.assertEqual(runner.step(row)["op"], "done")
        self.assertEqual((self.effects(1), self.effects(2)), (["computed"], ["computed"]))


class IdleTest(Case):
    def test_web_process_sleeps(self):
        web = Web(self)
        used = web.do("""
import resource
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
before = used(); time.sleep(3); result = (used() - before) / 3""")
        self.assertLess(used, 0.05, "part of a core that a process without work uses; the server's own threads use a third")
        self.assertEqual(web.do("import threading\nresult = sorted(thread.name for thread in threading.enumerate())"), ["MainThread", "omflow_booster"])
        self.assertEqual(web.do("from omflow.syscom.schedule_base import OmSchedule\nOmSchedule.jobs.append(1)\nresult = OmSchedule.jobs"), [])


class CacheTest(Case):
    """What is deployed or set on one server is known on the others."""

    def test_flows_and_parameters(self):
        web = Web(self, BOOSTER_RELOAD="0.1")
        look = "from omflow.global_obj import FlowActiveGlobalObject as F, GlobalObject as G\n" \
               "result = [sorted((u, f.version, f.is_active) for u, f in F.flowactive.items()), sorted(G.__OmParameter__.items())]"
        self.assertEqual(web.do(look), [[[FLOW, 1, True]], []])
        for statement, flows, parameters in (
                ("INSERT INTO omformflow_omparameter (name, value) VALUES ('limit', '5')", [[FLOW, 1, True]], [["limit", "5"]]),
                ("UPDATE omformflow_omparameter SET value = '6'", [[FLOW, 1, True]], [["limit", "6"]]),
                ("UPDATE omformflow_flowactive SET version = 2", [[FLOW, 2, True]], [["limit", "6"]]),
                ("UPDATE omformflow_flowactive SET is_active = false", [[FLOW, 2, False]], [["limit", "6"]]),
                ("UPDATE omformflow_flowactive SET undeploy_flag = true", [], [["limit", "6"]]),
                ("DELETE FROM omformflow_omparameter", [], [])):
            self.sql(statement)
            self.eventually(lambda: web.do(look) == [flows, parameters], statement)


    def test_request_that_waits_for_a_connection_holds_up_no_other(self):
        self.assertTrue(Web(self, BOOSTER_RELOAD="3600").do(
            "import threading\n"
            "from django.db import connection\n"
            "from omflow_booster.caches import of_process\n"
            "waits, end, caches = threading.Event(), threading.Event(), of_process()\n"
            "def hang():\n"
            "    waits.set()\n"
            "    end.wait()\n"
            "    raise OSError('the end')\n"
            "def wait():\n"
            "    connection.connect = hang\n"
            "    try:\n"
            "        caches.refresh()\n"
            "    except OSError:\n"
            "        pass\n"
            "hanging = threading.Thread(target=wait, daemon=True)\n"
            "hanging.start()\n"
            "waits.wait()\n"
            "free = caches.lock.acquire(timeout=5)\n"
            "end.set()\n"
            "result = free"))


class ScheduleTest(Case):
    """A schedule fires once, wherever servers are and whatever is down."""

    def schedule(self, cycle, ago, every=1, days="[]", last=None, function=PUT_JOB, **param):
        """A schedule whose exec_time was so many seconds ago."""
        param = param or {"module_name": "omformflow.production.points", "method_name": "woken", "number": 1}
        return self.sql("INSERT INTO omflow_scheduler (exec_time, every, cycle, cycle_date, exec_fun, input_param, is_active, last_exec_time) VALUES "
                        "(now() AT TIME ZONE 'UTC' - %s * interval '1 second', %s, %s, %s, %s, %s, true, %s) RETURNING id",
                        ago, str(every), cycle, days, json.dumps(function), json.dumps(param), last)[0]

    def names(self):
        return self.sql("SELECT module_name || '.' || method_name FROM omflow_queuedata ORDER BY id")

    def web(self, home=None):
        return Web(self, home, BOOSTER_SCHEDULE="0.1")

    def test_three_servers_and_one_schedule(self):
        webs = [self.web(self.new_home()) for _ in range(3)]
        for number in range(1, 11):
            self.schedule("Once", 0, module_name="omformflow.production.points", method_name="woken", number=number)
        self.eventually(lambda: not self.sql("SELECT id FROM omflow_scheduler WHERE is_active"), "the schedules")
        time.sleep(1)
        self.assertEqual(len(self.rows()), 10, [web.errors() for web in webs])
        runner = Runner(self)
        for row in self.rows():
            self.assertEqual(runner.step(row)["op"], "done")
        self.assertEqual(sorted(self.sql("SELECT number FROM omformmodel_effect")), list(range(1, 11)))

    def test_due_while_everything_was_down(self):
        """An hour of minutes was missed: it fires once, and goes on as before."""
        self.schedule("Minutely", 7200)
        self.schedule("Once", 7200)
        web = self.web()
        self.eventually(lambda: len(self.rows()) == 2, "the schedules")
        time.sleep(1)
        self.assertEqual(self.names(), ["omformflow.production.points.woken"] * 2, web.errors())
        Web(self, BOOSTER_SCHEDULE="0.1")  # a restart changes nothing
        time.sleep(1)
        self.assertEqual(len(self.rows()), 2)

    def test_seconds(self):
        self.schedule("Secondly", 0)
        web = self.web()
        self.eventually(lambda: len(self.rows()) >= 3, "the schedule")
        web.end()
        count = len(self.rows())
        time.sleep(1.5)
        self.assertEqual(len(self.rows()), count)

    def test_schedule_made_in_a_runner(self):
        self.web()
        self.assertEqual(Runner(self).step(self.insert("sleeps"))["op"], "done")
        self.eventually(lambda: self.names() == ["omformflow.production.points.woken"], "the schedule")

    def test_other_function_than_the_usual_one(self):
        self.schedule("Once", 0, function={"module_name": "omformflow.production.points", "method_name": "scheduled"})
        self.web()
        row = self.eventually(self.rows, "the schedule")[0]
        self.assertEqual(Runner(self).step(row)["op"], "done")
        self.assertEqual(self.effects(), ["scheduled"])

    def test_schedule_that_makes_no_sense_stops_no_other(self):
        self.schedule("Yearly", 0)
        self.schedule("Daily", 0, every="often")
        self.schedule("Once", 0, function={"module_name": "m"})
        self.sql("UPDATE omflow_scheduler SET exec_fun = 'no JSON' WHERE id = %s", self.schedule("Once", 0))
        self.schedule("Once", 0)
        web = self.web()
        self.eventually(self.rows, "the schedule")
        time.sleep(0.5)
        self.assertEqual((len(self.rows()), web.errors().count("unknown cycle 'Yearly'")), (1, 1), "said once")


class PageTest(Case):
    GET = """
from django.test import Client
from django.contrib.auth.models import User
client = Client()
def get(path):
    answer = client.get(path)
    return [answer.status_code, answer.content.decode()]
"""

    def test_health(self):
        web = Web(self)
        self.insert("a")
        status, body = web.do(self.GET + "result = get('/booster/health/')")
        health = json.loads(body)
        self.assertEqual((status, health["database"], health["waiting"]), (200, "ok", 1), "healthy without a worker: tickets can be filed")
        self.assertNotEqual(health["worker"], "ok")
        FakeWorker(self, self.home)
        health = json.loads(web.do(self.GET + "result = get('/booster/health/')")[1])
        self.assertEqual((health["worker"], health["booster"]), ("ok", "ok"))
        self.assertEqual(web.do(self.GET + "result = get('/page/')"), [200, "a page of the server"])

    def test_health_without_a_database(self):
        web = Web(self)
        self.sql("ALTER TABLE omflow_queuedata RENAME TO gone")
        self.assertEqual(web.do(self.GET + "result = get('/booster/health/')")[0], 503)

    def test_overview_is_for_superusers(self):
        FakeWorker(self, self.home)
        web = Web(self, BOOSTER_IP="10.1.2.3")
        self.assertEqual(web.do(self.GET + "result = get('/booster/')")[0], 302)
        login = self.GET + "client.force_login(User.objects.create(username='x%d', is_superuser=%s))\nresult = get('/booster/')"
        self.assertEqual(web.do(login % (1, False))[0], 403)
        status, body = web.do(login % (2, True))
        self.assertEqual(status, 200)
        self.assertIn("10.1.2.3:5169", body)
        self.assertIn("slots", body)


if __name__ == "__main__":
    unittest.main()
