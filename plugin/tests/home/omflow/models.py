"""The tables of the contract: the queue, the schedules, what is set on pages of the server, files that
were uploaded with a form whose ticket is not made yet."""
from django.db import models


class QueueData(models.Model):
    queue_id = models.TextField(null=True)
    name = models.CharField(max_length=50)
    module_name = models.TextField(null=True)
    method_name = models.TextField(null=True)
    input_param = models.TextField(null=True)


class Scheduler(models.Model):
    exec_time = models.DateTimeField(null=True)
    every = models.CharField(max_length=50, null=True)
    cycle = models.CharField(max_length=50, null=True)
    cycle_date = models.CharField(max_length=50, null=True)
    exec_fun = models.CharField(max_length=500)
    input_param = models.TextField()
    is_active = models.BooleanField(default=True)
    last_exec_time = models.TextField(null=True)
    next_exec_time = models.TextField(null=True)


class SystemSetting(models.Model):
    name = models.CharField(max_length=50)
    value = models.TextField()
    updatetime = models.DateTimeField(auto_now=True)


class TempFiles(models.Model):
    file = models.FileField(upload_to="temp/")
    mapping_id = models.TextField(null=True)
