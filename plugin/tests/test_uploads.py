"""Uploaded files of two servers: with one directory, as it shall be, and with two."""
import json
import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import Case, Runner, Web  # noqa: E402


class UploadsTest(Case):
    MARKED = "SELECT delete FROM omformflow_omdatafiles UNION ALL SELECT delete FROM ommessage_messagehistoryfiles"

    def homes(self, shared):
        homes = self.new_home(), self.new_home()
        os.mkdir(os.path.join(homes[0].path, "uploads"))
        if shared:
            os.symlink(os.path.join(homes[0].path, "uploads"), os.path.join(homes[1].path, "uploads"))
        return homes

    def get(self, web, path):
        return web.do("from django.test import Client\nresult = Client().get(%r).content.decode()" % path)

    def listed(self, web):
        return json.loads(self.get(web, "/files/list/"))

    def test_one_directory(self):
        one, two = (Web(self, home) for home in self.homes(shared=True))
        self.get(one, "/files/upload/")
        self.assertEqual((self.listed(two), self.listed(one)), ([True, True], [True, True]))
        self.get(two, "/files/delete/")
        self.assertEqual((self.listed(one), self.sql(self.MARKED)), ([False, False], [True, True]))

    def test_file_that_is_elsewhere_is_not_marked_deleted(self):
        one, two = (Web(self, home) for home in self.homes(shared=False))
        self.get(one, "/files/upload/")
        self.assertEqual(self.listed(two), [False, False], "it does not find them")
        two.do("from omformflow.models import OmdataFiles\nfrom django.apps import apps\napps.clear_cache()  # as when a flow is deployed\n"
               "OmdataFiles.objects.all().update(delete=True)\nOmdataFiles.objects.update(delete=True, data_no=3)")
        self.assertEqual((self.listed(one), self.sql(self.MARKED)), ([True, True], [False, False]))
        self.assertEqual(self.sql("SELECT data_no FROM omformflow_omdatafiles"), [3], "everything else is changed as before")
        self.get(one, "/call/files/delete/")
        self.assertEqual(self.sql(self.MARKED), [True, True], "an administrator deletes by way of the REST interface")
        one.do("from ommessage.models import MessageHistoryFiles as M\nM.objects.get().save()")
        self.assertEqual(self.sql(self.MARKED), [True, True], "what was deleted stays so")

    def test_runner_reads_what_was_uploaded_with_a_form(self):
        homes = self.homes(shared=True)
        web = Web(self, homes[0])
        upload = "from omflow.models import TempFiles\nfrom django.core.files.base import ContentFile\n" \
                 "TempFiles.objects.create(mapping_id='m1', file=ContentFile(b'text', name='a.txt'))"
        web.do(upload)
        runner = Runner(self, homes[1])
        self.assertEqual(runner.step(self.insert("attaches", mapping_id="m1"))["op"], "done")
        self.assertEqual(self.sql("SELECT note FROM omformmodel_effect WHERE point = 'attached'"), ["text"])

        # Not shared: the step does not happen without its file, and happens once it is there.
        os.remove(os.path.join(homes[1].path, "uploads"))
        web.do(upload)
        row = self.insert("attaches", number=2, preflow_content={"mapping_id": "m1"}, mapping_id="m1")
        answer = runner.step(row, attempt=2)
        self.assertEqual((answer["op"], answer["retry_after_ms"], answer.get("untried")), ("failed", 10000, None))
        self.assertRegex(answer["error"], "^Missing: .*/uploads/temp/a.*txt is not there: it was uploaded on a server that does not share its uploads/")
        self.assertEqual((self.rows(), self.effects(2)), ([row], []))
        os.symlink(os.path.join(homes[0].path, "uploads"), os.path.join(homes[1].path, "uploads"))
        self.assertEqual(runner.step(row)["op"], "done")
        self.assertEqual(self.effects(2), ["attached", "attaches"])


if __name__ == "__main__":
    unittest.main()
