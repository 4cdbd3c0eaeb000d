"""Deployed flows and parameters, files of tickets."""
from django.db import models


class ActiveApplication(models.Model):
    app_name = models.CharField(max_length=200)


class FlowActive(models.Model):
    flow_uuid = models.UUIDField(null=True)
    version = models.IntegerField(null=True)
    is_active = models.BooleanField(default=True)
    undeploy_flag = models.BooleanField(default=False)
    flow_app = models.ForeignKey(ActiveApplication, on_delete=models.CASCADE, null=True)


class OmParameter(models.Model):
    name = models.TextField(null=True)
    value = models.TextField(null=True)
    group_id = models.TextField(null=True)


class WorkspaceApplication(models.Model):
    language_package = models.TextField(default="{}")


class OmdataFiles(models.Model):
    file = models.FileField(upload_to="omformflow/")
    delete = models.BooleanField(default=False)
    data_no = models.IntegerField(null=True)
