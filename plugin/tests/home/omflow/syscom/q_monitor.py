"""The in-memory queue, which the plugin takes the place of. Here it does nothing but remember: a test that finds something in it has failed."""


class QueueMonitor:
    def __init__(self, name):
        self.name = name
        self.original = []

    def setRunning(self):
        self.original.append("setRunning")

    def putQueue(self, module_name, method, param):
        self.original.append((module_name, method, param))


FormFlowMonitor = QueueMonitor("FormFlow")
SchedulerMonitor = QueueMonitor("Scheduler")
LoadBalanceMonitor = QueueMonitor("LoadBalance")
