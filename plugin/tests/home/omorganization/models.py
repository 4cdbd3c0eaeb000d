"""Who is whose boss."""
from django.db import models


class Position(models.Model):
    name = models.CharField(max_length=100)
    boss = models.CharField(max_length=100)
