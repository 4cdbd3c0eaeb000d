"""Tickets, and a row for each effect of a step: a test counts them."""
from django.db import models


class Ticket(models.Model):
    number = models.IntegerField()
    closed = models.BooleanField(default=False)
    error = models.TextField(default="")


class Effect(models.Model):
    number = models.IntegerField()
    point = models.CharField(max_length=100)
    note = models.TextField(default="")


class Once(models.Model):
    name = models.CharField(max_length=100, unique=True)
