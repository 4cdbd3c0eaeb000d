"""Where a runner's log goes: through the worker.

The server's settings have it write to files that it renames at midnight. A second process that does so renames them, too, and what was yesterday's is gone.
"""
import logging
import logging.config
import sys

from django.utils.module_loading import import_string

original = None


def through_worker(settings):
    """Has Django's set-up, which is to come, leave the files to the web process."""
    global original
    original, settings.LOGGING_CONFIG = settings.LOGGING_CONFIG, __name__ + ".configure"


def configure(config):
    """Takes the place of settings.LOGGING_CONFIG: what would go to a file goes to standard error, unless it is shown there already."""
    if original:
        import_string(original)(config)
    for logger in [logging.root] + list(logging.root.manager.loggerDict.values()):
        handlers = list(getattr(logger, "handlers", ()))  # a placeholder has none
        shown = any(type(handler) is logging.StreamHandler for handler in handlers)
        for handler in handlers:
            if not isinstance(handler, logging.FileHandler):
                continue
            logger.removeHandler(handler)
            handler.close()
            if not shown:
                logger.addHandler(like(handler))
                shown = True


def like(handler):
    """A handler that writes the same to standard error."""
    new = logging.StreamHandler(sys.stderr)
    new.setLevel(handler.level)
    new.setFormatter(handler.formatter)
    for filter in handler.filters:
        new.addFilter(filter)
    return new
