"""The organisation, taken apart once in a process."""
from omflow.global_obj import GlobalObject
from omorganization.models import Position


def boss(name):
    if not GlobalObject.__OrganizationObj__:
        GlobalObject.__OrganizationObj__.update(Position.objects.values_list("name", "boss"))
    return GlobalObject.__OrganizationObj__.get(name, "nobody")
