"""Connects an OMFLOW Server to OMFLOW Booster: add "omflow_booster" to INSTALLED_APPS. See README.md beside this package."""
import django

__version__ = "1.0.0"

if django.VERSION < (3, 2):  # later ones find the class by themselves, and warn about this line
    default_app_config = "omflow_booster.apps.BoosterConfig"
