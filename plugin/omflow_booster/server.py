"""What we know of the OMFLOW Server's own modules, in one place. All of it is imported when it is first needed."""


def queue_model():
    """The model of omflow_queuedata: id, queue_id, name, module_name, method_name, input_param (JSON text)."""
    from omflow.models import QueueData
    return QueueData


def scheduler_model():
    """The model of omflow_scheduler."""
    from omflow.models import Scheduler
    return Scheduler


def flow_models():
    """The models that the cache of flows is made of, those that this server has: flows, applications, their words in other languages."""
    return installed("omformflow.FlowActive", "omformflow.ActiveApplication", "omformflow.WorkspaceApplication", "omservice.OmServiceDesign")


def file_models():
    """The models of uploaded files that have a mark for those that were deleted: file, delete."""
    return installed("omformflow.OmdataFiles", "ommessage.MessageHistoryFiles")


def temporary_files(mapping):
    """The paths of the files that were uploaded with a form whose ticket is not made yet, by the mapping_id of its steps."""
    from omflow.models import TempFiles
    return [row.file.path for row in TempFiles.objects.filter(mapping_id=mapping)]


DELETE_FILES = "deleteFilesAjax"  # the name of the page where an administrator deletes files


def setting_model():
    """The model of what is set on pages of the server: name, value (JSON text)."""
    from omflow.models import SystemSetting
    return SystemSetting


def organization_models():
    """The models that the chart of the organisation is made of, if this server has one: it comes with an application of its own."""
    from django.apps import apps
    return list(apps.get_app_config("omorganization").get_models()) if apps.is_installed("omorganization") else []


def note_sent(function):
    """Has function() called whenever the code of a Python point was sent to a collector. The mark load_balance does not tell: it stays in the parameter of the
    points that follow."""
    try:
        from ommonitor import views
    except ImportError:  # this server has no collectors
        return
    send = getattr(views.sendPython, "sends", views.sendPython)

    def send_and_note(*args, **kwargs):
        answer = send(*args, **kwargs)
        function()
        return answer
    send_and_note.sends = send
    views.sendPython = send_and_note


def installed(*names):
    from django.apps import apps
    found = []
    for name in names:
        try:
            found.append(apps.get_model(name))
        except LookupError:  # an older server, or one without that application
            pass
    return found


def parameter_model():
    """The model of parameters: name, value, group_id."""
    from omformflow.models import OmParameter
    return OmParameter


def queue_monitor():
    """The class of the three in-memory queues."""
    from omflow.syscom.q_monitor import QueueMonitor
    return QueueMonitor


def schedule_monitor():
    """The module whose scheduleThread watches the schedules."""
    from omflow.syscom import schedule_monitor
    return schedule_monitor


def schedule_list():
    """The in-memory list of schedules, which each server keeps for itself."""
    from omflow.syscom.schedule_base import OmSchedule
    return OmSchedule


def flows():
    """The process's cache of deployed flows."""
    from omflow.global_obj import FlowActiveGlobalObject
    return FlowActiveGlobalObject


def memory():
    """The class whose attributes are what the process remembers: a dict each."""
    from omflow.global_obj import GlobalObject
    return GlobalObject


MENU = "sidebar_design"  # the menu at the side: the name of its setting, and its key in memory().__sidebarDesignObj__
LDAP = "ldap_config"  # some of this setting is in memory().__ldapObj__
