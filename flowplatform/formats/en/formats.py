"""How the admin writes times: sortable, to the second. Django's formats of a language go before the settings."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
DATETIME_FORMAT = "Y-m-d H:i:s"
