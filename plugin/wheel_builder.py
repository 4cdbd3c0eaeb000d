"""Builds the package for pip (PEP 517) with the standard library alone, so that `pip install ./plugin` needs no internet."""
import base64
import hashlib
import os
import re
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = "omflow_booster"

METADATA = """Metadata-Version: 2.1
Name: omflow-booster
Version: %s
Summary: Connects an OMFLOW Server to OMFLOW Booster
License: Apache License 2.0
Requires-Python: >=3.7
"""
WHEEL = """Wheel-Version: 1.0
Generator: omflow_booster
Root-Is-Purelib: true
Tag: py3-none-any
"""


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Writes the wheel and returns its file name."""
    package = os.path.join(HERE, PACKAGE)
    files = {}
    for name in sorted(os.listdir(package)):
        if name.endswith(".py"):
            with open(os.path.join(package, name), "rb") as f:
                files["%s/%s" % (PACKAGE, name)] = f.read()
    version = re.search(r'__version__ = "(.+)"', files[PACKAGE + "/__init__.py"].decode()).group(1)
    info = "%s-%s.dist-info" % (PACKAGE, version)
    files[info + "/METADATA"] = (METADATA % version).encode()
    files[info + "/WHEEL"] = WHEEL.encode()
    record = ["%s,sha256=%s,%d\n" % (name, base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode(), len(data))
              for name, data in files.items()]
    files[info + "/RECORD"] = ("".join(record) + info + "/RECORD,,\n").encode()
    wheel = "%s-%s-py3-none-any.whl" % (PACKAGE, version)
    with zipfile.ZipFile(os.path.join(wheel_directory, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return wheel
