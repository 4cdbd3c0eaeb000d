"""An engine that keeps the contract: a step deletes its own row, inserts the next one and puts it into the queue, in autocommit, and
catches whatever goes wrong."""
import json

from omflow.models import QueueData
from omflow.syscom.q_monitor import FormFlowMonitor
from omformmodel.models import Effect, Ticket

FLOW = "5d0a0000000000000000000000000001"
MODULE = "omformflow.production.%s.%d.main"


def file(number, *points):
    """Files a ticket whose steps visit the points, as a web request does. Returns the primary key of its first row."""
    Ticket.objects.create(number=number)
    return queue({"flow_uuid": FLOW, "table_uuid": FLOW, "data_no": number, "points": list(points)})


def queue(param, put=True):
    """Inserts the row of the next step and puts it into the queue. put=False is a crash between the two."""
    row = QueueData.objects.create(
        queue_id="%s%s%s" % (FLOW, param["data_no"], param["points"][0]), name="FormFlow", module_name=MODULE % (FLOW, 1),
        method_name="main", input_param=json.dumps(param))
    if put:
        FormFlowMonitor.putQueue(row.module_name, row.method_name, param)
    return row.pk


def visit(param):
    """The effect of one step, and the next step."""
    point, rest = param["points"][0], param["points"][1:]
    try:
        Effect.objects.create(number=param["data_no"], point=point)
        try:
            QueueData.objects.get(queue_id="%s%s%s" % (FLOW, param["data_no"], point)).delete()
        except Exception:
            pass
        if rest:
            queue(dict(param, points=rest))
        else:
            Ticket.objects.filter(number=param["data_no"]).update(closed=True)
    except Exception as error:
        print("the engine caught %r" % error)
        try:
            Ticket.objects.filter(number=param["data_no"]).update(error=str(error))
        except Exception:
            pass
