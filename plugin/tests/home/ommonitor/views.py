"""Sends the code of a Python point to a collector. The server goes on with the step when the answer comes, and keeps its row until then."""
import json

from ommonitor.models import LoadBalanceQueueData


def sendPython(flow_uuid, data, code):
    if data.get("no_collector"):
        raise OSError("no collector answers")
    LoadBalanceQueueData.objects.create(module_name="omformflow.production.points", method_name="computes", input_param=json.dumps(data))
