"""The start of the server: as the real one, it starts its threads and puts every waiting row into the queue again."""
import datetime
import json
import sys
import threading

from django.apps import AppConfig
from django.conf import settings


class AppOmflowConfig(AppConfig):
    name = "omflow"

    def ready(self):
        if "migrate" in sys.argv:
            return
        from omflow.global_obj import FlowActiveGlobalObject, GlobalObject
        from omflow.models import QueueData, SystemSetting
        from omflow.syscom.q_monitor import FormFlowMonitor, LoadBalanceMonitor
        from ommonitor.models import LoadBalanceQueueData
        from omflow.syscom.schedule_monitor import scheduleThread
        FlowActiveGlobalObject.ServerStart()
        for setting in SystemSetting.objects.all():
            if setting.name == "sidebar_design":
                GlobalObject.__sidebarDesignObj__["sidebar_design"] = json.loads(setting.value)
                GlobalObject.__sidebarDesignObj__["design_updatetime"] = str(datetime.datetime.now())
            elif setting.name == "ldap_config":
                GlobalObject.__ldapObj__["ldap_client_server"] = json.loads(setting.value)["ldap_client_server"]
        if "--noreload" in sys.argv:  # a web process
            threading.Thread(target=FormFlowMonitor.setRunning, daemon=True).start()
            threading.Thread(target=scheduleThread, daemon=True).start()
            for row in QueueData.objects.all():
                FormFlowMonitor.putQueue(row.module_name, row.method_name, json.loads(row.input_param))
            if settings.OMFLOW_TYPE == "collector":
                for row in LoadBalanceQueueData.objects.all():
                    LoadBalanceMonitor.putQueue(row.module_name, row.method_name, json.loads(row.input_param))
