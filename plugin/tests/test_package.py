"""What pip installs, and what worker and agent read from the settings of a server."""
import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import unittest
import zipfile

PLUGIN = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, PLUGIN)
from omflow_booster.environment import database_url  # noqa: E402
from wheel_builder import build_wheel  # noqa: E402


class WheelTest(unittest.TestCase):
    def test_wheel_is_whole_and_works(self):
        with tempfile.TemporaryDirectory() as directory:
            wheel = os.path.join(directory, build_wheel(directory))
            with zipfile.ZipFile(wheel) as archive:
                names = set(archive.namelist())
                record = archive.read(next(name for name in names if name.endswith("RECORD"))).decode()
                for line in record.splitlines():
                    name, digest, size = line.split(",")
                    if digest:
                        data = archive.read(name)
                        self.assertEqual(digest, "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode())
                        self.assertEqual(int(size), len(data))
                self.assertEqual({line.split(",")[0] for line in record.splitlines()}, names)
            self.assertEqual({name for name in names if name.endswith(".py")},
                             {"omflow_booster/" + name for name in os.listdir(os.path.join(PLUGIN, "omflow_booster")) if name.endswith(".py")})
            os.makedirs(os.path.join(directory, "omflow"))
            with open(os.path.join(directory, "omflow", "settings.py"), "w") as settings:
                settings.write("print('settings may print')\nBOOSTER_IP = '10.0.0.5'\nINSTALLED_APPS = ['omflow']\n"
                               "DATABASES = {'default': {'ENGINE': 'django.db.backends.postgresql', 'NAME': 'a b', 'USER': 'u', 'PASSWORD': 'p@:/?', 'HOST': 'db'}}\n")
            env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}

            def ask(*arguments):
                return json.loads(subprocess.run([sys.executable, "-m", "omflow_booster.environment", *arguments], cwd=directory,
                                                 env=dict(env, PYTHONPATH=wheel), stdout=subprocess.PIPE, check=True).stdout.decode())

            self.assertEqual(ask(), {"BOOSTER_IP": "10.0.0.5", "DATABASE_URL": "postgres://u:p%40%3A%2F%3F@db/a%20b"})
            said = ask("--describe")
            self.assertEqual((said["enabled"], said["server"], said["python"]), (False, True, list(sys.version_info[:3])))


class DatabaseURLTest(unittest.TestCase):
    def test_urls(self):
        postgres = {"ENGINE": "django.db.backends.postgresql", "NAME": "omflow", "USER": "u", "PASSWORD": "p"}
        for database, url in (
                (dict(postgres, HOST="db", PORT=5433), "postgres://u:p@db:5433/omflow"),
                (dict(postgres, HOST="::1"), "postgres://u:p@[::1]/omflow"),
                (postgres, "postgres://u:p@/omflow?host=%2Fvar%2Frun%2Fpostgresql"),
                (dict(postgres, HOST="/tmp", PORT="5433"), "postgres://u:p@/omflow?host=%2Ftmp&port=5433"),
                (dict(postgres, HOST="db", OPTIONS={"sslmode": "require", "isolation_level": 1}), "postgres://u:p@db/omflow?sslmode=require"),
                (dict(postgres, HOST="db1,db2", PORT="5433"), "postgres://u:p@/omflow?host=db1%2Cdb2&port=5433"),
                (dict(postgres, HOST="db1,::1", PORT="5433,5434"), "postgres://u:p@/omflow?host=db1%2C%3A%3A1&port=5433%2C5434"),
                (dict(postgres, HOST="db", OPTIONS={"options": "-c search_path=omflow,public"}),
                 "postgres://u:p@db/omflow?options=-c%20search_path%3Domflow%2Cpublic"),
                (dict(postgres, HOST="a,b", OPTIONS={"target_session_attrs": "read-write"}),
                 "postgres://u:p@/omflow?target_session_attrs=read-write&host=a%2Cb"),
                ({"ENGINE": "django.db.backends.postgresql", "NAME": "", "OPTIONS": {"service": "omflow", "passfile": "/etc/pg pass"}},
                 "postgres:///?service=omflow&passfile=%2Fetc%2Fpg%20pass"),
                ({"ENGINE": "django.db.backends.sqlite3", "NAME": "db.omflow"}, "sqlite3:///db.omflow")):
            self.assertEqual(database_url(database), url)

    def test_option_that_is_not_known(self):
        for option in ("hostaddr", "dbname", "user", "assume_role"):
            with self.assertRaisesRegex(ValueError, "DATABASES: the option '%s'" % option):
                database_url({"ENGINE": "django.db.backends.postgresql", "NAME": "omflow", "OPTIONS": {option: "x"}})


if __name__ == "__main__":
    unittest.main()
