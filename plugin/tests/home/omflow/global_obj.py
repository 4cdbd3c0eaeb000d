"""What each process keeps in memory: deployed flows and parameters."""


class GlobalObject:
    __OmParameter__ = {}


class FlowActive:
    def __init__(self):
        self.flowactive = {}

    def UUIDSearch(self, flow_uuid):
        return self.flowactive.get(flow_uuid)

    def ServerStart(self):
        from omformflow.models import FlowActive as Model
        for flow in Model.objects.filter(undeploy_flag=False):
            self.flowactive[flow.flow_uuid.hex] = flow


FlowActiveGlobalObject = FlowActive()
