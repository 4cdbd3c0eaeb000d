"""What each process keeps in memory: deployed flows and parameters, the menu, tokens, the directory of users, the organisation, compiled code."""
import sys


class GlobalObject:
    __OmParameter__ = {}
    __sidebarDesignObj__ = {}
    __securityObj__ = {}
    __userObj__ = {}
    __ldapObj__ = {}
    __OrganizationObj__ = {}
    __chartCompileObj__ = {}


class FlowActive:
    def __init__(self):
        self.flowactive = {}
        self.words = {}

    def UUIDSearch(self, flow_uuid):
        return self.flowactive.get(flow_uuid)

    def ServerStart(self):
        from omformflow.models import FlowActive as Model, WorkspaceApplication
        print("flows loaded", file=sys.stderr)
        for flow in Model.objects.filter(undeploy_flag=False):
            self.flowactive[flow.flow_uuid.hex] = flow
        for application in WorkspaceApplication.objects.all():
            self.words[application.pk] = application.language_package


FlowActiveGlobalObject = FlowActive()
