"""Django's WSGI handler: of the web role when it stands alone, and of the live role on a single port.

Both servers read the body first (`flowplatform/bodies.py`): what comes here has one of known length.
"""

import gc
import os

from flowplatform import role

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
role.claim("web")

from django.core.wsgi import get_wsgi_application  # noqa: E402

from flowplatform import telemetry  # noqa: E402

telemetry.start()  # before Django loads its middleware
application = get_wsgi_application()

# What is loaded by now stays. The collector, which would look at it again and again, leaves it out from here on, and
# comes every tenth request instead of several times in each.
gc.freeze()
gc.set_threshold(10_000)
