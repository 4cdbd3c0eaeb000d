"""What a collector has been given to compute."""
from django.db import models


class LoadBalanceQueueData(models.Model):
    module_name = models.TextField(null=True)
    method_name = models.TextField(null=True)
    input_param = models.TextField(null=True)
