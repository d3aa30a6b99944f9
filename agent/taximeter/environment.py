"""Makes ``opentelemetry-instrument`` pick Taximeter where several distros are installed.

The launcher imports every module of the entry-point group
``opentelemetry_environment_variables`` before it starts the service, in the same environment.
Importing this one names Taximeter as distro and configurator, unless the user has named
another. Without it the first one found on the path would win, by accident.
"""

from __future__ import annotations

import os

os.environ.setdefault("OTEL_PYTHON_DISTRO", "taximeter")
os.environ.setdefault("OTEL_PYTHON_CONFIGURATOR", "taximeter")
