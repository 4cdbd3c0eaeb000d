"""What we know of the OMFLOW Server's own modules, in one place. All of it is imported when it is first needed."""


def queue_model():
    """The model of omflow_queuedata: id, queue_id, name, module_name, method_name, input_param (JSON text)."""
    from omflow.models import QueueData
    return QueueData


def scheduler_model():
    """The model of omflow_scheduler."""
    from omflow.models import Scheduler
    return Scheduler


def flow_model():
    """The model of deployed flows."""
    from omformflow.models import FlowActive
    return FlowActive


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


def parameters():
    """The process's cache of parameters, a dict."""
    from omflow.global_obj import GlobalObject
    return GlobalObject.__OmParameter__
