"""An in-memory queue that works as the server's: one thread asks it again and again, and ten threads of this process run what is in it."""
import importlib
import queue
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor

THREADS = 10
PAUSE = 10e-6  # seconds between two looks into an empty queue


class QueueMonitor:
    def __init__(self, name):
        self.name = name
        self.queue = queue.Queue()

    def setRunning(self):
        pool = ThreadPoolExecutor(THREADS)
        while True:
            try:
                item = self.queue.get_nowait()
            except queue.Empty:
                time.sleep(PAUSE)
            else:
                pool.submit(self.run, *item)

    def run(self, module_name, method, param):
        try:
            getattr(importlib.import_module(module_name), method)(param)
        except Exception:
            traceback.print_exc(file=sys.stderr)

    def putQueue(self, module_name, method, param):
        self.queue.put((module_name, method, param))


FormFlowMonitor = QueueMonitor("FormFlow")
SchedulerMonitor = QueueMonitor("Scheduler")
LoadBalanceMonitor = QueueMonitor("LoadBalance")
