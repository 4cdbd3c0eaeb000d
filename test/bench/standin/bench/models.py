"""The tables of a server that has been in use for years: tickets of one form, the history of their values, and the missions of users."""
from django.db import models

FLOW = "5d0a0000000000000000000000000001"


class Form(models.Model):
    """One state of a ticket: the newest has history = false."""
    data_no = models.IntegerField()
    data_id = models.IntegerField()
    history = models.BooleanField(default=False)
    closed = models.BooleanField(default=False)
    status = models.CharField(max_length=100, default="")
    text = models.TextField(default="")

    class Meta:
        db_table = "omformmodel_omdata_" + FLOW


class Value(models.Model):
    """What a point of a flow has done to a ticket. Looked up by data_no, which has no index as installed."""
    form = models.ForeignKey(Form, on_delete=models.CASCADE)
    data_no = models.IntegerField()
    point = models.CharField(max_length=100)
    value = models.TextField(default="")

    class Meta:
        db_table = "omformmodel_omdata_" + FLOW + "_valueh1234"


class Mission(models.Model):
    """What a user has to do. Looked up by data_no, which has no index as installed."""
    data_no = models.IntegerField()
    data_id = models.IntegerField()
    closed = models.BooleanField(default=False)
    text = models.TextField(default="")

    class Meta:
        db_table = "ommission_missions"
