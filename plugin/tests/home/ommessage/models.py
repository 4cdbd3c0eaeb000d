"""Files of messages."""
from django.db import models


class MessageHistoryFiles(models.Model):
    file = models.FileField(upload_to="ommessage/")
    delete = models.BooleanField(default=False)
