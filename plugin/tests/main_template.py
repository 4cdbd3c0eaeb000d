"""A deployed flow: main.py of a version, written by the tests' deploy()."""
from omflow import engine
from omformflow.production import points

VERSION = 0


def main(param):
    point = param["points"][0]
    if point == "version":
        engine.Effect.objects.create(number=param["data_no"], point="version", note=str(VERSION))
    elif hasattr(points, point):
        getattr(points, point)(param)
    if point == "stops":
        return  # the flow ends here, and its row stays
    if param.get("load_balance") and point == "balanced":
        try:
            from ommonitor.views import sendPython
            sendPython(param["flow_uuid"], param, "")
        except Exception:
            engine.visit(param)
        return
    engine.visit(param)
