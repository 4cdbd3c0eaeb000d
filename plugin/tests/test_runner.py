"""The runner against the contract of the OMFLOW Server, with real Django and PostgreSQL; the test speaks for the worker."""
import json
import os
import random
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import FLOW, Case, Runner, Web, connect  # noqa: E402


class EffectTest(Case):
    """A step's effect is there once, and entirely, or not at all."""

    def test_step_and_what_follows(self):
        row = self.insert("a", "b")
        runner = Runner(self)
        step = runner.run(row)
        put = runner.hear()
        self.assertEqual(put["op"], "put")
        self.assertEqual(self.rows(), [put["items"][0]["row"]], "committed before the put: the old row is gone, the new one is there")
        self.assertEqual(put["items"][0], self.item(put["items"][0]["row"]))
        runner.tell(op="stored", id=step, n=put["n"], ids=["q2"])
        self.assertEqual(runner.hear(), {"op": "done", "id": step})
        self.assertEqual(runner.step(put["items"][0]["row"])["op"], "done")
        self.assertEqual(self.effects(), ["a", "b"])
        self.assertEqual(self.sql("SELECT closed FROM omformmodel_ticket"), [True])
        self.assertEqual(self.rows(), [])

    def test_what_follows_is_named_in_done(self):
        """If the worker says that it takes it there; a worker of the release before does not."""
        runner, row = Runner(self), self.insert("a", "b")
        item = self.item(row)
        runner.run(row, item=item, follow=True)
        done = runner.hear()
        self.assertEqual((done["op"], [item["row"] for item in done["items"]]), ("done", self.rows()))
        self.assertEqual(done["items"][0], self.item(self.rows()[0]))
        runner.run(self.rows()[0], follow=True)
        self.assertNotIn("items", runner.hear(), "nothing follows")
        runner.run(row, item=item, follow=True)
        self.assertEqual(runner.hear(), {"op": "done", "id": "q%d" % row, "skipped": True})
        self.assertEqual(self.effects(), ["a", "b"])

    def test_more_follows_than_fits_into_a_line(self):
        runner = Runner(self)
        step = runner.run(self.insert("many"), follow=True)
        put = runner.hear()
        self.assertEqual((put["op"], len(put["items"])), ("put", 200))
        runner.tell(op="stored", id=step, n=put["n"], ids=[])
        done = runner.hear()
        self.assertEqual((done["op"], len(done["items"])), ("done", 50))
        self.assertEqual([item["row"] for item in put["items"] + done["items"]], self.rows())

    def test_second_delivery_has_no_effect(self):
        row = self.insert("a")
        item, runner = self.item(row), Runner(self)
        for delivery in range(3):
            answer = runner.step(row, item=item)
            self.assertEqual((answer["op"], answer.get("skipped", False)), ("done", delivery > 0), "only one try is a line of the history")
        self.assertEqual(self.effects(), ["a"])

    def test_deliveries_out_of_order_and_twice(self):
        """What a bus may do at worst: each step comes twice, in any order, to any runner, and again when the ticket is long closed."""
        runners, chance = [Runner(self), Runner(self)], random.Random(1)
        known = {row: self.item(row) for row in [self.insert("a", "b", "c", number=number) for number in range(1, 9)]}
        fresh = list(known)
        while fresh:
            deliveries = fresh * 2 + chance.sample(sorted(known), len(known) // 2)
            chance.shuffle(deliveries)
            fresh = []
            for row in deliveries:
                answer = chance.choice(runners).step(row, item=known[row])
                self.assertEqual(answer["op"], "done")
                fresh += answer["rows"]
            known.update((row, self.item(row)) for row in fresh)
        self.assertEqual([self.effects(number) for number in range(1, 9)], [["a", "b", "c"]] * 8)
        self.assertEqual(self.rows(), [])

    def test_two_runners_have_it_at_once(self):
        runners = [Runner(self), Runner(self)]
        for number in range(1, 11):
            row = self.insert("a", "b", number=number)
            item = self.item(row)
            for runner in runners:
                runner.run(row, item=item)
            answers = [runner.answer() for runner in runners]
            self.assertEqual([answer["op"] for answer in answers], ["done", "done"])
            self.assertEqual(sum(len(answer["rows"]) for answer in answers), 1)
            self.assertEqual(self.effects(number), ["a"])

    def test_two_rows_with_one_queue_id(self):
        """The engine deletes none of them then; each is a step of its own all the same."""
        runner, rows = Runner(self), [self.insert("a"), self.insert("a")]
        for row in rows:
            self.assertEqual(runner.step(row)["op"], "done")
        self.assertEqual((self.effects(), self.rows()), (["a", "a"], []))

    def test_step_of_the_workers_own_outbox(self):
        self.sql("CREATE TABLE omflow_booster_outbox (id bigserial PRIMARY KEY, body text)")
        runner = Runner(self)
        item = {"queue_id": "", "name": "Other", "module_name": "omformflow.production.points", "method_name": "woken", "input_param": {"number": 1}}
        self.sql("INSERT INTO omflow_booster_outbox (body) VALUES (%s)", json.dumps(item))
        for _ in range(2):
            runner.tell(op="run", id="o1", attempt=1, key="", deadline=int((time.time() + 60) * 1000), item=item)
            self.assertEqual(runner.answer()["op"], "done")
        self.assertEqual(self.effects(), ["woken"])
        self.assertEqual(self.sql("SELECT id FROM omflow_booster_outbox"), [])

    def test_row_that_is_another_step_than_the_message(self):
        """A database that was set back gives a number again. What runs is what stands in it."""
        runner = Runner(self)
        stale = dict(self.item(self.insert("of before")), row=2)
        row = self.insert("now", number=2)
        self.assertEqual(runner.step(row, item=stale)["op"], "done")
        self.assertEqual((self.effects(1), self.effects(2)), ([], ["now"]))

    def test_step_of_any_size(self):
        """Its parameter travels in neither direction; it stands in the rows."""
        runner, text = Runner(self), "x" * 5000000
        row = self.insert("a", "b", text=text)
        item = self.item(row)
        del item["input_param"]
        step = runner.run(row, item=item)
        put = runner.hear()
        self.assertEqual((put["op"], len(put["items"]), "input_param" in put["items"][0]), ("put", 1, False))
        runner.tell(op="stored", id=step, n=put["n"], ids=["q2"])
        self.assertEqual(runner.hear()["op"], "done")
        self.assertEqual(self.effects(), ["a"])
        self.assertIn(text, self.sql("SELECT input_param FROM omflow_queuedata")[0])

    def test_refused_put_leaves_the_row_to_the_reconciler(self):
        runner = Runner(self)
        step = runner.run(self.insert("a", "b"))
        put = runner.hear()
        runner.tell(op="renew", id=step, deadline=int((time.time() + 60) * 1000))  # may come before the answer
        runner.tell(op="refused", id=step, n=put["n"], error="no Booster")
        self.assertEqual(runner.hear(), {"op": "done", "id": step})
        self.assertEqual(self.rows(), [put["items"][0]["row"]])

    def test_branches_that_meet(self):
        """In two transactions at once neither would see the other, and the ticket would wait for ever."""
        runners = [Runner(self), Runner(self)]
        for number in range(1, 4):
            for branch, runner in enumerate(runners):
                runner.run(self.insert("joins", number=number, branch=str(branch)))
            for runner in runners:
                self.assertEqual(runner.answer()["op"], "done")
            self.assertEqual(self.effects(number).count("joined"), 1)

    def test_end_of_input_rolls_back(self):
        runner = Runner(self)
        row = self.insert("waits", seconds=60)
        runner.run(row)
        self.eventually(lambda: "waiting" in runner.errors(), "the step")
        runner.process.stdin.close()
        self.assertEqual(runner.process.wait(30), 0)
        self.assertEqual((self.effects(), self.rows()), ([], [row]))


class EngineTest(Case):
    """Code that is written for autocommit does not notice the transaction around it."""

    def setUp(self):
        super().setUp()
        self.runner = Runner(self)

    def done(self, point):
        answer = self.runner.step(self.insert(point))
        self.assertEqual(answer["op"], "done", self.runner.errors())
        self.assertEqual(self.sql("SELECT error FROM omformmodel_ticket"), [""])
        self.assertEqual(self.rows(), [])
        return self.effects()

    def test_errors_that_are_caught(self):
        self.assertEqual(self.done("caught"), ["caught", "100% alive", "caught"])

    def test_atomic_blocks(self):
        self.assertEqual(self.done("blocks"), ["outer", "outer too", "blocks"])
        self.assertIn("committed", self.runner.errors())

    def test_statements_that_cannot_be_read(self):
        """Neither raw SQL with an error in it nor a value that no column takes undoes what was done before."""
        self.assertEqual(self.done("unreadable"), ["before", "between", "unreadable"])

    def test_constraints_at_the_end_of_each_statement(self):
        self.sql("CREATE TABLE made (effect bigint REFERENCES omformmodel_effect (id) DEFERRABLE INITIALLY DEFERRED)")
        self.assertEqual(self.done("constraints"), ["constraints", "linked"])
        self.assertEqual(self.sql("SELECT count(*) FROM made"), [1])

    def test_blocks_without_a_savepoint(self):
        self.assertEqual(self.done("blocks_without_savepoint"), ["kept", "blocks_without_savepoint"])

    def test_changes_of_tables(self):
        self.assertEqual(self.done("changes_tables"), ["changes_tables"])
        self.assertEqual(self.sql("SELECT id FROM made_by_step"), [1])

    def test_statements_that_the_session_keeps_ready(self):
        """They mean what they mean when they are sent as they are, also when their table has changed, a value does not fit, or the session has forgotten them."""
        self.assertEqual(self.done("repeats"), ["value", "no value", "too large: 0", "constraint", "still there", "repeats"])
        self.sql("TRUNCATE omformmodel_effect")
        self.sql("ALTER TABLE omformmodel_effect ALTER COLUMN point TYPE text")
        self.assertEqual(self.done("repeats"), ["value", "no value", "too large: 0", "constraint", "still there", "repeats"])
        self.sql("TRUNCATE omformmodel_effect")
        self.assertEqual(self.done("forgets"), ["forgotten", "forgets"])
        self.sql("TRUNCATE omformmodel_effect")
        self.assertEqual(self.done("repeats"), ["value", "no value", "too large: 0", "constraint", "still there", "repeats"])

    def test_no_statement_is_kept_for_debugging(self):
        self.assertEqual(self.done("counts_queries"), ["queries kept: 0", "counts_queries"])

    def test_one_heartbeat_thread(self):
        for number in range(3):
            self.runner.step(self.insert("counts_threads", number=number + 2))
        self.assertEqual(self.sql("SELECT DISTINCT note FROM omformmodel_effect WHERE note <> ''"), ["1"])

    def test_no_parallel_workers(self):
        self.assertEqual(self.done("asks_session"), ["parallel workers: 0", "asks_session"])

    def test_threads(self):
        self.assertEqual(self.done("threads"), ["thread", "threads"])

    def test_prints(self):
        self.assertEqual(self.done("prints"), ["prints"])
        for text in ('{"op":"done","id":"q1"}', "not ours", "from a child"):
            self.assertIn(text, self.runner.errors())

    def test_what_ends_a_transaction_does_not(self):
        row = self.insert("ends_transactions")
        self.assertEqual(self.runner.step(row)["error"], "RuntimeError: after all of it")
        self.assertEqual((self.effects(), self.rows()), ([], [row]))

    def test_errors_that_are_not_caught(self):
        for point, error in (("fails", "ValueError: no such form"), ("exits", "SystemExit: 3")):
            answer = self.runner.step(self.insert(point))
            self.assertEqual((answer["op"], answer["error"]), ("failed", error))
        self.assertIn("Traceback", self.runner.errors())
        self.assertEqual(self.runner.step(self.insert("a"))["op"], "done", "the runner lives on")

    def test_connection_that_the_database_closed(self):
        self.assertEqual(self.runner.step(self.insert("a"))["op"], "done")
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        self.assertEqual(self.runner.step(self.insert("a"))["op"], "done")

    def test_connection_that_is_lost_in_the_step(self):
        """The engine catches the error and marks the ticket, but nothing of the step is left, and it is tried again."""
        row = self.insert("waits", seconds=2)
        self.runner.run(row)
        self.eventually(lambda: "waiting" in self.runner.errors(), "the step")
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        answer = self.runner.answer()
        self.assertEqual((answer["op"], "retry_after_ms" in answer), ("failed", True))
        self.assertEqual((self.effects(), self.rows(), self.sql("SELECT error FROM omformmodel_ticket")), ([], [row], [""]))
        self.assertEqual(self.runner.step(row)["op"], "done")


class LeaseTest(Case):
    """A step whose lease has passed changes nothing."""

    def test_run_that_comes_too_late(self):
        runner = Runner(self)
        self.assertIn("LeaseLost", runner.step(self.insert("a"), lease=-1)["error"])
        self.assertEqual(self.effects(), [])

    def test_lease_that_passes_in_the_step(self):
        """The engine catches the error, and every one that follows."""
        runner, row = Runner(self), self.insert("waits", seconds=1.5)
        answer = runner.step(row, lease=1.0)
        self.assertIn("LeaseLost", answer["error"])
        self.assertEqual((self.effects(), self.rows(), self.sql("SELECT error FROM omformmodel_ticket")), ([], [row], [""]))
        self.assertEqual(runner.step(self.insert("a", number=2))["op"], "done")

    def test_renewal(self):
        runner = Runner(self)
        step = runner.run(self.insert("waits", seconds=1.5), lease=1.0)
        runner.tell(op="renew", id="q999", deadline=0)
        runner.tell(op="renew", id=step, deadline=int((time.time() + 60) * 1000))
        self.assertEqual(runner.answer()["op"], "done")

    def test_frozen_runner_wakes_up_after_its_lease(self):
        """Another runner has done the step meanwhile, once the database gave the frozen one up."""
        frozen, row = Runner(self, RUNNER_IDLE_TIMEOUT="2"), self.insert("waits", "next", seconds=0.5)
        item = self.item(row)
        began = time.monotonic()
        frozen.run(row, item=item, lease=10)
        self.eventually(lambda: "waiting" in frozen.errors(), "the step")
        frozen.freeze()
        self.assertEqual(Runner(self).step(row, item=item)["op"], "done")
        self.assertEqual(self.effects(), ["begun", "waits"])
        time.sleep(max(0, began + 10.5 - time.monotonic()))  # so that the lease has passed for certain
        frozen.thaw()
        answer = frozen.answer()
        self.assertEqual((answer["op"], answer["rows"]), ("failed", []))
        self.assertEqual((self.effects(), len(self.rows())), (["begun", "waits"], 1))
        self.assertEqual(frozen.step(self.rows()[0])["op"], "done")

    def test_database_that_does_not_answer_costs_no_try(self):
        runner = Runner(self)
        row = self.insert("a")
        item = self.item(row)
        with connect("postgres").cursor() as cursor:
            cursor.execute("ALTER DATABASE %s ALLOW_CONNECTIONS false" % self.database)
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (self.database,))
            answer = runner.step(row, item=item)
            self.assertEqual((answer["op"], answer.get("untried")), ("failed", True), answer)
            cursor.execute("ALTER DATABASE %s ALLOW_CONNECTIONS true" % self.database)
        self.assertEqual(runner.step(row, item=item)["op"], "done")

    def test_silence_is_not_a_freeze(self):
        runner = Runner(self, RUNNER_IDLE_TIMEOUT="3")
        self.assertEqual(runner.step(self.insert("waits", seconds=5))["op"], "done")
        self.assertEqual(self.effects(), ["begun", "waits"])

    def test_row_that_stays_locked(self):
        row = self.insert("a")
        runner = Runner(self, RUNNER_LOCK_TIMEOUT="1")
        self.connection.autocommit = False
        self.sql("SELECT id FROM omflow_queuedata FOR UPDATE")
        answer = runner.step(row, item=dict(self.item(row)))
        self.connection.rollback()
        self.connection.autocommit = True
        self.assertEqual((answer["op"], answer["retry_after_ms"] > 0, answer.get("untried")), ("failed", True, True), "not a try")
        self.assertEqual(runner.step(row)["op"], "done")


class CodeTest(Case):
    """What the runner has loaded is what is deployed."""

    def test_active_version_runs(self):
        runner = Runner(self)
        self.assertEqual(runner.step(self.insert("version"))["op"], "done")
        self.home.deploy(2)
        self.sql("UPDATE omformflow_flowactive SET undeploy_flag = true")
        self.sql("INSERT INTO omformflow_flowactive (flow_uuid, version, is_active, undeploy_flag) VALUES (%s, 2, true, false)", FLOW)
        self.assertEqual(runner.step(self.insert("version"))["op"], "done")
        self.assertEqual(self.sql("SELECT note FROM omformmodel_effect WHERE note <> '' ORDER BY id"), ["1", "2"])

    def test_missing_module(self):
        """Another server may have it: the step is given back, and is no attempt."""
        self.sql("UPDATE omformflow_flowactive SET version = 7")
        row, runner = self.insert("version"), Runner(self)
        for _ in range(3):
            answer = runner.step(row)
            self.assertEqual((answer["op"], answer["untried"], "recycle" in answer), ("failed", True, False))
            self.assertGreater(answer["retry_after_ms"], 0)
            self.assertIn(FLOW, answer["error"])
        self.home.deploy(7)
        self.assertEqual(runner.step(row)["op"], "done")
        self.assertEqual(self.rows(), [])

    def test_module_that_nobody_has(self):
        self.sql("UPDATE omformflow_flowactive SET version = 7")
        row, runner = self.insert("version"), Runner(self, RUNNER_MISSING_TIMEOUT="0.5")
        self.assertTrue(runner.step(row)["untried"])
        answer = self.eventually(lambda: (lambda answer: None if answer.get("untried") else answer)(runner.step(row)), "an attempt that counts")
        self.assertEqual((answer["op"], answer["retry_after_ms"], "permanent" in answer), ("failed", 2000, False))
        self.assertEqual(runner.step(row, attempt=9)["retry_after_ms"], 300000)
        self.home.deploy(7)
        self.assertEqual(runner.step(row)["op"], "done")

    def test_models_that_changed_on_disk(self):
        runner, row = Runner(self), self.insert("a")
        with open(os.path.join(self.home.path, "omformmodel", "models.py"), "a") as models:
            models.write("\n# a flow was deployed\n")
        answer = runner.step(row)
        self.assertEqual((answer["op"], answer["untried"], answer["recycle"]), ("failed", True, True))
        self.assertEqual((self.effects(), self.rows()), ([], [row]))
        self.assertEqual(Runner(self).step(row)["op"], "done")

    def test_worn_runner_asks_to_be_replaced(self):
        runner = Runner(self, RUNNER_MAX_STEPS="2")
        self.assertNotIn("recycle", runner.step(self.insert("a")))
        self.assertTrue(runner.step(self.insert("a"))["recycle"])

    def test_grown_runner_asks_to_be_replaced(self):
        runner = Runner(self, RUNNER_MAX_MEMORY="40")
        self.assertNotIn("recycle", runner.step(self.insert("a")), "what it holds when it is warm does not count")
        answer = runner.step(self.insert("grows"))
        self.assertEqual((answer["op"], answer.get("recycle")), ("done", True))

    def test_heavy_library_is_loaded_once(self):
        runner = Runner(self, RUNNER_MAX_MEMORY="40")
        for _ in range(2):
            answer = runner.step(self.insert("imports"))
            self.assertEqual((answer["op"], "recycle" in answer), ("done", False))
        self.assertTrue(runner.step(self.insert("grows"))["recycle"], "growth over that counts")

    def test_caches_are_loaded_again_only_after_user_code(self):
        runner = Runner(self, WORKER_ORDER="ticket", RUNNER_LOCK_TIMEOUT="1")
        self.assertEqual(runner.step(self.insert("a"))["op"], "done")
        loaded, row = runner.errors().count("flows loaded"), self.insert("a")
        self.connection.autocommit = False
        self.sql("SELECT id FROM omflow_queuedata FOR UPDATE")
        self.assertTrue(runner.step(row)["untried"])
        self.connection.rollback()
        self.connection.autocommit = True
        self.assertEqual(runner.step(row)["op"], "done")
        self.assertEqual(runner.errors().count("flows loaded"), loaded, "nothing of the step had begun")
        self.assertEqual(runner.step(self.insert("fails"))["op"], "failed")
        runner.step(self.insert("a"))
        self.assertEqual(runner.errors().count("flows loaded"), loaded + 1)


class BalanceTest(Case):
    """A Python point that a collector computes: the server keeps the row until the answer, and so do we."""

    def test_row_stays_until_the_answer(self):
        runner, web = Runner(self), Web(self)
        row = self.insert("balanced", "b", load_balance=True)
        item = self.item(row)
        answer = runner.step(row)
        self.assertEqual((answer["op"], answer.get("kept"), answer["rows"]), ("done", True, []))
        self.assertEqual((self.rows(), self.effects()), ([row], []))
        web.do("engine.visit(%r)" % json.loads(item["input_param"]))  # the answer
        follower, = self.rows()
        self.assertGreater(follower, row)
        self.assertEqual(runner.step(row, item=item).get("skipped"), True, "looked at once more, later")
        answer = runner.step(follower)
        self.assertEqual((answer["op"], "kept" in answer), ("done", False), "the mark stays in the parameter of the points that follow")
        self.assertEqual((self.effects(), self.rows()), (["balanced", "b"], []))

    def test_no_collector(self):
        """The engine goes on by itself then."""
        answer = Runner(self).step(self.insert("balanced", "b", load_balance=True, no_collector=True))
        self.assertEqual((answer["op"], "kept" in answer, len(answer["rows"])), ("done", False, 1))

    def test_point_behind_it_that_ends_the_flow(self):
        """The mark is still in its parameter, and nobody computes anything."""
        self.assertNotIn("kept", Runner(self).step(self.insert("stops", load_balance=True)))
        self.assertEqual(self.rows(), [])

    def test_row_that_the_engine_cannot_remove(self):
        """Two rows have its queue_id: nobody waits for an answer."""
        runner, rows = Runner(self), [self.insert("a", load_balance=True) for _ in range(2)]
        for row in rows:
            self.assertNotIn("kept", runner.step(row))
        self.assertEqual(self.rows(), [])


class LogTest(Case):
    def test_runner_leaves_the_files_of_the_web_process_alone(self):
        """Yesterday's, which the web process has not renamed yet, is renamed by whoever writes first."""
        path = os.path.join(self.home.path, "logs", "omflow.log")
        os.makedirs(os.path.dirname(path))
        with open(path, "w") as file:
            file.write("of yesterday\n")
        os.utime(path, (time.time() - 86400,) * 2)
        runner = Runner(self)
        self.assertEqual(runner.step(self.insert("logs"))["op"], "done")
        self.assertEqual(os.listdir(os.path.dirname(path)), ["omflow.log"])
        with open(path) as file:
            self.assertEqual(file.read(), "of yesterday\n")
        self.assertRegex(runner.errors(), r"\[.*\] INFO written by the step")
        self.assertEqual(runner.errors().count("shown by the step"), 1)


class OrderTest(Case):
    """WORKER_ORDER=ticket: two steps of one ticket never run at the same time. WORKER_FLOW_LIMITS: nor too many of a flow."""

    def test_busy_ticket(self):
        first, second = Runner(self, WORKER_ORDER="ticket"), Runner(self, WORKER_ORDER="ticket")
        first.run(self.insert("waits", seconds=3))
        self.eventually(lambda: "waiting" in first.errors(), "the step")
        row = self.insert("a")
        answer = second.step(row)
        self.assertEqual((answer["op"], answer["untried"]), ("failed", True))
        self.assertEqual(second.step(self.insert("a", number=2))["op"], "done", "another ticket is not busy")
        self.assertEqual(first.answer()["op"], "done")
        self.assertEqual(second.step(row)["op"], "done")

    def test_flow_limits(self):
        limits = {"WORKER_FLOW_LIMITS": "%s:2" % FLOW}
        runners = [Runner(self, **limits) for _ in range(3)]
        for runner in runners[:2]:
            runner.run(self.insert("waits", seconds=3, number=1 + runners.index(runner)))
            self.eventually(lambda: "waiting" in runner.errors(), "the step")
        row = self.insert("a", number=3)
        answer = runners[2].step(row)
        self.assertEqual((answer["op"], answer["untried"]), ("failed", True))
        self.assertIn("2 steps of flow", answer["error"])
        self.assertEqual({runners[0].answer()["op"], runners[1].answer()["op"]}, {"done"})
        self.assertEqual(runners[2].step(row)["op"], "done")

    def test_without_it_user_code_runs_beside(self):
        first, second = Runner(self), Runner(self)
        first.run(self.insert("joins", branch="a"))
        second.run(self.insert("joins", branch="b"))
        self.assertEqual({first.answer()["op"], second.answer()["op"]}, {"done"})


if __name__ == "__main__":
    unittest.main()
