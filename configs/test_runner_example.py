"""Talks to runner_example.py as a worker does. Run: python3 -m unittest discover -s configs"""
import json
import os
import subprocess
import sys
import threading
import time
import unittest

RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "runner_example.py")
PATIENCE = 20  # seconds, for things that take milliseconds


class RunnerExampleTest(unittest.TestCase):
    def setUp(self):
        self.runner = subprocess.Popen([sys.executable, RUNNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
        timer = threading.Timer(PATIENCE, self.runner.kill)  # ends every read of a test that would hang
        timer.start()
        self.addCleanup(self.end, timer)
        self.assertEqual(self.hear(), {"op": "ready", "protocol": 1, "name": "example"})

    def end(self, timer):
        timer.cancel()
        self.runner.kill()
        self.runner.wait()
        for pipe in (self.runner.stdin, self.runner.stdout, self.runner.stderr):
            pipe.close()

    def tell(self, **message):
        self.runner.stdin.write(json.dumps(message).encode() + b"\n")
        self.runner.stdin.flush()

    def hear(self):
        return json.loads(self.runner.stdout.readline().decode())

    def run_step(self, param, lease=60.0, step="q1"):
        item = {"row": 1, "queue_id": "x", "name": "Test", "module_name": "m", "method_name": "main", "input_param": param}
        self.tell(op="run", id=step, attempt=1, key="flow/1", deadline=int((time.time() + lease) * 1000), item=item)

    def test_done(self):
        for step in ("q1", "q2"):
            self.run_step({}, step=step)
            self.assertEqual(self.hear(), {"op": "done", "id": step})

    def test_failed_step_leaves_the_runner_alive(self):
        self.run_step({"fail": "no such form"})
        self.assertEqual(self.hear(), {"op": "failed", "id": "q1", "error": "ValueError: no such form"})
        self.run_step({}, step="q2")
        self.assertEqual(self.hear(), {"op": "done", "id": "q2"})

    def test_prints_go_to_standard_error(self):
        self.run_step(json.dumps({"sleep": 0.01}))  # JSON text, as OMFLOW stores it
        self.assertEqual(self.hear(), {"op": "done", "id": "q1"})
        rest, errors = self.runner.communicate()
        self.assertEqual(rest, b"")
        self.assertIn(b'running m.main({"sleep": 0.01})', errors)

    def test_unknown_message_is_ignored(self):
        self.tell(op="of the future")
        self.run_step({})
        self.assertEqual(self.hear(), {"op": "done", "id": "q1"})

    def test_gives_up_when_the_lease_passes(self):
        self.run_step({"sleep": 60}, lease=0.2)
        answer = self.hear()
        self.assertEqual((answer["op"], answer["error"].split(":")[0]), ("failed", "LeaseLost"))

    def test_does_nothing_with_a_lease_that_has_passed(self):
        self.run_step({"fail": "it ran"}, lease=-1)
        self.assertIn("LeaseLost", self.hear()["error"])

    def test_goes_on_when_the_lease_is_renewed(self):
        began = time.time()
        self.run_step({"sleep": 1}, lease=0.5)
        self.tell(op="renew", id="q1", deadline=int((began + 60) * 1000))
        self.assertEqual(self.hear(), {"op": "done", "id": "q1"})
        self.assertGreaterEqual(time.time() - began, 1)

    def test_ignores_the_renewal_of_another_step(self):
        self.run_step({"sleep": 60}, lease=0.3)
        self.tell(op="renew", id="q99", deadline=int((time.time() + 60) * 1000))
        self.assertIn("LeaseLost", self.hear()["error"])

    def test_ends_at_the_end_of_input(self):
        self.runner.stdin.close()
        self.assertEqual(self.runner.wait(PATIENCE), 0)

    def test_gives_up_a_running_step_at_the_end_of_input(self):
        self.run_step({"sleep": 60})
        self.runner.stdin.close()
        self.assertEqual(self.hear()["op"], "failed")
        self.assertEqual(self.runner.wait(PATIENCE), 0)


if __name__ == "__main__":
    unittest.main()
