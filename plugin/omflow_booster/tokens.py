"""Tokens of the server's REST interface: it remembers them in the process that gave them out. Here they are where the sessions are."""
import datetime
import hashlib

from django.conf import settings
from django.utils import timezone

from . import server

KEPT = datetime.timedelta(hours=1)  # after its last use, so that the table can be cleaned; the server takes a token for five minutes
FRESH = datetime.timedelta(seconds=10)  # a use so soon after the last one that was written is not


def install():
    if "django.contrib.sessions" in settings.INSTALLED_APPS:
        memory = server.memory()
        memory.__securityObj__, memory.__userObj__ = Tokens("token"), Tokens("user")


class Tokens:
    """Takes the place of the server's dict {token or user: {"username", "security", "updatetime"}}."""

    def __init__(self, kind):
        self.kind = kind

    def key(self, name):
        """Of the session. Nobody can know the key, and a session of ours has no user: it is of no use as a cookie."""
        return hashlib.sha1(("%s omflow_booster %s %s" % (settings.SECRET_KEY, self.kind, name)).encode()).hexdigest()

    def get(self, name, default=None):
        from django.contrib.sessions.backends.db import SessionStore
        from django.contrib.sessions.models import Session
        row = Session.objects.filter(session_key=self.key(name), expire_date__gt=timezone.now()).first()
        kept = SessionStore().decode(row.session_data) if row else {}
        if kept.get("kind") != self.kind:
            return default
        return Token(self, name, kept["username"], kept["security"], datetime.datetime.fromtimestamp(kept["updatetime"]))

    def __getitem__(self, name):
        token = self.get(name)
        if token is None:
            raise KeyError(name)
        return token

    def __setitem__(self, name, token):
        from django.contrib.sessions.backends.db import SessionStore
        from django.contrib.sessions.models import Session
        there = self.get(name)
        if there and there["security"] == token["security"] and abs(token["updatetime"] - there["updatetime"]) < FRESH:
            return
        kept = {"kind": self.kind, "username": token["username"], "security": token["security"], "updatetime": token["updatetime"].timestamp()}
        row = {"session_data": SessionStore().encode(kept), "expire_date": timezone.now() + KEPT}
        Session.objects.update_or_create(session_key=self.key(name), defaults=row)  # another process may do so at this moment

    def pop(self, name, default=None):
        from django.contrib.sessions.models import Session
        token = self.get(name, default)
        Session.objects.filter(session_key=self.key(name)).delete()
        return token


class Token(dict):
    """What is set in it is stored."""

    def __init__(self, tokens, name, username, security, updatetime):
        super().__init__(username=username, security=security, updatetime=updatetime)
        self.tokens, self.name = tokens, name

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.tokens[self.name] = self
