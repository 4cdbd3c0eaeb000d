"""Several servers: what one of them has changed, the others know, and none of them writes back what it knew before."""
import json
import os
import sys
import threading
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import FLOW, Case, Runner, Web, connect  # noqa: E402

MENU = [{"id": "apps", "p_id": ""}, {"id": "staff", "p_id": ""}]


class ServersTest(Case):
    def setUp(self):
        super().setUp()
        for name, value in (("sidebar_design", MENU), ("ldap_config", {"ldap_client_server": "ldap1", "ldap_bind_user_password": "secret"})):
            self.sql("INSERT INTO omflow_systemsetting (name, value, updatetime) VALUES (%s, %s, now())", name, json.dumps(value))
        self.sql("INSERT INTO omorganization_position (name, boss) VALUES ('ann', 'bob')")

    def servers(self, count=2):
        """So many servers. Their threads do not look by themselves: what a request does not see, it does not know."""
        return [Web(self, self.new_home(), BOOSTER_RELOAD="3600") for _ in range(count)]

    def get(self, web, path, body=None):
        """The page of a server: status and text."""
        method = "get(%r)" % path if body is None else "post(%r, %r, content_type='application/json')" % (path, json.dumps(body))
        return web.do("from django.test import Client\nanswer = Client().%s\nresult = [answer.status_code, answer.content.decode()]" % method)

    def menu(self, web):
        return [item["id"] for item in json.loads(self.get(web, "/menu/")[1])]

    def test_menu_of_another_server(self):
        one, two = self.servers()
        self.get(one, "/menu/add/first/apps/")
        self.assertEqual(self.menu(two), ["apps", "first", "staff"])
        self.get(two, "/menu/add/second/apps/")
        self.assertEqual(self.menu(one), ["apps", "second", "first", "staff"])
        # The administrator's order holds, also against what this thread has read and written before.
        self.get(one, "/menu/set/", MENU[::-1])
        self.assertEqual((self.menu(one), self.menu(two)), (["staff", "apps"], ["staff", "apps"]))

    def test_menu_that_two_change_at_the_same_time(self):
        """One has read it, as a request that deploys for minutes; the others have written since."""
        one, two = self.servers()
        one.do("from omflow import views\nengine.kept = views.grown('slow', 'apps')")
        self.get(two, "/menu/add/fast/apps/")
        self.get(two, "/menu/add/other/staff/")
        one.do("from omflow import views\nviews.write(engine.kept)")
        self.assertEqual(self.menu(two), ["apps", "slow", "fast", "staff", "other"])
        one.do("from omflow import views\nfrom omflow.global_obj import GlobalObject\n"
               "engine.kept = [item for item in GlobalObject.__sidebarDesignObj__['sidebar_design'] if item['id'] != 'slow']")
        self.get(two, "/menu/add/last/staff/")
        one.do("from omflow import views\nviews.write(engine.kept)")
        self.assertEqual(self.menu(two), ["apps", "fast", "staff", "last", "other"])

    def test_browsers_fetch_a_menu_that_has_changed(self):
        (web,) = self.servers(1)
        look = "from omflow.global_obj import GlobalObject\nresult = str(GlobalObject.__sidebarDesignObj__['design_updatetime'])"
        before = web.do(look)
        self.get(web, "/page/")
        self.assertEqual(web.do(look), before, "nothing has changed")
        self.sql("UPDATE omflow_systemsetting SET value = %s WHERE name = 'sidebar_design'", json.dumps(MENU[:1]))
        self.get(web, "/page/")
        self.assertGreater(web.do(look), before)

    def test_token_of_another_server(self):
        one, two = self.servers()
        token = self.get(one, "/token/ann/")[1]
        self.assertEqual(self.get(two, "/rest/%s/" % token), [200, "ann"])
        self.assertEqual(self.get(two, "/token/ann/")[1], token, "a user has one")
        self.assertEqual(self.get(two, "/rest/%s/" % self.get(two, "/token/bob/")[1]), [200, "bob"])
        self.assertEqual(self.get(two, "/rest/no-such-token/")[0], 403)
        age = "from omflow.global_obj import GlobalObject\n" \
              "GlobalObject.__securityObj__[%r]['updatetime'] = datetime.datetime.now() - datetime.timedelta(minutes=%d)"
        one.do(age % (token, 4))
        self.assertEqual(self.get(two, "/rest/%s/" % token)[0], 200)
        self.assertEqual(self.get(one, "/rest/%s/" % token)[0], 200, "its use on the other server counts")
        one.do(age % (token, 6))
        self.assertEqual(self.get(two, "/rest/%s/" % token)[0], 403)
        one.do(age.replace("security", "user") % ("ann", 6))
        self.assertNotEqual(self.get(two, "/token/ann/")[1], token)
        # As a cookie it is nobody's session.
        self.assertEqual(two.do("from django.test import Client\nclient = Client()\nclient.cookies['sessionid'] = %r\n"
                                "result = client.get('/booster/').status_code" % token), 302)

    def test_two_first_logins_at_once(self):
        (web,) = self.servers(1)
        key = web.do("from omflow_booster.tokens import Tokens\nresult = Tokens('user').key('ann')")
        other = connect(self.database)
        self.addCleanup(other.close)
        other.autocommit = False
        other.cursor().execute("INSERT INTO django_session VALUES (%s, 'of the other server', now() - interval '1 hour')", [key])
        answers = []
        login = threading.Thread(target=lambda: answers.append(self.get(web, "/token/ann/")))
        login.start()
        self.eventually(lambda: self.sql("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"), "waiting for the other server")
        other.commit()
        login.join()
        self.assertEqual(answers[0][0], 200)

    def test_flow_that_was_undeployed_elsewhere(self):
        (web,) = self.servers(1)
        self.assertEqual(self.get(web, "/file/%s/" % FLOW), [200, "filed"])
        self.sql("UPDATE omformflow_flowactive SET is_active = false")
        self.assertEqual(self.get(web, "/file/%s/" % FLOW), [200, "switched off"])
        self.sql("UPDATE omformflow_flowactive SET undeploy_flag = true")
        self.assertEqual(self.get(web, "/file/%s/" % FLOW), [200, "not deployed"])
        self.assertFalse(web.do("from omflow.global_obj import FlowActiveGlobalObject as F\nresult = bool(F.UUIDSearch(%r))" % FLOW))

    def test_words_of_another_server(self):
        (web,) = self.servers(1)
        self.sql("INSERT INTO omformflow_workspaceapplication (language_package) VALUES ('words')")
        self.get(web, "/page/")
        self.assertEqual(web.do("from omflow.global_obj import FlowActiveGlobalObject as F\nresult = list(F.words.values())"), ["words"])

    def test_request_does_without_when_the_tables_do_not_answer(self):
        (web,) = self.servers(1)
        self.sql("ALTER TABLE omformflow_omparameter RENAME TO gone")
        self.assertEqual(self.get(web, "/page/"), [200, "a page of the server"])
        self.assertIn("not looked for", web.errors())

    def test_runner_knows_what_was_set_before_its_step(self):
        runner = Runner(self)

        def remembered():
            self.assertEqual(runner.step(self.insert("remembers"))["op"], "done")
            return self.sql("SELECT note FROM omformmodel_effect WHERE point = 'remembers' AND note <> '' ORDER BY id DESC LIMIT 1")[0]

        self.assertEqual(remembered(), "ldap1 bob 0")
        self.assertEqual(remembered(), "ldap1 bob 0")
        self.sql("UPDATE omflow_systemsetting SET value = '{\"ldap_client_server\": \"ldap2\"}' WHERE name = 'ldap_config'")
        self.sql("UPDATE omorganization_position SET boss = 'cat'")
        self.assertEqual(remembered(), "ldap2 cat 0")
        self.home.deploy(2)
        self.sql("UPDATE omformflow_flowactive SET version = 2")
        self.assertEqual(remembered(), "ldap2 cat 6", "compiled again: the code of another version has the same key")


if __name__ == "__main__":
    unittest.main()
