"""One step, with about as many statements, and of the same kinds, as a step of the real engine."""
import json

from omflow.models import QueueData
from omflow.syscom.q_monitor import FormFlowMonitor
from omformmodel.models import Effect

from .models import FLOW, Form, Mission, Value

STEPS = 8  # of a ticket
MODULE = "omformflow.production.%s.1.main" % FLOW


def queue_id(number, place):
    return "%s%sFITEM_%d" % (FLOW, number, place)


def step(param):
    number, place = param["data_no"], param["place"]
    form = Form.objects.get(pk=param["form"])
    seen = {value.point: value.value for value in Value.objects.filter(data_no=number)}
    if place % 4 == 0:  # a form point
        for mission in Mission.objects.filter(data_no=number, closed=False):
            mission.closed = True
            mission.save()
        Mission.objects.create(data_no=number, data_id=form.data_id, text="look at it")
    Value.objects.create(form=form, data_no=number, point="FITEM_%d" % place, value=json.dumps({"result": "success", "seen": sorted(seen)}))
    form.status, form.closed = "FITEM_%d" % place, place == STEPS
    form.save()
    Effect.objects.create(number=number, point=str(place))
    own = queue_id(number, place)
    if QueueData.objects.filter(queue_id=own).exists():
        QueueData.objects.get(queue_id=own).delete()
    if place < STEPS:
        follow = dict(param, place=place + 1)
        row = QueueData.objects.create(queue_id=queue_id(number, place + 1), name="FormFlow", module_name=MODULE, method_name="main",
                                       input_param=json.dumps(follow))
        FormFlowMonitor.putQueue(row.module_name, row.method_name, follow)
