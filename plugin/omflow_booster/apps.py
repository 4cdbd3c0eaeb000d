"""The entry in INSTALLED_APPS."""
from django.apps import AppConfig

SERVER = "omflow"  # label of the server's own application, which starts the monitors


class BoosterConfig(AppConfig):
    name = "omflow_booster"
    verbose_name = "OMFLOW Booster"

    def import_models(self, *args, **kwargs):
        """Arranges that we are installed right before the server starts, wherever our line in INSTALLED_APPS is.

        All applications are known by now, and none is ready yet.
        """
        super().import_models(*args, **kwargs)
        server = self.apps.app_configs.get(SERVER)
        if server is None:
            raise RuntimeError('omflow_booster: no application "%s" in INSTALLED_APPS; it belongs into an OMFLOW Server' % SERVER)
        start = server.ready

        def ready():
            from . import install  # needs the models of all applications
            with install.server_starting():
                start()
            install.server_started()

        server.ready = ready
